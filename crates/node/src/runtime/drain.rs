//! Taking leave of the clients before the node stops.

use super::Runtime;
use std::{sync::atomic::Ordering, time::Duration};
use tracing::info;

/// How often the drain looks whether everybody has been told.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Runtime {
    /// Asks not to be sent new clients. Those that come are served.
    pub(crate) fn announce_drain(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Closes all sessions and waits until each client has its `disconnect`, or
    /// has not come for it within the keepalive timeout. The caller bounds it.
    pub(crate) async fn drain(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.draining.store(true, Ordering::Relaxed);
        let sessions = self.close_all();
        info!(sessions, "Draining");
        if let Some(application) = &self.application {
            application.farewells.hurry();
        }
        while !self
            .registry
            .select(|session| !session.is_told())
            .is_empty()
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        while let Some(application) = &self.application
            && application.farewells.len() > 0
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
