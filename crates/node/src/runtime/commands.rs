//! What clients ask for.
//!
//! Commands of one session run one after the other, in the order they came, and
//! to their end even if the request that brought them is gone.

use super::Runtime;
use crate::application::Attended;
use pollux_broker::{BrokerError, History, HistoryError, Since};
use pollux_protocol::{
    Command, HistoryRequest, Identifier, Meta, Payload, Position, Publication, StreamName,
    action_cable::reply,
};
use pollux_session::{Begin, Session, session::Replay};
use std::{
    future::Future as _,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};
use tracing::{debug, warn};

/// A replay may be this many times as large as an outbox of live frames: less
/// than what replies may take together, so that one replay always fits.
const REPLAY_SHARE: usize = 4;

/// How often somebody who waits for the broker looks whether the session is
/// still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes that a replay's frames will take, about.
fn size_of(history: &History) -> usize {
    history
        .entries
        .iter()
        .map(|entry| entry.publication.data.as_bytes().len())
        .sum()
}

impl Runtime {
    /// Reads a body's commands. Lines that are none are counted and logged, the
    /// others run.
    pub(crate) fn parse_commands(&self, body: &[u8]) -> Vec<Command> {
        if body.is_empty() {
            return Vec::new();
        }
        self.metrics
            .data_received
            .inc_by(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let mut commands = Vec::new();
        for line in pollux_protocol::lines(body) {
            self.metrics.client_messages.inc();
            match Command::parse(line) {
                Ok(command) => commands.push(command),
                Err(error) => {
                    self.metrics
                        .failed_client_messages
                        .with_label_values(&[error.kind()])
                        .inc();
                    if let Some(left_out) = self.throttles.malformed.pass() {
                        warn!(%error, left_out, "A command line was not understood");
                    }
                }
            }
        }
        commands
    }

    /// Whether a session may have a body's commands run.
    ///
    /// # Errors
    /// Not before this time is over.
    pub(crate) fn spend(&self, session: &Session, body: &[u8]) -> Result<(), Duration> {
        if body.is_empty() {
            return Ok(());
        }
        let commands = pollux_protocol::lines(body).count();
        session
            .spend(commands, self.clock.now())
            .inspect_err(|_| self.note_limited(commands))
    }

    /// The same for commands that run in any case. Returns how long the client
    /// is not to be listened to.
    pub(crate) fn overspend(&self, session: &Session, commands: usize) -> Duration {
        let wait = session.overspend(commands, self.clock.now());
        if !wait.is_zero() {
            self.note_limited(commands);
        }
        wait
    }

    fn note_limited(&self, commands: usize) {
        let number = u64::try_from(commands).unwrap_or(u64::MAX);
        self.metrics.limited_commands.inc_by(number);
        if let Some(left_out) = self.throttles.commands.pass() {
            warn!(
                left_out,
                "A client sends more commands than max_commands_per_second"
            );
        }
    }

    /// Runs commands: as far as possible now, the rest on a task of its own.
    /// False if the session has too many waiting already; then none runs.
    pub(crate) fn run_commands(
        self: &Arc<Self>,
        session: &Arc<Session>,
        commands: Vec<Command>,
    ) -> bool {
        if commands.is_empty() {
            return true;
        }
        match session.enqueue(commands) {
            None => return false,
            Some(false) => return true,
            Some(true) => {}
        }
        let mut work = Box::pin(Arc::clone(self).work(Arc::clone(session)));
        // With the embedded broker every command is done at once; only what
        // has to wait for another server gets a task, which looks again.
        let mut context = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut context).is_pending() {
            session.work_goes_on(self.clock.now());
            self.tasks.spawn(work);
        }
        true
    }

    async fn work(self: Arc<Self>, session: Arc<Session>) {
        while let Some(command) = session.next_command(self.clock.now()) {
            let was_open = !session.has_overflown();
            self.run(&session, command).await;
            if was_open && session.has_overflown() {
                self.metrics.slow_clients.inc();
                if let Some(left_out) = self.throttles.overflow.pass() {
                    warn!(
                        left_out,
                        "A client fetches none of its replies; its session ends"
                    );
                }
            }
        }
    }

