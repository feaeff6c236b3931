//! The commands that go to nodes and Redis: `publish`, `subscribe`, and those that look.

mod check;
mod look;
mod publish;
mod reach;
mod subscribe;
mod table;

pub(crate) use check::check;
pub(crate) use look::look;
pub(crate) use publish::publish;
pub(crate) use subscribe::subscribe;

use crate::{config::ConfigError, program::complain};
use std::process::ExitCode;

/// `subscribe` did not get what it waited for in time.
const OUT_OF_TIME: u8 = 2;

/// How a command ended that was not done.
#[derive(Debug)]
enum Failure {
    /// It was asked wrongly.
    Asked(String),
    /// It could not be done, or was refused.
    Failed(String),
    /// It took too long; there is nothing to say.
    OutOfTime,
}

/// Runs a command to its end, on one thread: it is one client.
fn finish(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("failed to start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(command);
    // Neither a name that is being looked up nor standard input is worth waiting for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
        Err(Failure::Asked(why)) => {
            complain(&why);
            ExitCode::from(ConfigError::EXIT_CODE)
        }
        Err(Failure::OutOfTime) => ExitCode::from(OUT_OF_TIME),
    }
}
