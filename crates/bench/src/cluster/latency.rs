//! `latency`: one message at a time, from the publish call to the last byte at every node.

use anyhow::Result;
use serde::Serialize;

use super::args::{DoorName, LatencyArgs, StreamsOf};
use super::arrivals::Arrivals;
use super::fleet::{Fleet, Layout};
use super::leader::{Ended, Leader};
use super::setup::Setup;
use crate::dialect::DialectName;
use crate::driver::Context;
use crate::fanout::Spread;
use crate::mark::RunId;
use crate::report::Report;
use crate::table::{Table, time};

/// The result. Its field names are the keys of the JSON report and stay as they are.
#[derive(Debug, Serialize)]
pub(crate) struct LatencyReport {
    command: &'static str,
    version: &'static str,
    dialect: DialectName,
    nodes: Vec<String>,
    /// Where the door `http` was.
    publish_at: String,
    stream: StreamsOf,
    rounds: u32,
    warmup: usize,
    pause_ms: f64,
    payload_bytes: usize,
    complete: bool,
    doors: Vec<DoorLatency>,
}

/// One way to publish.
#[derive(Debug, Serialize)]
struct DoorLatency {
    door: DoorName,
    /// Over all nodes.
    arrivals: Arrivals,
    nodes: Vec<NodeLatency>,
}

/// The same for one node.
#[derive(Debug, Serialize)]
struct NodeLatency {
    url: String,
    deliveries: u64,
    latency_us: Option<Spread>,
}

impl LatencyReport {
    pub(crate) fn is_clean(&self) -> bool {
        self.complete && self.doors.iter().all(|door| door.arrivals.is_clean())
    }
}

/// Measures one door after the other, with the same sessions.
pub(crate) fn run(
    args: &LatencyArgs,
    mut next_run: impl FnMut() -> RunId,
    context: &Context,
) -> Result<LatencyReport> {
    let publish_at = args.doors.publish_at.as_deref();
    let setup = Setup::make(&args.cluster, args.doors.dialect, publish_at, next_run())?;
    let asked = setup.doors(&args.doors.doors)?;
    let (layout, streams) = match args.stream {
        StreamsOf::Shared => (Layout::Everywhere, 1),
        StreamsOf::Own => {
            let nodes = setup.nodes.len();
            (Layout::Spread(nodes), u32::try_from(nodes)?)
        }
    };
    setup.make_room(Fleet::size(layout, setup.nodes.len(), streams), 1)?;
    let mut leader = Leader::open(&setup, layout, streams, asked[0], context)?;
    let rounds = usize::try_from(args.rounds)?;
    let mut doors = Vec::new();
    for &door in &asked {
        let mut ended = leader.begin(door, 1, next_run(), |leader, count| {
            leader.publish_each(count, args.pause)
        })?;
        if matches!(ended, Ended::Complete) {
            let published = leader.publish_each(rounds, args.pause);
            ended = leader.end(published)?;
        }
        let is_over = !matches!(ended, Ended::Complete);
        doors.push(DoorLatency {
            door,
            nodes: by_node(&setup, &leader.fleet),
            arrivals: Arrivals::of(&leader.fleet, ended),
        });
        if is_over {
            break;
        }
    }
    Ok(LatencyReport {
        command: "latency",
        version: env!("CARGO_PKG_VERSION"),
        dialect: args.doors.dialect,
        nodes: setup.urls(),
        publish_at: setup.publish_url.clone(),
        stream: args.stream,
        rounds: args.rounds,
        warmup: setup.warmup,
        pause_ms: args.pause.as_secs_f64() * 1e3,
        payload_bytes: setup.payload,
        complete: doors.len() == asked.len(),
        doors,
    })
}

fn by_node(setup: &Setup, fleet: &Fleet) -> Vec<NodeLatency> {
    let tallies = fleet.tallies();
    setup
        .urls()
        .into_iter()
        .zip(tallies)
        .map(|(url, tally)| NodeLatency {
            url,
            deliveries: tally.latency().len(),
            latency_us: Spread::of(tally.latency()),
        })
        .collect()
}

impl Report for LatencyReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let streams = match self.stream {
            StreamsOf::Shared => "one stream",
            StreamsOf::Own => "a stream each",
        };
        table.row("nodes", format!("{}, {streams}", self.nodes.join(" ")));
        table.row("http publishes at", &self.publish_at);
        table.row(
            "publications",
            format!("{} of each door, {} bytes", self.rounds, self.payload_bytes),
        );
        for one in &self.doors {
            table.gap();
            one.arrivals.rows(one.door, &mut table);
            spread("  all nodes", one.arrivals.latency_us, &mut table);
            if one.nodes.len() > 1 {
                for node in &one.nodes {
                    spread(&format!("  {}", node.url), node.latency_us, &mut table);
                }
            }
            spread("  publish answer", one.arrivals.publish_us, &mut table);
        }
        if !self.complete {
            table.gap();
            table.row("PARTIAL", "the run ended early");
        }
        table
    }
}

pub(super) fn spread(label: &str, spread: Option<Spread>, table: &mut Table) {
    if let Some(spread) = spread {
        table.row(
            label,
            format!(
                "p50 {}, p90 {}, p99 {}, max {}",
                time(spread.p50),
                time(spread.p90),
                time(spread.p99),
                time(spread.max)
            ),
        );
    }
}