    async fn run(&self, session: &Arc<Session>, command: Command) {
        match command {
            Command::Subscribe {
                identifier,
                history,
                presence,
            } => {
                match self.backend_of(session, &identifier) {
                    Some(backend) => {
                        let asked = self.subscribe_at(backend, session, &identifier, history);
                        Box::pin(asked).await;
                    }
                    None => self.subscribe(session, &identifier, history).await,
                }
                if let Some(presence) = presence
                    && session.is_subscribed(&identifier)
                {
                    self.join(session, &identifier, presence).await;
                }
            }
            Command::Unsubscribe { identifier } => {
                if let Some(backend) = self.backend_of(session, &identifier) {
                    let asked = self.unsubscribe_at(backend, session, &identifier);
                    Box::pin(asked).await;
                } else if let Some(ended) = session.unsubscribe(&identifier) {
                    for stream in &ended.streams {
                        self.leave(session, stream).await;
                    }
                    self.detach(session, vec![ended]);
                    self.remember(session);
                }
            }
            Command::Join {
                identifier,
                presence,
            } => self.join(session, &identifier, presence).await,
            Command::Leave { identifier } => {
                if let Some(stream) = self.presence_stream(session, &identifier) {
                    self.leave(session, &stream).await;
                }
            }
            Command::Presence {
                identifier,
                records,
            } => self.tell_presence(session, &identifier, records).await,
            Command::History {
                identifier,
                history,
            } => {
                self.history(session, &identifier, &history).await;
            }
            Command::Whisper { identifier, data } => {
                self.whisper(session, &identifier, data).await;
            }
            Command::Message { identifier, data } => {
                if !Box::pin(self.perform(session, &identifier, &data)).await {
                    self.ignore(session, &identifier);
                }
            }
            Command::Ping => {
                session.reply(reply::pong(), self.clock.now());
            }
            Command::Pong => {}
        }
    }

    async fn subscribe(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        history: Option<HistoryRequest>,
    ) {
        let Some(permission) = self.streams.resolve(identifier) else {
            return self.reject(session, identifier);
        };
        let stream = permission.stream;
        let streams = std::slice::from_ref(&stream);
        match session.begin_subscription(identifier, streams, self.clock.now()) {
            Begin::New => {}
            Begin::Reconfirm => return self.reconfirm(session, identifier, history).await,
            Begin::Known | Begin::Closed => return,
            Begin::TooMany => return self.reject(session, identifier),
        }
        self.hub.subscribe(&stream, identifier, session);
        if let Err(error) = self.listen(session, &stream).await {
            debug!(%error, "A subscription was given up");
            drop(session.unsubscribe(identifier));
            self.unhook(session, identifier, &stream);
            return self.reject(session, identifier);
        }
        let replay = match &history {
            Some(request) => self.replay(identifier, streams, request).await,
            None => Replay::default(),
        };
        let confirmation = reply::confirm_subscription(identifier);
        if !session.confirm(identifier, confirmation, replay, self.clock.now()) {
            // It ended meanwhile, and whoever ended it could not know that it
            // was in the hub.
            self.unhook(session, identifier, &stream);
            return;
        }
        self.remember(session);
    }

    /// The client has lost its confirmation.
    pub(super) async fn reconfirm(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        history: Option<HistoryRequest>,
    ) {
        let confirmation = reply::confirm_subscription(identifier);
        let now = self.clock.now();
        if !session.confirm(identifier, confirmation, Replay::default(), now) {
            debug!("A session ended before its subscription was confirmed again");
        } else if let Some(request) = history {
            self.history(session, identifier, &request).await;
        }
    }

