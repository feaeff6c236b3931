//! Turns the sessions' wheel.

use super::Runtime;
use pollux_session::{Due, deadlines::TICK};
use std::sync::Arc;
use tokio::time::MissedTickBehavior;

impl Runtime {
    /// Fires deadlines until the node stops.
    pub(crate) async fn run_deadlines(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Vec::new();
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.shared.deadlines.advance(self.clock.now(), &mut due);
            for (tick, session) in due.drain(..) {
                let Some(session) = session.upgrade() else {
                    continue;
                };
                if let Due::Expired(subscriptions) = session.due(tick, self.clock.now()) {
                    self.registry.remove(session.secret());
                    self.metrics.expired_sessions.inc();
                    self.detach(&session, subscriptions);
                }
            }
        }
    }
}
