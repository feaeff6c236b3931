//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::clients::Transport;
use crate::cluster::args::{InterestArgs, LatencyArgs, ThroughputArgs};
use crate::dialect::DialectName;
use crate::mark::{MAX_STREAMS, MIN_PAYLOAD};
use crate::server::Pid;

/// Measures long-poll servers, Pollux (`lp`) and Nchan (`nchan`), alone and as clusters.
///
/// One process holds N polls, publishes, and times every message from the publish call to its
/// receipt. Any lost message makes the exit code 1. Numbers of one machine say little; run two
/// servers in turn with `compare` and quote the ratios.
#[derive(Debug, Parser)]
#[command(name = "pollux-bench", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Ten thousand parked polls, ten publications one after the other, memory and CPU of the server:
    pollux-bench fanout --pollers 10000 --publications 10 --pause 600ms --server-pid $(pidof pollux)

  A stream of 100 publications a second to 1,000 polls, as JSON:
    pollux-bench fanout --pollers 1000 --publications 1000 --rate 100 --json > run.json

  Nchan with the sample configuration in crates/bench/nchan.conf:
    nginx -c $PWD/crates/bench/nchan.conf
    pollux-bench fanout --url http://127.0.0.1:8081 --dialect nchan --pollers 10000 \\
      --publications 10 $(pgrep nginx | sed 's/^/--server-pid /')

  Memory of an idle poll, also after it has answered once:
    pollux-bench idle --pollers 10000 --after-delivery --server-pid $(pidof pollux)

  Memory of a WebSocket and of an event stream:
    pollux-bench clients --transport cable -n 10000 --server-pid $(pidof pollux)
    pollux-bench clients --transport events -n 10000 --server-pid $(pidof pollux)

  Pollux against Nchan, A B A B, as ratios:
    pollux-bench compare --a http://127.0.0.1:8080,lp,$(pidof pollux) \\
      --b http://127.0.0.1:8081,nchan,$(pgrep -d, nginx) --pollers 10000 --publications 10

  Through Redis to a poll on another node, and to three nodes by every door:
    pollux-bench latency --node http://127.0.0.1:8082 --publish-at http://127.0.0.1:8081
    pollux-bench latency --node http://127.0.0.1:8081 --node http://127.0.0.1:8082 \\
      --node http://127.0.0.1:8083 --redis redis://127.0.0.1:6379

  What each door sustains, and what interest saves:
    pollux-bench throughput --node http://127.0.0.1:8081 --redis redis://127.0.0.1:6379
    pollux-bench interest --node http://127.0.0.1:8081 --node http://127.0.0.1:8082 \\
      --redis redis://127.0.0.1:6379 --streams 1000 --rate 2000 --bystanders 1

Pin server and generator to different CPUs (taskset) when the figures are to be quoted.

Exit codes: 0 all arrived, 1 messages were lost or the run was cut short, 2 it could not run.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish to parked polls and time what arrives.
    Fanout(FanoutArgs),
    /// Hold polls and weigh the server.
    Idle(IdleArgs),
    /// Hold WebSocket or event-stream clients and weigh the server.
    ///
    /// All listen to one stream, to which one message is published once all are subscribed.
    Clients(ClientsArgs),
    /// Run the same fan-out against two servers in turn and print the ratios.
    Compare(CompareArgs),
    /// Time single messages through Redis to polls at several nodes, by each door.
    ///
    /// At each node waits one session with a parked poll. Messages are published one at a time;
    /// the clock runs from the moment the request or command is written to the last byte of each
    /// node's answer. Start Pollux with --poll_flush_interval 0, or it coalesces them.
    Latency(LatencyArgs),
    /// Publish as fast as each door takes it; a poll at every node checks that nothing is lost.
    ///
    /// Each stream has one long poll at every node. The rate counts up to the last receipt. CPU
    /// time is that of Redis, of each node and of the generator. A run that lost a message, or got
    /// one twice, does not count and makes the exit code 1. With the door `http`, which has
    /// several connections, messages may change places; they are counted as out of order.
    Throughput(ThroughputArgs),
    /// Compare sending a publication to the node that needs it with sending it to all.
    ///
    /// Each stream has one subscriber; the nodes have their turns. The same number of messages is
    /// published to each stream, by FCALL (only the node that needs a message gets it) and by
    /// PUBLISH (all nodes get every message).
    Interest(InterestArgs),
}

/// Options of `fanout`.
#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) polls: PollArgs,
    /// How long to hold the polls before the last weighing.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(crate) hold: Duration,
    /// Publish once to every stream, so that every connection has answered once.
    #[arg(long)]
    pub(crate) after_delivery: bool,
}