    /// Waits until publications arrive here, while there is a session that
    /// wants them: a client whose `subscribe` is not answered asks again, but
    /// one that is refused may give up for good. Returns the position of the
    /// last publication before those, if the broker knows one.
    pub(crate) async fn listen(
        &self,
        session: &Session,
        stream: &StreamName,
    ) -> Result<Option<Position>, BrokerError> {
        let mut subscribe = self.broker.subscribe(stream);
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut subscribe).await {
                Ok(listening) => {
                    if let Ok(Some(place)) = &listening {
                        self.hub.start_after(stream, place.clone());
                    }
                    return listening;
                }
                Err(_) if session.is_over() => return Err(BrokerError::Stopped),
                Err(_) => {}
            }
        }
    }

    pub(super) fn reject(&self, session: &Arc<Session>, identifier: &Identifier) {
        self.metrics.rejected_subscriptions.inc();
        session.reply(reply::reject_subscription(identifier), self.clock.now());
    }

    async fn history(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        request: &HistoryRequest,
    ) {
        let streams = session.streams_of(identifier);
        let (Some(streams), true) = (streams, session.hold(identifier)) else {
            session.reply(reply::reject_history(identifier), self.clock.now());
            return;
        };
        let replay = self.replay(identifier, &streams, request).await;
        session.release(identifier, replay, self.clock.now());
    }

    /// Reads what the client missed of `streams`. What a request says nothing of
    /// is fulfilled with nothing; one stream that can't be read refuses it all.
    pub(super) async fn replay(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        request: &HistoryRequest,
    ) -> Replay {
        let (replay, verdict) = match self.missed(identifier, streams, request).await {
            Ok(replay) => (replay, reply::confirm_history(identifier)),
            Err(_) => (Replay::default(), reply::reject_history(identifier)),
        };
        Replay {
            verdict: Some(verdict),
            ..replay
        }
    }

    /// The same without a verdict.
    pub(super) async fn missed(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        request: &HistoryRequest,
    ) -> Result<Replay, HistoryError> {
        let mut replay = Replay::default();
        let mut room = self.shared.config.max_bytes * REPLAY_SHARE;
        for stream in streams {
            let read = self.read_missed(identifier, stream, request, &mut room, &mut replay);
            read.await.inspect_err(|error| {
                if matches!(error, HistoryError::Truncated) {
                    self.metrics.gaps.inc();
                }
                debug!(%error, "History was refused");
            })?;
        }
        Ok(replay)
    }

    /// Adds what the client missed of one stream.
    async fn read_missed(
        &self,
        identifier: &Identifier,
        stream: &StreamName,
        request: &HistoryRequest,
        room: &mut usize,
        replay: &mut Replay,
    ) -> Result<(), HistoryError> {
        let asked = request.streams.iter().find(|(name, _)| name == stream);
        let since = match (asked, request.since) {
            (Some((_, position)), _) => Since::Position(position.clone()),
            (None, Some(unix)) => Since::Time(unix),
            (None, None) => return Ok(()),
        };
        let history = self.broker.history(stream, since).await?;
        let Some(left) = room.checked_sub(size_of(&history)) else {
            debug!("A replay is too large for the outbox");
            return Err(HistoryError::Truncated);
        };
        *room = left;
        let covered = match history.entries.last() {
            Some(last) => Some(last.position.clone()),
            None => asked.map(|(_, position)| position.clone()),
        };
        replay
            .covered
            .extend(covered.map(|position| (stream.clone(), position)));
        replay.frames.extend(history.entries.iter().map(|entry| {
            let publication = &entry.publication;
            let kind = publication.meta.broadcast_type.as_deref();
            let place = Some((stream, &entry.position));
            reply::message(identifier, &publication.data, kind, place)
        }));
        Ok(())
    }

    async fn whisper(&self, session: &Arc<Session>, identifier: &Identifier, data: Payload) {
        let permission = self.streams.resolve(identifier);
        let permission = permission.filter(|permission| permission.whisper);
        let stream = permission.map(|permission| permission.stream);
        let said_by_backend = || Attended::of(session)?.whisper_stream(identifier);
        let stream = stream.or_else(said_by_backend);
        let Some(stream) = stream.filter(|_| session.is_subscribed(identifier)) else {
            self.metrics.ignored_client_messages.inc();
            return;
        };
        let meta = Meta {
            exclude_socket: Some(session.sid().text().into_boxed_str()),
            transient: true,
            ..Meta::default()
        };
        let whisper = Publication { stream, data, meta };
        if let Err(error) = self.publish(whisper).await {
            debug!(%error, "A whisper was lost");
        }
    }

    /// Nobody acts on a `message`: there is no backend behind a `$pubsub`
    /// stream. Said clearly, because whoever sends one expects that something
    /// happens.
    fn ignore(&self, session: &Arc<Session>, identifier: &Identifier) {
        self.metrics.ignored_client_messages.inc();
        let streams = session.streams_of(identifier).unwrap_or_default();
        let stream = streams.first().map_or("", StreamName::as_str);
        if let Some(left_out) = self.throttles.ignored.pass() {
            warn!(
                stream,
                left_out,
                "A message command was ignored: no backend stands behind this subscription; \
                 clients publish through the backend, or whisper"
            );
        }
    }
}
