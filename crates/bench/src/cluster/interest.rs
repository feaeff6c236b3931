//! `interest`: what it costs to send a publication to the node that needs it, and what to all.

use anyhow::{Result, bail};
use serde::Serialize;

use super::args::{DoorName, InterestArgs};
use super::fleet::Layout;
use super::flood::{self, DoorFlood, Flood};
use super::setup::Setup;
use crate::dialect::DialectName;
use crate::driver::Context;
use crate::mark::RunId;
use crate::report::Report;
use crate::table::Table;

/// To whom it may concern, then to everybody.
const DOORS: [DoorName; 2] = [DoorName::Fcall, DoorName::Publish];

/// The result. Its field names are the keys of the JSON report and stay as they are.
#[derive(Debug, Serialize)]
pub(crate) struct InterestReport {
    command: &'static str,
    version: &'static str,
    /// The last nodes, which had no subscribers.
    bystanders: usize,
    /// CPU time of all nodes for a publication, in microseconds.
    nodes_us_interest: Option<f64>,
    nodes_us_firehose: Option<f64>,
    flood: Flood,
}

impl InterestReport {
    pub(crate) fn is_clean(&self) -> bool {
        self.flood.is_clean()
    }
}

/// Every stream has one subscriber; the nodes have their turns.
pub(crate) fn run(
    args: &InterestArgs,
    mut next_run: impl FnMut() -> RunId,
    context: &Context,
) -> Result<InterestReport> {
    let setup = Setup::make(&args.cluster, DialectName::Lp, None, next_run())?;
    let doors = setup.doors(&DOORS)?;
    let subscribed = setup.nodes.len().saturating_sub(args.bystanders);
    if subscribed == 0 {
        bail!(
            "with {} bystanders no node has subscribers",
            args.bystanders
        );
    }
    let flood = flood::run(
        &setup,
        &args.flood,
        Layout::Spread(subscribed),
        &doors,
        next_run,
        context,
    )?;
    Ok(InterestReport {
        command: "interest",
        version: env!("CARGO_PKG_VERSION"),
        bystanders: args.bystanders,
        nodes_us_interest: flood.doors.first().and_then(of_nodes),
        nodes_us_firehose: flood.doors.get(1).and_then(of_nodes),
        flood,
    })
}

/// What all nodes spent together, if it is known of each.
fn of_nodes(door: &DoorFlood) -> Option<f64> {
    (1..=door.nodes.len())
        .map(|number| {
            let name = format!("node{number}");
            let cost = door.cpu.iter().find(|cost| cost.name == name)?;
            Some(cost.us_per_publication)
        })
        .sum()
}

impl Report for InterestReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        if self.bystanders > 0 {
            table.row(
                "without subscribers",
                format!("the last {}", self.bystanders),
            );
        }
        self.flood.rows(&mut table);
        if let (Some(interest), Some(firehose)) = (self.nodes_us_interest, self.nodes_us_firehose) {
            table.gap();
            table.row(
                "CPU of all nodes",
                format!(
                    "{interest:.2} µs a publication to who needs it, {firehose:.2} µs to all: {:.2} times",
                    firehose / interest.max(f64::EPSILON)
                ),
            );
        }
        table
    }
}
