//! Who of this node's sessions is present, and where.
//!
//! The broker knows who is present; a node only says again and again which of
//! its sessions still are. That a session polls is as good a sign of life as
//! an open socket: both are sessions.

use super::Runtime;
use crate::application::Attended;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use pollux_broker::{BrokerError, Entered, Member};
use pollux_protocol::{
    Identifier, Payload, PresenceRequest, Publication, StreamName,
    action_cable::{
        presence::{self, BROADCAST_TYPE},
        reply,
    },
};
use pollux_session::Session;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::MissedTickBehavior;
use tracing::debug;

/// Streams touched side by side.
const TOUCHING: usize = 16;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Streams in which somebody is present, and this node's sessions among
    /// them, by their serial numbers. A stream without any is watched, as long
    /// as it has subscribers here: somebody must tell them who has gone.
    streams: Mutex<HashMap<StreamName, HashMap<u64, Member>>>,
}

impl Presence {
    /// Who is present already stays who it is.
    pub(super) fn entered(&self, stream: &StreamName, serial: u64, member: &Member) {
        let mut streams = self.streams.lock();
        let sessions = streams.entry(stream.clone()).or_default();
        let known = sessions.entry(serial).or_insert_with(|| member.clone());
        if known.present.id == member.present.id {
            known.present.info = member.present.info.clone();
        }
    }

    /// Where a session is present, and as whom.
    pub(super) fn where_is(&self, serial: u64) -> Vec<(StreamName, PresenceRequest)> {
        let streams = self.streams.lock();
        let present = streams.iter().filter_map(|(stream, sessions)| {
            let member = sessions.get(&serial)?;
            Some((stream.clone(), member.present.clone()))
        });
        present.collect()
    }

    /// Those of a stream with these session ids.
    fn members(&self, stream: &StreamName, sids: &[String]) -> Vec<Member> {
        let streams = self.streams.lock();
        let members = streams.get(stream).into_iter().flat_map(HashMap::values);
        let wanted = members.filter(|member| sids.contains(&member.session));
        wanted.cloned().collect()
    }

    /// A session is here no more, but may come back within its time.
    pub(super) fn left_behind(&self, stream: &StreamName, serial: u64) {
        let mut streams = self.streams.lock();
        if let Some(sessions) = streams.get_mut(stream) {
            sessions.remove(&serial);
        }
    }

    /// Somebody is present, perhaps on another node.
    fn watch(&self, stream: &StreamName) {
        let mut streams = self.streams.lock();
        if !streams.contains_key(stream) {
            streams.insert(stream.clone(), HashMap::new());
        }
    }

    fn is_present(&self, stream: &StreamName, serial: u64) -> bool {
        let streams = self.streams.lock();
        streams
            .get(stream)
            .is_some_and(|sessions| sessions.contains_key(&serial))
    }

    fn forget(&self, stream: &StreamName) {
        let mut streams = self.streams.lock();
        if streams.get(stream).is_some_and(HashMap::is_empty) {
            streams.remove(stream);
        }
    }

    fn all(&self) -> Vec<(StreamName, Vec<String>)> {
        let streams = self.streams.lock();
        let all = streams.iter().map(|(stream, sessions)| {
            let sids = sessions.values().map(|member| member.session.clone());
            (stream.clone(), sids.collect())
        });
        all.collect()
    }

    /// Sessions that are present, and streams in which somebody is.
    fn count(&self) -> (usize, usize) {
        let streams = self.streams.lock();
        let sessions = streams.values().map(HashMap::len).sum();
        (sessions, streams.len())
    }
}

impl Runtime {
    /// A `join`, or a `subscribe` with presence.
    pub(super) async fn join(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        present: PresenceRequest,
    ) {
        match self.presence_stream(session, identifier) {
            Some(stream) => self.join_in(session, identifier, stream, present).await,
            None => self.refuse_presence(session, identifier),
        }
    }

    /// The same for a stream that is known.
    pub(super) async fn join_in(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        stream: StreamName,
        present: PresenceRequest,
    ) {
        let member = Member {
            session: session.sid().text(),
            present,
        };
        self.presence.entered(&stream, session.serial(), &member);
        match self.broker.enter(&stream, member, self.presence_ttl).await {
            Ok(Entered::First | Entered::Again) => {
                if session.is_over() || !session.is_subscribed(identifier) {
                    // It ended while the broker was asked.
                    self.presence.left_behind(&stream, session.serial());
                }
            }
            Ok(Entered::Other) => {
                debug!("A session wanted to be present under a second id");
            }
            Err(error) => {
                self.presence.left_behind(&stream, session.serial());
                self.presence_failed(session, identifier, &error);
            }
        }
    }

