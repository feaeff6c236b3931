//! Publishes as fast as a door takes it, and says what that cost whom.

use anyhow::Result;
use serde::Serialize;

use super::args::{DoorName, FloodArgs};
use super::arrivals::{Arrivals, times};
use super::cost::{Cost, Participants};
use super::fleet::{Fleet, Layout};
use super::leader::{Ended, Leader, Pace};
use super::setup::Setup;
use crate::driver::Context;
use crate::mark::RunId;
use crate::metrics;
use crate::report::BUSY_GENERATOR;
use crate::table::{Table, grouped};

/// What nodes count of the messages that Redis sends them.
const REDIS_MESSAGES: &str = "pollux_redis_messages_total";

/// The result of all doors. Its field names are keys of the JSON report and stay as they are.
#[derive(Debug, Serialize)]
pub(super) struct Flood {
    pub(super) nodes: Vec<String>,
    /// Where the door `http` was.
    pub(super) publish_at: String,
    pub(super) streams: u32,
    pub(super) pollers: usize,
    pub(super) publications: u32,
    pub(super) in_flight: u32,
    /// Publications that could be on their way; 0: any number.
    pub(super) ahead: u32,
    /// Publications a second; 0: as many as possible.
    pub(super) rate: f64,
    pub(super) warmup: usize,
    pub(super) payload_bytes: usize,
    pub(super) complete: bool,
    pub(super) notes: Vec<String>,
    pub(super) doors: Vec<DoorFlood>,
}

/// One way to publish.
#[derive(Debug, Serialize)]
pub(super) struct DoorFlood {
    pub(super) door: DoorName,
    pub(super) arrivals: Arrivals,
    /// First publish call to last receipt.
    pub(super) seconds: f64,
    pub(super) publications_per_second: f64,
    /// The same up to the last answer to a publication.
    pub(super) accepted_per_second: f64,
    /// From just before the first publication until the nodes have come to rest.
    pub(super) cpu: Vec<Cost>,
    pub(super) nodes: Vec<NodeFlood>,
}

/// What one node had to do with it.
#[derive(Debug, Serialize)]
pub(super) struct NodeFlood {
    pub(super) url: String,
    pub(super) deliveries: u64,
    /// Nothing if the node does not say.
    pub(super) messages_from_redis: Option<u64>,
}

impl Flood {
    pub(super) fn is_clean(&self) -> bool {
        self.complete && self.doors.iter().all(|door| door.arrivals.is_clean())
    }

    pub(super) fn rows(&self, table: &mut Table) {
        table.row("nodes", self.nodes.join(" "));
        table.row("http publishes at", &self.publish_at);
        let pace = if self.rate > 0.0 {
            format!("{} a second", self.rate)
        } else {
            "as fast as possible".to_owned()
        };
        table.row(
            "publications",
            format!(
                "{} of each door, {} bytes, over {} streams with {} polls, {} in flight, {pace}",
                grouped(self.publications.into()),
                self.payload_bytes,
                self.streams,
                self.pollers,
                self.in_flight
            ),
        );
        for note in &self.notes {
            table.row("note", note);
        }
        for door in &self.doors {
            table.gap();
            door.rows(table);
        }
        if !self.complete {
            table.gap();
            table.row("PARTIAL", "the run ended early");
        }
    }
}

impl DoorFlood {
    fn rows(&self, table: &mut Table) {
        self.arrivals.rows(self.door, table);
        table.row(
            "  publications/s",
            format!(
                "{:.0} received, {:.0} accepted, in {:.3} s",
                self.publications_per_second, self.accepted_per_second, self.seconds
            ),
        );
        super::latency::spread("  latency", self.arrivals.latency_us, table);
        for cost in &self.cpu {
            table.row(
                &format!("  CPU {}", cost.name),
                format!(
                    "{:.2} µs a publication, {:.3} s in all",
                    cost.us_per_publication, cost.seconds
                ),
            );
            if cost.is_generator() && cost.seconds > self.seconds * BUSY_GENERATOR {
                table.row("", "it used a whole core: it may have been the limit");
            }
        }
        for (number, node) in (1..).zip(&self.nodes) {
            let messages = node
                .messages_from_redis
                .map_or_else(|| "an unknown number of".to_owned(), grouped);
            table.row(
                &format!("  node{number} got"),
                format!(
                    "{messages} messages from Redis for {} deliveries",
                    grouped(node.deliveries)
                ),
            );
        }
    }
}

