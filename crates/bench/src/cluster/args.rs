//! The command line of `latency`, `throughput` and `interest`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::{OutputArgs, parse_payload, parse_pid, parse_rate, parse_time};
use crate::dialect::DialectName;
use crate::mark::MAX_STREAMS;
use crate::server::Pid;

/// A way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DoorName {
    /// POST to a node.
    Http,
    /// FCALL `pollux_publish`: position, history and announcement in one command.
    Fcall,
    /// XADD to the stream which nodes read as a consumer group.
    Xadd,
    /// PUBLISH to the channel that every node hears.
    Publish,
}

/// How the streams lie on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StreamsOf {
    /// One stream that all nodes subscribe to.
    Shared,
    /// A stream of its own for each node.
    Own,
}

/// A process whose CPU time is reported under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPid {
    pub(crate) name: String,
    pub(crate) pid: Pid,
}

/// Options of `latency`.
#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) doors: DoorArgs,
    /// Publications of each door.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
    /// What the sessions subscribe to; with `own` each publication goes to one node, in turn.
    #[arg(long, value_enum, default_value_t = StreamsOf::Shared)]
    pub(crate) stream: StreamsOf,
    /// How long to wait after the last receipt of a message, so that all polls are parked again.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_time)]
    pub(crate) pause: Duration,
}

/// Options of `throughput`.
#[derive(Debug, Args)]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) doors: DoorArgs,
    #[command(flatten)]
    pub(crate) flood: FloodArgs,
}

/// Options of `interest`.
#[derive(Debug, Args)]
pub(crate) struct InterestArgs {
    /// So many of the nodes, the last ones, get no subscribers: their CPU time is the pure cost of
    /// messages which nobody there needs.
    #[arg(long, value_name = "B", default_value_t = 0)]
    pub(crate) bystanders: usize,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) flood: FloodArgs,
}

/// How much to publish at once.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloodArgs {
    /// Over how many streams to publish, one after the other.
    #[arg(long, value_name = "S", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STREAMS)))]
    pub(crate) streams: u32,
    /// Publications of each door, over all streams.
    #[arg(long, short = 'm', value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) publications: u32,
    /// Publications that may wait for their answer: pipelined commands on one connection to
    /// Redis, or so many HTTP connections with one request each.
    #[arg(long, value_name = "K", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// Publications that may be on their way to a subscriber; 0: any number. XADD and PUBLISH are
    /// answered before anybody has the message, so without a bound one would measure how fast a
    /// queue fills. Pollux leaves PUBLISH messages out when some 8,000 wait in a node.
    #[arg(long, value_name = "A", default_value_t = 4000)]
    pub(crate) ahead: u32,
    /// Publications a second; 0: as many as possible. Costs compare best at the same rate, because
    /// busy processes do more at a time.
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// A process whose CPU time counts: `redis`, `node1`, `node2`, … or any other name. Processes
    /// on this machine are found by their ports.
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = parse_named_pid)]
    pub(crate) pids: Vec<NamedPid>,
}

/// Which ways to publish.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoorArgs {
    /// The way to publish; repeat it or separate by commas for several, one after the other.
    /// [default: http, and with --redis all]
    #[arg(long = "door", value_enum, value_delimiter = ',', value_name = "DOOR")]
    pub(crate) doors: Vec<DoorName>,
    /// The node that takes the publications of the door `http`, as its base URL.
    /// [default: the first node]
    #[arg(long, value_name = "URL")]
    pub(crate) publish_at: Option<String>,
    /// The protocol of the polls. Nchan has the door `http` only; for a cluster of two see
    /// crates/bench/nchan-redis.conf.
    #[arg(long, value_enum, default_value_t = DialectName::Lp)]
    pub(crate) dialect: DialectName,
}

/// Which nodes, and what all commands need.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// A node's base URL; repeat it for each node.
    #[arg(long = "node", value_name = "URL", required = true)]
    pub(crate) nodes: Vec<String>,
    /// The Redis of the nodes: redis://user:password@host:port/db; login, port and db may be left
    /// out.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The nodes' option `redis_prefix`.
    #[arg(long, value_name = "PREFIX", default_value = "pollux")]
    pub(crate) redis_prefix: String,
    /// Streams are called PREFIX-RUN/0, PREFIX-RUN/1, …; RUN is another one each time, because
    /// nodes listen to the streams of the last run for a while.
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    pub(crate) stream_prefix: String,
    /// A header to send with every request; repeat for more.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Publications of each door before measuring begins.
    #[arg(long, value_name = "K", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
    /// How long nothing may happen before the run is given up.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) timeout: Duration,
    /// How long nodes get to come to rest before and after measuring.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) settle: Duration,
    /// The size of a message's data in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = parse_payload)]
    pub(crate) payload: usize,
    #[command(flatten)]
    pub(crate) report: OutputArgs,
}

impl DoorName {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Fcall => "fcall",
            Self::Xadd => "xadd",
            Self::Publish => "publish",
        }
    }
}

fn parse_named_pid(text: &str) -> Result<NamedPid, String> {
    match text.split_once('=') {
        Some((name, pid)) if !name.is_empty() => Ok(NamedPid {
            name: name.to_owned(),
            pid: parse_pid(pid)?,
        }),
        _ => Err("write it as node1=1234".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_named_processes() {
        let named = parse_named_pid("node1=12").unwrap();
        assert_eq!((named.name.as_str(), named.pid), ("node1", Pid(12)));
        for bad in ["12", "=12", "redis=", "redis=x", ""] {
            assert!(parse_named_pid(bad).is_err(), "{bad}");
        }
    }
}
