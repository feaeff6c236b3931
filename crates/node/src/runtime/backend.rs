//! What a backend's answers do to the session of a client.

use super::Runtime;
use crate::application::{self, Application, Attended, transmissions};
use pollux_protocol::{
    DisconnectReason, Frame, HistoryRequest, Identifier, Payload, PresenceRequest, StreamName,
    TransmissionKind, action_cable::reply,
};
use pollux_rpc::call::{Commanded, Presence, Status, Verb};
use pollux_session::{Begin, Replay, Session, Streams};
use std::{pin::pin, sync::Arc, time::Duration};
use tracing::{debug, warn};

/// How often somebody who waits for the backend looks whether the session is
/// still there: what its client wanted nobody wants any more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The backend of a session.
pub(super) type Attending = (Arc<Application>, Arc<Attended>);

/// An answer's frames, and what they mean together.
#[derive(Debug, Default)]
struct Said {
    /// Each, and whether it confirms the subscription the answer is about.
    frames: Vec<(Frame, bool)>,
    /// Whether one of them rejects it.
    rejects: bool,
    /// The last of them that sends the client away; it is not among the others.
    farewell: Option<Frame>,
}

impl Said {
    fn of(identifier: &Identifier, texts: &[String]) -> Self {
        let mut said = Self::default();
        for transmission in transmissions(texts) {
            let confirms = match transmission.kind {
                TransmissionKind::Disconnect { .. } => {
                    said.farewell = Some(transmission.frame);
                    continue;
                }
                TransmissionKind::Confirm(confirmed) => confirmed == *identifier,
                TransmissionKind::Reject(rejected) => {
                    said.rejects |= rejected == *identifier;
                    false
                }
                TransmissionKind::Other => false,
            };
            said.frames.push((transmission.frame, confirms));
        }
        said
    }
}

impl Runtime {
    /// The backend that decides about a channel of this session; `None` if the
    /// node does, or there is none.
    pub(super) fn backend_of(
        &self,
        session: &Session,
        identifier: &Identifier,
    ) -> Option<Attending> {
        let backend = self.attending(session)?;
        let is_its = self.streams.leaves_to_backend(identifier);
        is_its.then_some(backend)
    }

    fn attending(&self, session: &Session) -> Option<Attending> {
        let application = self.application.as_ref()?;
        Some((Arc::clone(application), Attended::of(session)?))
    }

    /// A `subscribe` to a channel of the backend's.
    pub(super) async fn subscribe_at(
        &self,
        backend: Attending,
        session: &Arc<Session>,
        identifier: &Identifier,
        history: Option<HistoryRequest>,
    ) {
        match session.begin_subscription(identifier, &[], self.clock.now()) {
            Begin::New => {}
            Begin::Reconfirm => return self.reconfirm(session, identifier, history).await,
            Begin::Known | Begin::Closed => return,
            Begin::TooMany => return self.reject(session, identifier),
        }
        let (_, attended) = &backend;
        let Some(answer) = self
            .ask(&backend, session, Verb::Subscribe, identifier, "")
            .await
        else {
            self.give_up(session, attended, identifier);
            if !session.is_resumable() {
                // Whoever waits for an answer before its stream begins can't
                // ask again on it.
                self.close(session, DisconnectReason::ServerRestart, true);
            }
            return;
        };
        let said = Said::of(identifier, &answer.transmissions);
        if answer.status != Status::Success {
            self.give_up(session, attended, identifier);
            self.metrics.rejected_subscriptions.inc();
            self.say(session, said.frames);
            if !said.rejects && said.farewell.is_none() {
                session.reply(reply::reject_subscription(identifier), self.clock.now());
            }
            return self.part(session, answer.disconnect, said.farewell);
        }
        self.change_streams(session, identifier, &answer).await;
        attended.apply(Some(identifier), &answer.changes);
        let streams = session.streams_of(identifier).unwrap_or_default();
        let replay = match &history {
            Some(request) => self.replay(identifier, &streams, request).await,
            None => Replay::default(),
        };
        if !session.settle(identifier, said.frames, replay, self.clock.now()) {
            // It ended meanwhile; what was put into the hub since is still there.
            self.unhook_all(session, identifier, &streams);
            return;
        }
        if let Some(presence) = answer.presence {
            self.change_presence(session, identifier, presence).await;
        }
        self.remember(session);
        self.part(session, answer.disconnect, said.farewell);
    }

    /// A `message` on a subscription. False if no backend takes it.
    pub(super) async fn perform(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        data: &str,
    ) -> bool {
        let Some(backend) = self.attending(session) else {
            return false;
        };
        if !session.is_subscribed(identifier) {
            return false;
        }
        let Some(answer) = self
            .ask(&backend, session, Verb::Message, identifier, data)
            .await
        else {
            return true;
        };
        let said = Said::of(identifier, &answer.transmissions);
        if answer.status == Status::Success {
            self.change_streams(session, identifier, &answer).await;
            backend.1.apply(Some(identifier), &answer.changes);
            self.remember(session);
        }
        self.say(session, said.frames);
        if answer.status == Status::Success
            && let Some(presence) = answer.presence
        {
            self.change_presence(session, identifier, presence).await;
        }
        self.part(session, answer.disconnect, said.farewell);
        true
    }

