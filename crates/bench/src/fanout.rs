//! `fanout`: open, park, warm up, publish, count.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Nanos;
use crate::dialect::{Cursor, DialectName};
use crate::driver::{Context, Driver, Halt, Parked, REST_AFTER_WARMUP};
use crate::failure::Failures;
use crate::plan::{Load, Pace, Plan};
use crate::server::Processes;
use crate::tally::Tally;
use crate::weigh::{CpuReport, CpuStart, MemoryReport, Moment, Weights};

/// A schedule missed by this much was not the load that was asked for.
const NOTABLE_LAG: Duration = Duration::from_millis(100);

/// The result of one run. Its field names are the keys of the JSON report and stay as they are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FanoutReport {
    pub(crate) command: &'static str,
    pub(crate) version: &'static str,
    pub(crate) url: String,
    pub(crate) dialect: DialectName,
    pub(crate) cursor: bool,
    pub(crate) pollers: usize,
    pub(crate) streams: u32,
    pub(crate) publications: u32,
    pub(crate) warmup: u32,
    /// Publications a second; 0: the next one when all have the last one.
    pub(crate) rate: f64,
    pub(crate) pause_ms: f64,
    /// Publications that could wait for their answer at the same time.
    pub(crate) in_flight: usize,
    pub(crate) payload_bytes: usize,
    /// Everything that was to be published was, and it was waited for.
    pub(crate) complete: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) opening_seconds: f64,
    /// Measured publications, over all streams.
    pub(crate) published: usize,
    pub(crate) accepted: usize,
    pub(crate) expected: u64,
    pub(crate) deliveries: u64,
    pub(crate) losses: u64,
    pub(crate) warmup_losses: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    pub(crate) foreign: u64,
    pub(crate) server_gaps: u64,
    pub(crate) answers: u64,
    pub(crate) idle_answers: u64,
    pub(crate) reconnects: u64,
    pub(crate) reopens: u64,
    pub(crate) errors: Failures,
    pub(crate) publish_errors: Failures,
    /// First measured publish call to last receipt, without the pauses that were asked for.
    pub(crate) seconds: f64,
    pub(crate) deliveries_per_second: f64,
    /// Publish call to receipt at a poller.
    pub(crate) latency_us: Option<Spread>,
    /// Publish call to the last receipt of the same publication.
    pub(crate) last_receiver_us: Option<Spread>,
    /// Publish call to the server's answer to it.
    pub(crate) publish_us: Option<Spread>,
    /// With a rate: the longest a publication had to wait for the one before it.
    pub(crate) schedule_lag_us: f64,
    pub(crate) processes: Processes,
    pub(crate) memory_bytes: Option<MemoryReport>,
    pub(crate) server_cpu: Option<CpuReport>,
    pub(crate) generator_cpu: Option<CpuReport>,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// What the phases leave behind, as far as they came.
#[derive(Debug, Default)]
struct Trace {
    weights: Weights,
    notes: Vec<String>,
    opened: Option<Nanos>,
    server_cpu: Option<CpuReport>,
    generator_cpu: Option<CpuReport>,
}

impl FanoutReport {
    /// All that was accepted arrived, and all that was to be published was accepted.
    pub(crate) fn is_clean(&self) -> bool {
        self.complete
            && self.losses == 0
            && self.warmup_losses == 0
            && self.publish_errors.is_empty()
            && self.deliveries > 0
    }
}

/// Runs to the end, or as far as it goes; fails only if there is nothing to report.
pub(crate) fn run(plan: &Plan, load: Load, context: &Context) -> Result<FanoutReport> {
    let began = context.clock.now();
    let streams = usize::try_from(plan.streams)?;
    let warmup = usize::try_from(load.warmup)? * streams;
    let mut trace = Trace::default();
    trace.weights.sample(Moment::Before, &plan.processes);
    let mut driver = Driver::new(plan, context, warmup, load.in_flight)?;
    let ended = phases(&mut driver, plan, load, &mut trace, context);
    driver.finish();
    let complete = ended.is_ok();
    match ended {
        Ok(()) => {}
        Err(halt @ (Halt::Interrupted | Halt::Stalled(_))) => {
            let swarm = &driver.swarm;
            if swarm.tally().published() == 0 {
                bail!(
                    "{halt} while opening: {} of {} polls are parked, errors: {}",
                    swarm.ready(),
                    swarm.len(),
                    swarm.tally().failures
                );
            }
            trace.notes.push(halt.to_string());
        }
        Err(halt) => return Err(explained(halt)),
    }
    let opening = trace.opened.unwrap_or(began).since(began);
    let mut report = assemble(plan, load, &driver, trace);
    report.complete = complete;
    report.opening_seconds = opening.as_secs_f64();
    Ok(report)
}

fn phases(
    driver: &mut Driver<'_>,
    plan: &Plan,
    load: Load,
    trace: &mut Trace,
    context: &Context,
) -> Result<(), Halt> {
    let streams = usize::try_from(plan.streams).unwrap_or(1);
    let count = |each: u32| usize::try_from(each).unwrap_or(usize::MAX) * streams;
    driver.open_all()?;
    trace.opened = Some(context.clock.now());
    trace.notes.extend(short_gauge(driver.wait_parked()?, plan));
    trace.weights.sample(Moment::Parked, &plan.processes);
    if load.warmup > 0 {
        driver.warm_up(count(load.warmup))?;
        driver.keep_turning(REST_AFTER_WARMUP)?;
        trace.notes.extend(short_gauge(driver.wait_parked()?, plan));
        trace.weights.sample(Moment::AfterDelivery, &plan.processes);
    }
    let cpu = CpuStart::now(&plan.processes);
    let published = driver.publish(count(load.publications), load.pace);
    // Also what a run that broke off has cost is worth knowing.
    let calmed = published.and_then(|()| driver.calm_down());
    let tally = driver.swarm.tally();
    let (deliveries, answers) = (tally.latency().len(), tally.counters.answers);
    (trace.server_cpu, trace.generator_cpu) = cpu.until_now(&plan.processes, deliveries, answers);
    trace.weights.sample(Moment::End, &plan.processes);
    calmed
}