    /// A `leave`, or the end of a subscription that its client wanted.
    pub(super) async fn leave(&self, session: &Session, stream: &StreamName) {
        if !self.presence.is_present(stream, session.serial()) {
            return;
        }
        self.presence.left_behind(stream, session.serial());
        if let Err(error) = self.broker.exit(stream, &session.sid().text()).await {
            debug!(%error, "A session that left stays present until its time is over");
        }
    }

    /// Answers who is present.
    pub(super) async fn tell_presence(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        records: bool,
    ) {
        let Some(stream) = self.presence_stream(session, identifier) else {
            return self.refuse_presence(session, identifier);
        };
        match self.who_is_present(&stream, records).await {
            Ok(info) => {
                self.presence.watch(&stream);
                session.reply(reply::presence(identifier, &info), self.clock.now());
            }
            Err(error) => self.presence_failed(session, identifier, &error),
        }
    }

    /// Who is present in a stream, as clients and backends are told it.
    pub(crate) async fn who_is_present(
        &self,
        stream: &StreamName,
        records: bool,
    ) -> Result<Payload, BrokerError> {
        let present = self.broker.present(stream).await?;
        let present = present
            .iter()
            .map(|present| (present.id.as_str(), &present.info));
        Ok(presence::info(present, records))
    }

    /// A presence event came by, and there are subscribers for it.
    pub(super) fn note_presence(&self, publication: &Publication) {
        if publication.meta.broadcast_type.as_deref() == Some(BROADCAST_TYPE) {
            self.presence.watch(&publication.stream);
        }
    }

    /// Sessions of this node that are present, and streams it watches.
    pub(crate) fn present_here(&self) -> (usize, usize) {
        self.presence.count()
    }

    /// Where the clients of a subscription are present, if they may be.
    pub(super) fn presence_stream(
        &self,
        session: &Session,
        identifier: &Identifier,
    ) -> Option<StreamName> {
        if !session.is_subscribed(identifier) {
            return None;
        }
        match self.streams.resolve(identifier) {
            Some(permission) => permission.presence.then_some(permission.stream),
            None => Attended::of(session)?.presence_stream(identifier),
        }
    }

    fn refuse_presence(&self, session: &Arc<Session>, identifier: &Identifier) {
        self.metrics.ignored_client_messages.inc();
        let error = reply::presence(identifier, &presence::error());
        session.reply(error, self.clock.now());
    }

    fn presence_failed(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        error: &BrokerError,
    ) {
        debug!(%error, "Presence is not to be had");
        let error = reply::presence(identifier, &presence::error());
        session.reply(error, self.clock.now());
    }

    /// Says again and again who is still present, until the node stops.
    pub(crate) async fn run_presence(self: Arc<Self>) {
        let every = (self.presence_ttl / 3).max(Duration::from_millis(100));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            stream::iter(self.presence.all())
                .for_each_concurrent(TOUCHING, |(stream, sessions)| self.touch(stream, sessions))
                .await;
        }
    }

    async fn touch(&self, stream: StreamName, sessions: Vec<String>) {
        let is_idle = sessions.is_empty();
        let touched = self
            .broker
            .touch(&stream, sessions, self.presence_ttl)
            .await;
        let unknown = match touched {
            Ok(unknown) => unknown,
            Err(error) => {
                debug!(%error, "Presence was not kept alive");
                return;
            }
        };
        // The broker was away for longer than it keeps them.
        for member in self.presence.members(&stream, &unknown) {
            let entered = self.broker.enter(&stream, member, self.presence_ttl).await;
            if let Err(error) = entered {
                debug!(%error, "A session is present only here");
            }
        }
        if !is_idle {
            return;
        }
        let is_watched = self.hub.has_subscribers(&stream);
        let is_empty = match self.broker.present(&stream).await {
            Ok(present) => present.is_empty(),
            Err(_) => false,
        };
        if !is_watched || is_empty {
            self.presence.forget(&stream);
        }
    }
}