/// Options of `clients`.
#[derive(Debug, Args)]
pub(crate) struct ClientsArgs {
    /// The server's base URL.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// How they are connected.
    #[arg(long, value_enum, default_value_t = Transport::Cable)]
    pub(crate) transport: Transport,
    /// Where to connect, below the URL [default: /cable, events: /events]
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// How many clients to hold.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) clients: u32,
    /// The stream they listen to.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub(crate) stream: String,
    /// How long to hold them before the last weighing.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(crate) hold: Duration,
    /// How long nothing may happen before the run is given up.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) timeout: Duration,
    /// A process of the server; repeat for each.
    #[arg(long = "server-pid", value_name = "PID", value_parser = parse_pid)]
    pub(crate) server_pids: Vec<Pid>,
    #[command(flatten)]
    pub(crate) report: OutputArgs,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The first server: URL, dialect and the process ids of the server, comma separated.
    #[arg(long, value_name = "URL,DIALECT,PID[,PID…]")]
    pub(crate) a: String,
    /// The second server, in the same form.
    #[arg(long, value_name = "URL,DIALECT,PID[,PID…]")]
    pub(crate) b: String,
    /// How often each server has its turn.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Rest between two runs. Pollux gives up the sessions of the last one after 5 s.
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = parse_time)]
    pub(crate) rest: Duration,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Which server.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's base URL.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// The protocol its polls speak.
    #[arg(long, value_enum, default_value_t = DialectName::Lp)]
    pub(crate) dialect: DialectName,
    /// Where to poll, below the URL; `{stream}` stands for the stream's name.
    /// [default: /lp, nchan: /sub/{stream}]
    #[arg(long, value_name = "PATH")]
    pub(crate) subscribe_path: Option<String>,
    /// Where to publish, a full URL; may contain `{stream}`.
    /// [default: URL/_broadcast, nchan: URL/pub/{stream}]
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,
    /// Where the server exports `pollux_parked_polls` [default: URL/metrics]
    #[arg(long, value_name = "URL")]
    pub(crate) metrics_url: Option<String>,
    /// A process of the server; repeat for each (nginx: master and workers). Adds memory and CPU.
    #[arg(long = "server-pid", value_name = "PID", value_parser = parse_pid)]
    pub(crate) server_pids: Vec<Pid>,
}

/// Which polls.
#[derive(Clone, Debug, Args)]
pub(crate) struct PollArgs {
    /// How many polls to hold.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pollers: u32,
    /// Over how many streams to spread them.
    #[arg(long, value_name = "S", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STREAMS)))]
    pub(crate) streams: u32,
    /// Streams are called PREFIX/0, PREFIX/1, …
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    pub(crate) stream_prefix: String,
    /// Send back `Pollux-Cursor` with every poll (lp), which makes delivery at-least-once.
    #[arg(long)]
    pub(crate) cursor: bool,
    /// A header to send with every request; repeat for more.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// How long nothing may happen before the run is given up.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) timeout: Duration,
    /// How long to wait for polls to be parked when the server does not tell.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = parse_time)]
    pub(crate) settle: Duration,
    /// The size of a message's data in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = parse_payload)]
    pub(crate) payload: usize,
    #[command(flatten)]
    pub(crate) report: OutputArgs,
}

/// Where the report goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the JSON object to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Which publications.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) polls: PollArgs,
    /// Publications to each stream.
    #[arg(long, short = 'm', value_name = "M", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publications: u32,
    /// Publications a second over all streams; 0: the next one when all have the last one.
    /// Pollux coalesces what comes within its flush interval (500 ms): give --pause 600ms or start
    /// it with --poll_flush_interval 0 to see the latency of single messages.
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// Publications that may wait for their answer at the same time, by HTTP pipelining. Servers
    /// that answer after the fan-out (Nchan) need more than 1 to be given bursts.
    #[arg(long, value_name = "D", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: u32,
    /// With --rate 0: how long to wait between publications, so that all polls are parked again.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_time)]
    pub(crate) pause: Duration,
    /// Publications to each stream before measuring begins.
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
}

/// `250ms`, `30s`, `2m`; a bare number is seconds.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = if let Some(number) = text.strip_suffix("ms") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60.0)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1.0)
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| "write it as 250ms, 30s or 2m".to_owned())
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|rate| rate.is_finite() && *rate >= 0.0)
        .ok_or_else(|| "it must be a number, 0 or more".to_owned())
}

pub(crate) fn parse_payload(text: &str) -> Result<usize, String> {
    const LARGEST: usize = 16 << 20;
    text.parse::<usize>()
        .ok()
        .filter(|size| (MIN_PAYLOAD..=LARGEST).contains(size))
        .ok_or_else(|| format!("it must be {MIN_PAYLOAD} to {LARGEST} bytes"))
}

pub(crate) fn parse_pid(text: &str) -> Result<Pid, String> {
    match text.trim().parse() {
        Ok(pid) if pid > 0 => Ok(Pid(pid)),
        _ => Err(format!("`{text}` is no process id")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_times_and_numbers() {
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("3"), Ok(Duration::from_secs(3)));
        for text in ["", "s", "-1s", "1h", "infs", "ms"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert!(parse_rate("-1").is_err());
        assert!(parse_rate("NaN").is_err());
        assert!(parse_payload("3").is_err());
        assert!(parse_pid("0").is_err());
    }
}
