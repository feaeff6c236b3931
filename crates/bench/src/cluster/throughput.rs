//! `throughput`: how many publications a second each door sustains, with nothing lost.

use anyhow::Result;
use serde::Serialize;

use super::args::ThroughputArgs;
use super::fleet::Layout;
use super::flood::{self, Flood};
use super::setup::Setup;
use crate::dialect::DialectName;
use crate::driver::Context;
use crate::mark::RunId;
use crate::report::Report;
use crate::table::Table;

/// The result. Its field names are the keys of the JSON report and stay as they are.
#[derive(Debug, Serialize)]
pub(crate) struct ThroughputReport {
    command: &'static str,
    version: &'static str,
    dialect: DialectName,
    flood: Flood,
}

impl ThroughputReport {
    pub(crate) fn is_clean(&self) -> bool {
        self.flood.is_clean()
    }
}

/// Every stream has a subscriber at every node, so every node gets every publication.
pub(crate) fn run(
    args: &ThroughputArgs,
    mut next_run: impl FnMut() -> RunId,
    context: &Context,
) -> Result<ThroughputReport> {
    let publish_at = args.doors.publish_at.as_deref();
    let setup = Setup::make(&args.cluster, args.doors.dialect, publish_at, next_run())?;
    let doors = setup.doors(&args.doors.doors)?;
    let flood = flood::run(
        &setup,
        &args.flood,
        Layout::Everywhere,
        &doors,
        next_run,
        context,
    )?;
    Ok(ThroughputReport {
        command: "throughput",
        version: env!("CARGO_PKG_VERSION"),
        dialect: args.doors.dialect,
        flood,
    })
}

impl Report for ThroughputReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        self.flood.rows(&mut table);
        table
    }
}