/// A sentence if the server's gauge did not confirm that all polls are parked.
pub(crate) fn short_gauge(parked: Parked, plan: &Plan) -> Option<String> {
    match parked {
        Parked::GaugeShort(held) => Some(format!(
            "the server says it holds {held} polls of {}",
            plan.pollers
        )),
        Parked::ByGauge | Parked::BySettling => None,
    }
}

/// The error with what to try, where there is something to try.
pub(crate) fn explained(halt: Halt) -> anyhow::Error {
    match halt.advice() {
        Some(advice) => anyhow!("{halt}; {advice}"),
        None => halt.into(),
    }
}

fn assemble(plan: &Plan, load: Load, driver: &Driver<'_>, trace: Trace) -> FanoutReport {
    let tally = driver.swarm.tally();
    let counters = tally.counters;
    let measured = tally.measured();
    let seconds = active_time(tally, load.pace).as_secs_f64();
    let deliveries = tally.latency().len();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = deliveries as f64 / seconds.max(1e-9);
    let lag = driver.latest_start;
    let mut notes = trace.notes;
    if lag > NOTABLE_LAG {
        notes.push(format!(
            "publications came up to {:.1} s late, the server was slow to answer them; \
             more may be under way at once with --in-flight",
            lag.as_secs_f64()
        ));
    }
    let (rate, pause) = match load.pace {
        Pace::PerSecond(rate) => (rate, 0.0),
        Pace::Answered(pause) => (0.0, pause.as_secs_f64() * 1e3),
    };
    FanoutReport {
        command: "fanout",
        version: env!("CARGO_PKG_VERSION"),
        url: plan.url.clone(),
        dialect: plan.dialect.name(),
        cursor: plan.cursor == Cursor::Echo,
        pollers: plan.pollers,
        streams: plan.streams,
        publications: load.publications,
        warmup: load.warmup,
        rate,
        pause_ms: pause,
        in_flight: load.in_flight,
        payload_bytes: plan.payload,
        complete: false,
        notes,
        opening_seconds: 0.0,
        published: measured.len(),
        accepted: measured.iter().filter(|one| one.accepted.is_some()).count(),
        expected: tally.expected_deliveries(),
        deliveries,
        losses: tally.losses(),
        warmup_losses: tally.warmup_losses(),
        duplicates: counters.duplicates,
        out_of_order: counters.out_of_order,
        foreign: counters.foreign,
        server_gaps: counters.gaps,
        answers: counters.answers,
        idle_answers: counters.idle_answers,
        reconnects: counters.reconnects,
        reopens: counters.reopens,
        errors: tally.failures.clone(),
        publish_errors: tally.publish_failures.clone(),
        seconds,
        deliveries_per_second: if deliveries > 0 { per_second } else { 0.0 },
        latency_us: Spread::of(tally.latency()),
        last_receiver_us: last_receivers(tally),
        publish_us: Spread::of_times(measured.iter().filter_map(|one| {
            let accepted = one.accepted?;
            Some(micros(accepted.since(one.sent).as_secs_f64()))
        })),
        schedule_lag_us: micros(lag.as_secs_f64()),
        processes: plan.processes.clone(),
        memory_bytes: trace.weights.report(plan.pollers),
        server_cpu: trace.server_cpu,
        generator_cpu: trace.generator_cpu,
    }
}

fn active_time(tally: &Tally, pace: Pace) -> Duration {
    let measured = tally.measured();
    match (pace, measured.first()) {
        (Pace::PerSecond(_), Some(first)) => tally.last_receipt().since(first.sent),
        // One at a time, so what lies between them is pause.
        _ => measured.iter().map(|one| one.last.since(one.sent)).sum(),
    }
}

fn last_receivers(tally: &Tally) -> Option<Spread> {
    let reached = tally.measured().iter().filter(|one| one.received > 0);
    Spread::of_times(reached.map(|one| micros(one.last.since(one.sent).as_secs_f64())))
}

fn micros(seconds: f64) -> f64 {
    seconds * 1e6
}

impl Spread {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 nanoseconds")]
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            min: micros(histogram.min()),
            p50: micros(histogram.value_at_quantile(0.5)),
            p90: micros(histogram.value_at_quantile(0.9)),
            p99: micros(histogram.value_at_quantile(0.99)),
            max: micros(histogram.max()),
        })
    }

    pub(crate) fn of_times(times: impl Iterator<Item = f64>) -> Option<Self> {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        let at =
            |percent: usize| times[(times.len() * percent).div_ceil(100).clamp(1, last + 1) - 1];
        Some(Self {
            min: times[0],
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: times[last],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_few_times() {
        assert!(Spread::of_times(std::iter::empty()).is_none());
        let one = Spread::of_times([7.0].into_iter()).unwrap();
        assert_eq!((one.min, one.p50, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
        let many = Spread::of_times((1..=200).rev().map(f64::from)).unwrap();
        assert_eq!((many.p50, many.p90), (100.0, 180.0));
        assert_eq!((many.p99, many.max), (198.0, 200.0));
    }
}
