//! Publications that were lent to one client, until it is known what became of
//! the answer they left in.

use crate::runtime::Runtime;
use parking_lot::Mutex;
use pollux_broker::{Group, Outcome};
use pollux_protocol::{Position, StreamName};
use std::{fmt, sync::Arc, time::Duration};
use tracing::debug;

/// For how long publications are lent: a node that dies holding some keeps
/// them from others no longer.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A connection that has not failed so long after an answer was completely in
/// its socket has delivered it.
const GRACE: Duration = Duration::from_secs(1);

/// See the module's head. Dropped before it was flushed, it gives everything
/// back.
pub(crate) struct Lent {
    runtime: Arc<Runtime>,
    loan: Arc<Mutex<Option<Loan>>>,
    flushed: bool,
}

struct Loan {
    stream: StreamName,
    group: Group,
    positions: Vec<Position>,
}

impl Lent {
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        stream: StreamName,
        group: Group,
        positions: Vec<Position>,
    ) -> Self {
        let loan = Loan {
            stream,
            group,
            positions,
        };
        Self {
            runtime,
            loan: Arc::new(Mutex::new(Some(loan))),
            flushed: false,
        }
    }

    /// The last byte of the answer is in the socket.
    pub(super) fn flushed(&mut self) {
        self.flushed = true;
        let (runtime, loan) = (Arc::clone(&self.runtime), Arc::clone(&self.loan));
        let stop = self.runtime.stop.clone();
        self.runtime.tasks.spawn(async move {
            // A node that stops knows no better than one that has waited.
            drop(tokio::time::timeout(GRACE, stop.cancelled()).await);
            settle(&runtime, &loan, Outcome::Arrived).await;
        });
    }

    /// The client certainly has the answer.
    pub(crate) fn confirm(mut self) {
        self.finish(Outcome::Arrived);
    }

    /// The client certainly does not have it.
    pub(super) fn failed(mut self) {
        self.finish(Outcome::Back);
    }

    fn finish(&mut self, outcome: Outcome) {
        self.flushed = true;
        let (runtime, loan) = (Arc::clone(&self.runtime), Arc::clone(&self.loan));
        self.runtime
            .tasks
            .spawn(async move { settle(&runtime, &loan, outcome).await });
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.flushed {
            self.finish(Outcome::Back);
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

/// Whoever comes first says what became of a loan.
async fn settle(runtime: &Runtime, loan: &Mutex<Option<Loan>>, outcome: Outcome) {
    let Some(loan) = loan.lock().take() else {
        return;
    };
    let Loan {
        stream,
        group,
        positions,
    } = loan;
    if outcome == Outcome::Back {
        let again = u64::try_from(positions.len()).unwrap_or(u64::MAX);
        runtime.metrics.redelivered.inc_by(again);
    }
    let settled = runtime
        .broker
        .settle(&stream, group, positions, outcome)
        .await;
    if let Err(error) = settled {
        debug!(%error, "A loan was not settled; it comes back when its lease ends");
    }
}
