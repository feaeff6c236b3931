//! Sessions that have ended, and of which the backend is still to be told.

use super::{Application, Attended};
use crate::config::DisconnectMode;
use parking_lot::Mutex;
use pollux_rpc::call::Disconnect;
use pollux_session::{Session, Subscription};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// The queue, and the pace at which it is worked off: a thousand clients that
/// leave at once must not keep a backend from those that come.
#[derive(Debug)]
pub(crate) struct Farewells {
    mode: DisconnectMode,
    /// Calls a second.
    rate: usize,
    capacity: usize,
    waiting: Mutex<VecDeque<Farewell>>,
    added: Notify,
    /// Calls that are being made.
    calls: TaskTracker,
    /// There is no more time to be polite.
    hurry: CancellationToken,
}

/// One session's end.
#[derive(Debug)]
struct Farewell {
    sid: String,
    call: Disconnect,
}

impl Farewells {
    /// An empty queue for `capacity` sessions, of which `rate` leave a second.
    pub(crate) fn new(mode: DisconnectMode, rate: usize, capacity: usize) -> Self {
        Self {
            mode,
            rate: rate.max(1),
            capacity,
            waiting: Mutex::new(VecDeque::new()),
            added: Notify::new(),
            calls: TaskTracker::new(),
            hurry: CancellationToken::new(),
        }
    }

    /// The session has ended. False if the backend should be told, but the
    /// queue is full.
    pub(crate) fn say(
        &self,
        session: &Session,
        attended: &Attended,
        subscriptions: &[Subscription],
    ) -> bool {
        let always = match self.mode {
            DisconnectMode::Auto => false,
            DisconnectMode::Always => true,
            DisconnectMode::Never => return true,
        };
        let Some(call) = attended.dismiss(session, subscriptions, always) else {
            return true;
        };
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.capacity {
            return false;
        }
        waiting.push_back(Farewell {
            sid: session.sid().text(),
            call,
        });
        drop(waiting);
        self.added.notify_one();
        true
    }

    /// Those that wait, and those that are being told.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len() + self.calls.len()
    }

    /// From now on they are told as fast as the backend takes it.
    pub(crate) fn hurry(&self) {
        self.hurry.cancel();
    }
}

impl Application {
    /// Tells the backend of ended sessions until the node stops.
    pub(crate) async fn run_farewells(self: Arc<Self>) {
        let farewells = &self.farewells;
        let rate = u32::try_from(farewells.rate).unwrap_or(u32::MAX);
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = farewells.waiting.lock().pop_front();
            let Some(Farewell { sid, call }) = next else {
                farewells.added.notified().await;
                continue;
            };
            let application = Arc::clone(&self);
            farewells.calls.spawn(async move {
                if let Err(error) = application.backend.disconnect(&sid, call).await {
                    application.note_failure("disconnect", &error);
                }
            });
            farewells.hurry.run_until_cancelled(pace.tick()).await;
        }
    }

    /// The session has ended. False if the backend is not told, but should be.
    pub(crate) fn dismiss(&self, session: &Session, subscriptions: &[Subscription]) -> bool {
        let Some(attended) = Attended::of(session) else {
            return true;
        };
        let is_said = self.farewells.say(session, &attended, subscriptions);
        if !is_said && let Some(left_out) = self.failures.pass() {
            warn!(
                left_out,
                "The backend is not told of a session that ended: too many wait already"
            );
        }
        is_said
    }
}
