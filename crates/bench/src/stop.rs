//! Ctrl-C: the first one ends the run with a partial report, the second one ends the process.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime;
use tokio::signal;

/// What shells give for a process that ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether the run should end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Begins to listen for Ctrl-C on a thread of its own.
    pub(crate) fn on_ctrl_c() -> io::Result<Self> {
        let stop = Self::default();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let asked = Arc::clone(&stop.asked);
        // It sleeps until a signal comes and ends with the process.
        thread::Builder::new()
            .name("ctrl-c".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    while signal::ctrl_c().await.is_ok() {
                        if asked.swap(true, Ordering::Relaxed) {
                            process::exit(EXIT_INTERRUPTED);
                        }
                    }
                });
            })?;
        Ok(stop)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}