/// Measures one door after the other, with the same sessions.
pub(super) fn run(
    setup: &Setup,
    args: &FloodArgs,
    layout: Layout,
    asked: &[DoorName],
    mut next_run: impl FnMut() -> RunId,
    context: &Context,
) -> Result<Flood> {
    let pollers = Fleet::size(layout, setup.nodes.len(), args.streams);
    let in_flight = usize::try_from(args.in_flight)?;
    setup.make_room(pollers, in_flight)?;
    let mut notes = Vec::new();
    let participants = Participants::find(setup, &args.pids, &mut notes)?;
    let mut leader = Leader::open(setup, layout, args.streams, asked[0], context)?;
    let mut doors = Vec::new();
    let mut complete = true;
    for &door in asked {
        let ended = leader.begin(door, in_flight, next_run(), |leader, count| {
            leader.publish_all(count, pace(args))
        })?;
        let one = flood(&mut leader, door, args, &participants, ended)?;
        complete = one.arrivals.complete;
        doors.push(one);
        if !complete {
            break;
        }
    }
    Ok(Flood {
        nodes: setup.urls(),
        publish_at: setup.publish_url.clone(),
        streams: args.streams,
        pollers,
        publications: args.publications,
        in_flight: args.in_flight,
        ahead: args.ahead,
        rate: args.rate,
        warmup: setup.warmup,
        payload_bytes: setup.payload,
        complete,
        notes,
        doors,
    })
}

fn flood(
    leader: &mut Leader<'_>,
    door: DoorName,
    args: &FloodArgs,
    participants: &Participants,
    mut ended: Ended,
) -> Result<DoorFlood> {
    let before = messages(leader.setup);
    let meter = participants.measure();
    if matches!(ended, Ended::Complete) {
        let published = leader.publish_all(usize::try_from(args.publications)?, pace(args));
        // What nodes do behind the last receipt, such as deleting entries, is part of the cost.
        let rested = published.and_then(|()| leader.keep_turning(leader.setup.settle));
        ended = leader.end(rested)?;
    }
    let arrivals = Arrivals::of(&leader.fleet, ended);
    let cpu = participants.spent_since(&meter, arrivals.published);
    let after = messages(leader.setup);
    let (seconds, answered) = times(&leader.fleet);
    let nodes = leader
        .setup
        .urls()
        .into_iter()
        .zip(leader.fleet.tallies())
        .zip(before.into_iter().zip(after))
        .map(|((url, tally), (before, after))| NodeFlood {
            url,
            deliveries: tally.latency().len(),
            messages_from_redis: before
                .zip(after)
                .map(|(before, after)| after.saturating_sub(before)),
        })
        .collect();
    Ok(DoorFlood {
        door,
        seconds,
        publications_per_second: rate(arrivals.accepted, seconds),
        accepted_per_second: rate(arrivals.accepted, answered),
        cpu,
        nodes,
        arrivals,
    })
}

fn pace(args: &FloodArgs) -> Pace {
    Pace {
        rate: args.rate,
        ahead: match args.ahead {
            0 => u64::MAX,
            ahead => ahead.into(),
        },
    }
}

/// What each node has got from Redis so far.
fn messages(setup: &Setup) -> Vec<Option<u64>> {
    setup
        .nodes
        .iter()
        .map(|node| metrics::read(&node.metrics, REDIS_MESSAGES))
        .collect()
}

fn rate(count: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}