    /// An `unsubscribe` from a channel of the backend's. The subscription ends
    /// whatever the backend says.
    pub(super) async fn unsubscribe_at(
        &self,
        backend: Attending,
        session: &Arc<Session>,
        identifier: &Identifier,
    ) {
        if !session.is_subscribed(identifier) {
            return;
        }
        let answer = self
            .ask(&backend, session, Verb::Unsubscribe, identifier, "")
            .await;
        let present_in = self.presence_stream(session, identifier);
        let Some(ended) = session.unsubscribe(identifier) else {
            return;
        };
        for stream in ended.streams.iter().chain(&present_in) {
            self.leave(session, stream).await;
        }
        self.detach(session, vec![ended]);
        let (_, attended) = &backend;
        if let Some(answer) = answer {
            attended.apply(Some(identifier), &answer.changes);
            let said = Said::of(identifier, &answer.transmissions);
            self.say(session, said.frames);
            self.part(session, answer.disconnect, said.farewell);
        }
        attended.forget(identifier);
        self.remember(session);
    }

    /// Asks the backend while there is a session that wants to know.
    async fn ask(
        &self,
        (application, attended): &Attending,
        session: &Session,
        verb: Verb,
        identifier: &Identifier,
        data: &str,
    ) -> Option<Commanded> {
        attended.note_known();
        let call = application::command(verb, identifier, data.to_owned(), session, attended);
        let sid = session.sid().text();
        let mut asking = pin!(application.command(&sid, call));
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut asking).await {
                Ok(answer) => return answer,
                Err(_) if session.is_over() => return None,
                Err(_) => {}
            }
        }
    }

    fn give_up(&self, session: &Session, attended: &Attended, identifier: &Identifier) {
        drop(session.unsubscribe(identifier));
        attended.forget(identifier);
    }

    fn say(&self, session: &Arc<Session>, frames: Vec<(Frame, bool)>) {
        let now = self.clock.now();
        for (frame, _) in frames {
            session.reply(frame, now);
        }
    }

    /// Sends the client away, if the backend wants that.
    fn part(&self, session: &Arc<Session>, disconnect: bool, farewell: Option<Frame>) {
        match farewell {
            Some(farewell) => self.close_with(session, farewell),
            None if disconnect => self.close(session, DisconnectReason::Remote, true),
            None => {}
        }
    }

    /// Leaves and joins streams as the backend says.
    async fn change_streams(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        answer: &Commanded,
    ) {
        let had = session.streams_of(identifier).unwrap_or_default();
        let left = had.iter().filter(|stream| {
            let is_named = |name: &String| name == stream.as_str();
            answer.stop_streams || answer.stopped_streams.iter().any(is_named)
        });
        for stream in left {
            if session.unfollow(identifier, stream) {
                self.leave(session, stream).await;
                self.unhook(session, identifier, stream);
            }
        }
        for name in &answer.streams {
            let Ok(stream) = StreamName::try_new(name) else {
                warn!("The backend names a stream that can't be one; it is left out");
                continue;
            };
            let has = session.streams_of(identifier);
            let has = has.as_ref().map_or(0, Streams::len);
            if has >= session.max_subscriptions() {
                warn!("A subscription has as many streams as a session may have subscriptions");
                break;
            }
            if !session.follow(identifier, &stream) {
                continue;
            }
            if !self.attach(session, identifier, &stream).await {
                debug!("A stream was given up");
                let _was_there = session.unfollow(identifier, &stream);
            }
        }
    }

    /// Puts a subscription into the hub and waits until publications come.
    /// False if they won't, and it is out again.
    pub(super) async fn attach(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        stream: &StreamName,
    ) -> bool {
        self.hub.subscribe(stream, identifier, session);
        if self.listen(session, stream).await.is_ok() && !session.is_over() {
            return true;
        }
        self.unhook(session, identifier, stream);
        false
    }

    /// Takes subscriptions out of the hub, those that are in it.
    pub(super) fn unhook_all(
        &self,
        session: &Session,
        identifier: &Identifier,
        streams: &[StreamName],
    ) {
        for stream in streams {
            self.unhook(session, identifier, stream);
        }
    }

    async fn change_presence(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        presence: Presence,
    ) {
        // A backend that names no stream for it means the channel's own.
        let stream = self.presence_stream(session, identifier);
        let first = || session.streams_of(identifier)?.first().cloned();
        let Some(stream) = stream.or_else(first) else {
            warn!("The backend says who is present in a channel without streams");
            return;
        };
        match presence.kind.as_str() {
            "leave" => self.leave(session, &stream).await,
            "join" => {
                let request = PresenceRequest {
                    id: presence.id,
                    info: match presence.info.as_str() {
                        "" => Payload::null(),
                        info => Payload::from_text(info),
                    },
                };
                self.join_in(session, identifier, stream, request).await;
            }
            _ => warn!("The backend says something of presence that is neither join nor leave"),
        }
    }
}
