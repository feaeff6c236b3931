//! `compare`: two servers in turn, A B A B, and their ratios.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::{CompareArgs, ServerArgs, parse_pid};
use crate::dialect::DialectName;
use crate::driver::Context;
use crate::fanout::{self, FanoutReport};
use crate::mark::RunId;
use crate::plan::{Load, Plan};
use crate::report::Report;
use crate::table::{Table, size, time};

/// While resting, Ctrl-C is looked for this often.
const NAP: Duration = Duration::from_millis(100);

/// All runs and what they say. Its field names are the keys of the JSON report.
#[derive(Debug, Serialize)]
pub(crate) struct CompareReport {
    command: &'static str,
    version: &'static str,
    complete: bool,
    /// The median over A's runs by the median over B's; below 1 A needs less.
    ratios: Vec<Ratio>,
    a: Vec<FanoutReport>,
    b: Vec<FanoutReport>,
}

/// One figure of both servers.
#[derive(Clone, Debug, Serialize)]
struct Ratio {
    name: &'static str,
    a: f64,
    b: f64,
    ratio: f64,
    #[serde(skip)]
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Micros,
    Bytes,
    PerSecond,
}

impl CompareReport {
    pub(crate) fn is_clean(&self) -> bool {
        self.complete && self.a.iter().chain(&self.b).all(FanoutReport::is_clean)
    }
}

/// Runs both servers in turn.
pub(crate) fn run(
    args: &CompareArgs,
    mut next_run: impl FnMut() -> RunId,
    context: &Context,
) -> Result<CompareReport> {
    let servers = [read_server(&args.a)?, read_server(&args.b)?];
    let load = Load::new(&args.load);
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..args.rounds {
        for (server, reports) in servers.iter().zip(&mut runs) {
            let plan = Plan::make(server, &args.load.polls, next_run())?;
            if round > 0 || !reports.is_empty() || server.url != servers[0].url {
                rest(args.rest, context);
            }
            if context.stop.is_asked() {
                break;
            }
            let report = fanout::run(&plan, load, context)
                .with_context(|| format!("failed to measure {}", server.url))?;
            reports.push(report);
        }
    }
    let [a, b] = runs;
    if a.is_empty() || b.is_empty() {
        bail!("interrupted before both servers had their turn");
    }
    Ok(CompareReport {
        command: "compare",
        version: env!("CARGO_PKG_VERSION"),
        complete: !context.stop.is_asked(),
        ratios: ratios(&a, &b),
        a,
        b,
    })
}

fn rest(time: Duration, context: &Context) {
    let end = context.clock.now().plus(time);
    while context.clock.now() < end && !context.stop.is_asked() {
        thread::sleep(NAP.min(end.since(context.clock.now())));
    }
}

/// Reads `URL,DIALECT,PID[,PID…]`.
fn read_server(text: &str) -> Result<ServerArgs> {
    let mut parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let (Some(url), Some(dialect)) = (parts.next(), parts.next()) else {
        bail!("`{text}` is not of the form URL,DIALECT,PID[,PID…]");
    };
    let dialect = DialectName::from_str(dialect, true)
        .map_err(|_| anyhow::anyhow!("`{dialect}` is no dialect; there are lp and nchan"))?;
    let pids: Result<Vec<_>, String> = parts.map(parse_pid).collect();
    Ok(ServerArgs {
        url: url.to_owned(),
        dialect,
        subscribe_path: None,
        publish_url: None,
        metrics_url: None,
        server_pids: pids.map_err(anyhow::Error::msg)?,
    })
}

fn ratios(a: &[FanoutReport], b: &[FanoutReport]) -> Vec<Ratio> {
    type Figure = fn(&FanoutReport) -> Option<f64>;
    #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
    let after_delivery: Figure = |run| Some(run.memory_bytes?.per_poll_after_delivery? as f64);
    let figures: [(&'static str, Unit, Figure); 5] = [
        ("latency p50", Unit::Micros, |run| Some(run.latency_us?.p50)),
        ("latency p99", Unit::Micros, |run| Some(run.latency_us?.p99)),
        ("last receiver", Unit::Micros, |run| {
            Some(run.last_receiver_us?.p50)
        }),
        ("CPU per delivery", Unit::Micros, |run| {
            run.server_cpu?.us_per_delivery
        }),
        ("deliveries per second", Unit::PerSecond, |run| {
            Some(run.deliveries_per_second)
        }),
    ];
    let mut ratios: Vec<Ratio> = figures
        .into_iter()
        .filter_map(|(name, unit, figure)| {
            let a = median(a.iter().filter_map(figure))?;
            Ratio::of(name, unit, a, median(b.iter().filter_map(figure))?)
        })
        .collect();
    // Only the first run meets a fresh server; later ones reuse what the allocator kept.
    let fresh = |runs: &[FanoutReport]| runs.first().and_then(after_delivery);
    if let (Some(a), Some(b)) = (fresh(a), fresh(b)) {
        ratios.extend(Ratio::of("memory per poll", Unit::Bytes, a, b));
    }
    ratios
}

impl Ratio {
    fn of(name: &'static str, unit: Unit, a: f64, b: f64) -> Option<Self> {
        (b != 0.0).then(|| Self {
            name,
            a,
            b,
            ratio: a / b,
            unit,
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Micros if value < 1e3 => format!("{value:.2} µs"),
            Self::Micros => time(value),
            #[expect(clippy::cast_possible_truncation, reason = "shown in KB")]
            Self::Bytes => size(value as i64),
            Self::PerSecond => format!("{value:.0}/s"),
        }
    }
}

impl Report for CompareReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        for (name, runs) in [("A", &self.a), ("B", &self.b)] {
            for run in runs {
                let latency = run.latency_us.map_or(0.0, |spread| spread.p50);
                let last = run.last_receiver_us.map_or(0.0, |spread| spread.p50);
                table.row(
                    &format!("{name} {}", run.url),
                    format!(
                        "p50 {}, last {}, {:.0}/s, {} lost{}",
                        time(latency),
                        time(last),
                        run.deliveries_per_second,
                        run.losses + run.warmup_losses,
                        if run.complete { "" } else { ", PARTIAL" }
                    ),
                );
            }
        }
        table.gap();
        for ratio in &self.ratios {
            table.row(
                ratio.name,
                format!(
                    "A/B {:.2}   A {}   B {}",
                    ratio.ratio,
                    ratio.unit.show(ratio.a),
                    ratio.unit.show(ratio.b)
                ),
            );
        }
        if !self.is_clean() {
            table.gap();
            table.row(
                "DOES NOT COUNT",
                "messages were lost or a run was cut short",
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_server() {
        let server = read_server("http://127.0.0.1:8081,nchan,12,13").unwrap();
        assert_eq!(server.url, "http://127.0.0.1:8081");
        assert_eq!(server.dialect, DialectName::Nchan);
        assert_eq!(server.server_pids.len(), 2);
        assert!(read_server("http://a,lp").unwrap().server_pids.is_empty());
        for bad in ["", "http://a", "http://a,smtp,1", "http://a,lp,x"] {
            assert!(read_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
