//! What the broker tells, told on to the sessions.

use super::{Runtime, voice};
use crate::telemetry::traces::Traced;
use pollux_broker::{Event, Events};
use pollux_protocol::{
    DisconnectReason, Frame, Position, Publication, RemoteDisconnect, StreamName,
    action_cable::reply,
};
use pollux_session::{Delivered, Session, Token};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, info, warn};

/// Sessions served before other tasks get a turn: enough to amortise it, few
/// enough that the first of ten thousand polls is answered while the last has
/// yet to hear of the publication.
const CHUNK: usize = 256;

impl Runtime {
    /// Works on the broker's events until there are no more.
    pub(crate) async fn run_events(self: Arc<Self>, mut events: Events) {
        let Some(mut leavers) = self.gate.exit() else {
            return;
        };
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                Some(leaver) = leavers.recv() => {
                    self.let_go(leaver);
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Event::Delivery {
                    publication,
                    position,
                    time,
                    received,
                    late,
                } => {
                    let placed = position.as_ref().map(|position| (position, time));
                    let traced = self.trace_fan_out(&publication, received, late);
                    let span = traced
                        .as_ref()
                        .map_or_else(Span::none, |traced| traced.span.clone());
                    self.fan_out(&publication, placed, received, late, traced.as_ref())
                        .instrument(span)
                        .await;
                }
                Event::Back(stream) => self.wake_readers(&stream),
                Event::Disconnect(command) => self.close_remotely(&command),
                Event::Word(word) => self.hear(word),
                Event::Malformed(error) => {
                    self.metrics.failed_broadcasts.inc();
                    if let Some(left_out) = self.throttles.publication.pass() {
                        warn!(%error, left_out, "A message from the broker is no publication");
                    }
                }
                Event::Gap { stream, missed } => self.tell_gap(stream.as_ref(), missed),
                Event::Up => self.metrics.broker_up.set(1),
                Event::Down => {
                    self.metrics.broker_up.set(0);
                    self.metrics.gaps.inc();
                }
            }
        }
    }

    /// Publications are lost. Those who listen to the stream are told with
    /// their next answer.
    fn tell_gap(&self, stream: Option<&StreamName>, missed: u64) {
        self.metrics.gaps.inc();
        let Some(stream) = stream else {
            warn!(missed, "Publications may have passed this node by");
            return;
        };
        let sessions = self.hub.sessions(stream);
        for session in &sessions {
            session.note_gap();
        }
        if let Some(left_out) = self.throttles.gap.pass() {
            warn!(
                stream = stream.as_str(),
                missed,
                sessions = sessions.len(),
                left_out,
                "Publications are lost: history does not reach back to them"
            );
        }
    }

    /// The trace of a fan-out. Where nobody listens there is none.
    fn trace_fan_out(
        &self,
        publication: &Publication,
        received: Instant,
        late: bool,
    ) -> Option<Traced> {
        let traces = self.traces.as_ref()?;
        self.hub
            .has_subscribers(&publication.stream)
            .then(|| traces.fan_out(publication, received, late))?
    }

    /// Gives a publication to every session that listens to its stream. The
    /// frame is encoded once for each identifier and shared.
    async fn fan_out(
        &self,
        publication: &Publication,
        placed: Option<(&Position, u64)>,
        received: Instant,
        late: bool,
        traced: Option<&Traced>,
    ) {
        let size = publication.data.as_bytes().len();
        if size > self.max_publication_size {
            // HTTP's door refuses it; Redis has no such door.
            self.metrics.failed_broadcasts.inc();
            if let Some(left_out) = self.throttles.publication.pass() {
                warn!(
                    size,
                    left_out, "A publication is over max_publication_size; dropped"
                );
            }
            return;
        }
        self.metrics.broadcasts.inc();
        let stream = &publication.stream;
        let place = placed.map(|(position, _)| (stream, position));
        let at = self.clock.at(received);
        let excluded = publication
            .meta
            .exclude_socket
            .as_deref()
            .and_then(Token::parse);
        let subscribers = self.hub.reach(stream, placed.map(|(position, _)| position));
        if !subscribers.is_empty() {
            self.note_presence(publication);
        }
        if let Some(traced) = traced {
            let sessions = subscribers.iter().map(|(_, sessions)| sessions.len()).sum();
            traced.count(sessions, subscribers.len());
        }
        for (identifier, sessions) in subscribers {
            let frame = voice::frame(&identifier, publication, placed);
            if let (Some(traced), Some(traces)) = (traced, &self.traces)
                && identifier.as_str() != voice::READER
            {
                traces.follow(&frame, &traced.origin);
            }
            let mut chunks = sessions.chunks(CHUNK).peekable();
            while let Some(chunk) = chunks.next() {
                for session in chunk {
                    if excluded != Some(session.sid()) {
                        let delivered = if late {
                            session.deliver_late(&identifier, &frame, place, at)
                        } else {
                            session.deliver(&identifier, &frame, place, at)
                        };
                        self.note(session, delivered);
                    }
                }
                if chunks.peek().is_some() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Lets those look who wait to take something of this stream.
    fn wake_readers(&self, stream: &StreamName) {
        let now = self.clock.now();
        for (identifier, sessions) in self.hub.subscribers(stream) {
            if !voice::is_reader(&identifier) {
                continue;
            }
            let nudge = voice::nudge();
            for session in sessions {
                let delivered = session.deliver(&identifier, &nudge, None, now);
                self.note(&session, delivered);
            }
        }
    }

    fn note(&self, session: &Session, delivered: Delivered) {
        match delivered {
            Delivered::Queued | Delivered::Ignored => {}
            Delivered::Dropped(frames) => {
                self.metrics
                    .dropped
                    .inc_by(u64::try_from(frames).unwrap_or(u64::MAX));
                if let Some(left_out) = self.throttles.overflow.pass() {
                    warn!(
                        frames,
                        left_out, "An outbox is full; its oldest frames were dropped"
                    );
                }
            }
            Delivered::Overflow(subscriptions) => {
                self.metrics.slow_clients.inc();
                if let Some(left_out) = self.throttles.overflow.pass() {
                    let subscriptions = subscriptions.len();
                    warn!(
                        subscriptions,
                        left_out, "An outbox is full; its session ends"
                    );
                }
                self.detach(session, subscriptions);
            }
        }
    }

    /// Closes every session with the command's identifiers.
    fn close_remotely(self: &Arc<Self>, command: &RemoteDisconnect) {
        self.metrics.remote_commands.inc();
        let sessions = self
            .registry
            .select(|session| session.has_identifiers(&command.identifier));
        info!(
            sessions = sessions.len(),
            reconnect = command.reconnect,
            "Disconnecting by command"
        );
        for session in sessions {
            self.forget(&session);
            self.close(&session, DisconnectReason::Remote, command.reconnect);
        }
    }

    /// Ends a session and tells its client why.
    pub(super) fn close(&self, session: &Arc<Session>, reason: DisconnectReason, reconnect: bool) {
        self.close_with(session, reply::disconnect(reason, reconnect));
    }

    /// The same in whatever words.
    pub(super) fn close_with(&self, session: &Arc<Session>, farewell: Frame) {
        let subscriptions = session.close(farewell, self.clock.now());
        self.detach(session, subscriptions);
    }
}
