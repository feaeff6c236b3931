//! A session that lives as long as one request.
//!
//! The doors that answer a request with publications, and know no sessions of
//! their own, wait in one: so they have the hub's fan-out, the outbox's bounds
//! and the node's drain like everybody else.

use crate::{auth::Client, runtime::Runtime, telemetry::traces::Way};
use pollux_broker::BrokerError;
use pollux_protocol::{Identifier, Position, StreamName};
use pollux_session::{Answer, Begin, Frames, Poll as Parked, Replay, Session, Source, Time};
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// See the module's head. Its session ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
    parked: Option<Parked>,
    /// What was put into the hub.
    listening: Vec<(Identifier, StreamName)>,
}

/// What a listener heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Frames, encoded as the identifier asks.
    Frames(Frames),
    /// Nothing in time.
    Nothing,
    /// The session was ended: the node stops, or somebody closed it, or more
    /// came at once than an outbox holds.
    Over,
}

impl Listener {
    /// A session of this client. `None`: the node takes no more clients now, or
    /// none from `source`.
    pub(crate) fn open(
        runtime: &Arc<Runtime>,
        client: Client,
        source: Option<Source>,
    ) -> Option<Self> {
        let session = runtime.open_passing(client, source)?;
        Some(Self {
            runtime: Arc::clone(runtime),
            session,
            parked: None,
            listening: Vec::new(),
        })
    }

    /// When this returns, publications to `stream` come as frames encoded for
    /// `identifier`, one of those that `voice` names. Once for each.
    ///
    /// # Errors
    /// The broker can't have subscribers to it, or the session is over.
    pub(crate) async fn listen(
        &mut self,
        identifier: &Identifier,
        stream: &StreamName,
    ) -> Result<(), BrokerError> {
        self.listen_held(identifier, stream).await?;
        self.release(identifier, None);
        Ok(())
    }

    /// The same, but the frames are held back until [`Listener::release`].
    /// Returns the position of the last publication before them, if the broker
    /// knows one.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn listen_held(
        &mut self,
        identifier: &Identifier,
        stream: &StreamName,
    ) -> Result<Option<Position>, BrokerError> {
        let now = self.runtime.clock.now();
        let streams = std::slice::from_ref(stream);
        match self.session.begin_subscription(identifier, streams, now) {
            Begin::New => {}
            Begin::Known | Begin::Reconfirm => return Ok(None),
            Begin::TooMany | Begin::Closed => return Err(BrokerError::Stopped),
        }
        self.listening.push((identifier.clone(), stream.clone()));
        self.runtime
            .hub
            .subscribe(stream, identifier, &self.session);
        self.runtime.listen(&self.session, stream).await
    }

    /// Lets the frames flow that were held back, but for those up to `covered`:
    /// they have been read from history.
    pub(crate) fn release(&self, identifier: &Identifier, covered: Option<Position>) {
        let mut listening = self.listening.iter();
        let known = listening.find(|(known, _)| known == identifier);
        let covered = known.and_then(|(_, stream)| Some((stream.clone(), covered?)));
        let replay = Replay {
            covered: covered.into_iter().collect(),
            ..Replay::default()
        };
        let now = self.runtime.clock.now();
        self.session.release(identifier, replay, now);
    }

    /// The client has said something. Returns how long it is not to be listened
    /// to.
    pub(crate) fn overspend(&self) -> Duration {
        self.runtime.overspend(&self.session, 1)
    }

    /// Undoes [`Listener::listen`]. Frames that are there still come.
    pub(crate) fn unlisten(&mut self, identifier: &Identifier) {
        self.listening.retain(|(known, _)| known != identifier);
        if let Some(ended) = self.session.unsubscribe(identifier) {
            self.runtime.detach(&self.session, vec![ended]);
        }
    }

    /// The next frames, as soon as there are any.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Heard {
        let parked = self
            .parked
            .get_or_insert_with(|| self.session.park(Time::NEVER));
        let clock = self.runtime.clock;
        let answer = poll_fn(|context| parked.poll_answer(clock.now(), context.waker()));
        let Ok(answer) = timeout_at(deadline, answer).await else {
            return Heard::Nothing;
        };
        self.parked = None;
        match answer {
            Answer::Frames {
                frames,
                mut delivery,
                ..
            } => {
                if let Some(traces) = &self.runtime.traces {
                    traces.answer(&frames, &mut delivery, Way::Listener);
                }
                delivery.flushed(clock.now());
                delivery.confirm();
                if self.session.is_over() {
                    Heard::Over
                } else {
                    Heard::Frames(frames)
                }
            }
            Answer::Empty { .. } | Answer::Closed { .. } => Heard::Over,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.parked = None;
        drop(self.session.abandon(self.runtime.clock.now()));
        // Whoever has ended the session meanwhile may have looked before it was
        // in the hub. A call to the broker that was given up counts too.
        let serial = self.session.serial();
        for (identifier, stream) in self.listening.drain(..) {
            if self.runtime.hub.unsubscribe(&stream, &identifier, serial) {
                self.runtime.broker.unsubscribe(&stream);
            }
        }
        self.runtime.registry.remove(self.session.secret());
    }
}
