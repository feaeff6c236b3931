//! Taking leave of the clients before the node stops.
//!
//! Sessions that are polled go on at other nodes, where there may be any; all
//! others are closed, and their clients asked to come back. One after the
//! other, because whoever takes them in has other clients too.

use super::Runtime;
use futures_util::{StreamExt as _, stream};
use pollux_protocol::DisconnectReason;
use pollux_session::Session;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::info;

/// How often the drain looks whether everybody has been told.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sessions that take leave at each look, unless there are too many for the time
/// there is: two hundred a second.
const PACE: usize = 4;

/// Of the time there is, what the leave of all sessions takes at most, in
/// percent; the rest is for the last of them to be told.
const SHARE: u32 = 60;

/// Sessions that take leave side by side, at most.
const SIDE_BY_SIDE: usize = 64;

/// How long a session that moves may take to let go: most commands are done by
/// then, also those that a backend thinks about.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// No poll for so long, and no more are expected: clients wait half a second
/// between two.
const QUIET: Duration = Duration::from_secs(1);

/// How long polls of sessions that have moved are served at most.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// How many of `sessions` take leave at each look, to be done in `time`.
fn at_a_time(sessions: usize, time: Duration) -> usize {
    let looks = (time * SHARE / 100).as_millis() / LOOK_EVERY.as_millis();
    let looks = usize::try_from(looks).unwrap_or(usize::MAX).max(1);
    sessions.div_ceil(looks).max(PACE)
}

impl Runtime {
    /// Asks not to be sent new clients. Those that come are served.
    pub(crate) fn announce_drain(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Takes leave of all sessions, spread over a part of `time`, and waits
    /// until each client has its `disconnect`, or has not come for it within
    /// the keepalive timeout. The caller bounds it.
    pub(crate) async fn drain(self: &Arc<Self>, time: Duration) {
        self.leaving.store(true, Ordering::Relaxed);
        self.draining.store(true, Ordering::Relaxed);
        let moves = self.can_move_sessions();
        let sessions = self.registry.select(|_| true);
        info!(sessions = sessions.len(), moves, "Draining");
        let started = Instant::now();
        if let Some(application) = &self.application {
            application.farewells.hurry();
        }
        self.take_leave(sessions, moves, time).await;
        loop {
            self.leave_again().await;
            let untold = self.registry.select(|session| !session.is_told());
            let farewells = self.application.as_ref();
            let farewells = farewells.map_or(0, |application| application.farewells.len());
            if untold.is_empty() && farewells == 0 {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        info!(took = ?started.elapsed(), "Drained");
    }

    /// Serves the polls that still come on connections which a proxy has kept:
    /// to close one just when it is used again would be an error to a client.
    /// Each of these answers ends its connection, so they come to an end.
    pub(crate) async fn serve_stragglers(self: &Arc<Self>, connections: impl Fn() -> usize) {
        let count = || self.metrics.adopted_sessions.get();
        if self.metrics.moved_sessions.get() == 0 {
            return;
        }
        let until = Instant::now() + STRAGGLERS;
        let (mut seen, mut quiet_since) = (count(), Instant::now());
        while connections() > 0 && Instant::now() < until && quiet_since.elapsed() < QUIET {
            self.leave_again().await;
            sleep(LOOK_EVERY).await;
            if seen != count() {
                (seen, quiet_since) = (count(), Instant::now());
            }
        }
    }

    /// Takes leave of those that polls have brought back, as long as there may be
    /// polls. Never ends.
    pub(crate) async fn keep_leaving(self: &Arc<Self>) {
        loop {
            self.leave_again().await;
            sleep(LOOK_EVERY).await;
        }
    }

    async fn leave_again(self: &Arc<Self>) {
        let back = self.registry.select(|session| !session.is_over());
        if !back.is_empty() {
            let moves = self.can_move_sessions();
            self.take_leave(back, moves, Duration::ZERO).await;
        }
    }

    async fn take_leave(
        self: &Arc<Self>,
        sessions: Vec<Arc<Session>>,
        moves: bool,
        time: Duration,
    ) {
        let together = at_a_time(sessions.len(), time);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for some in sessions.chunks(together) {
            looks.tick().await;
            stream::iter(some)
                .for_each_concurrent(SIDE_BY_SIDE, |session| self.leave_one(session, moves))
                .await;
        }
    }

    async fn leave_one(self: &Arc<Self>, session: &Arc<Session>, moves: bool) {
        let moves = moves && session.has_rules(&self.shared);
        if moves && self.give_away(session, LET_GO_WITHIN).await {
            return;
        }
        // It may be another object by now, if nobody could keep it.
        let here = self.registry.get(session.secret());
        let session = here.as_ref().unwrap_or(session);
        self.close(session, DisconnectReason::ServerRestart, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_is_taken_at_a_pace_that_fits_into_the_time() {
        let time = Duration::from_secs(30);
        assert_eq!(at_a_time(0, time), 4);
        assert_eq!(at_a_time(10, time), 4);
        // 18 s are 900 looks.
        assert_eq!(at_a_time(90_000, time), 100);
        assert_eq!(at_a_time(500, Duration::ZERO), 500);
    }
}
