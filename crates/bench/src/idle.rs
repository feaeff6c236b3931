//! `idle`: hold polls and weigh the server.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::dialect::DialectName;
use crate::driver::{Context, Driver, Halt, REST_AFTER_WARMUP};
use crate::failure::Failures;
use crate::fanout::{explained, short_gauge};
use crate::plan::Plan;
use crate::server::Processes;
use crate::weigh::{CpuReport, CpuStart, MemoryReport, Moment, Weights};

/// Whether every connection answers once before the last weighing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Once,
    Never,
}

/// The result. Its field names are the keys of the JSON report and stay as they are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IdleReport {
    pub(crate) command: &'static str,
    pub(crate) version: &'static str,
    pub(crate) url: String,
    pub(crate) dialect: DialectName,
    pub(crate) pollers: usize,
    pub(crate) complete: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) parked: usize,
    pub(crate) hold_seconds: f64,
    pub(crate) delivered: u64,
    pub(crate) losses: u64,
    pub(crate) idle_answers: u64,
    pub(crate) reconnects: u64,
    pub(crate) reopens: u64,
    pub(crate) errors: Failures,
    pub(crate) publish_errors: Failures,
    pub(crate) processes: Processes,
    pub(crate) memory_bytes: Option<MemoryReport>,
    /// While holding only.
    pub(crate) server_cpu: Option<CpuReport>,
}

impl IdleReport {
    pub(crate) fn is_clean(&self) -> bool {
        self.complete && self.losses == 0 && self.publish_errors.is_empty()
    }
}

/// Runs to the end, or until Ctrl-C once all polls are parked.
pub(crate) fn run(
    plan: &Plan,
    hold: Duration,
    delivery: Delivery,
    context: &Context,
) -> Result<IdleReport> {
    let mut weights = Weights::default();
    let mut notes = Vec::new();
    let mut server_cpu = None;
    weights.sample(Moment::Before, &plan.processes);
    // Nothing is measured as a fan-out, so every publication is warm-up.
    let mut driver = Driver::new(plan, context, usize::MAX, 1)?;
    let mut phases = || -> Result<(), Halt> {
        driver.open_all()?;
        notes.extend(short_gauge(driver.wait_parked()?, plan));
        weights.sample(Moment::Parked, &plan.processes);
        if delivery == Delivery::Once {
            driver.warm_up(usize::try_from(plan.streams).unwrap_or(1))?;
            driver.keep_turning(REST_AFTER_WARMUP)?;
            notes.extend(short_gauge(driver.wait_parked()?, plan));
            weights.sample(Moment::AfterDelivery, &plan.processes);
        }
        let cpu = CpuStart::now(&plan.processes);
        let held = driver.hold(hold);
        (server_cpu, _) = cpu.until_now(&plan.processes, 0, 0);
        weights.sample(Moment::End, &plan.processes);
        held
    };
    let ended = phases();
    driver.finish();
    let swarm = &driver.swarm;
    let tally = swarm.tally();
    let complete = ended.is_ok();
    match ended {
        Ok(()) => {}
        Err(halt @ (Halt::Interrupted | Halt::Stalled(_))) => {
            if swarm.ready() < swarm.len() {
                bail!(
                    "{halt} while opening: {} of {} polls are parked, errors: {}",
                    swarm.ready(),
                    swarm.len(),
                    tally.failures
                );
            }
            notes.push(halt.to_string());
        }
        Err(halt) => return Err(explained(halt)),
    }
    Ok(IdleReport {
        command: "idle",
        version: env!("CARGO_PKG_VERSION"),
        url: plan.url.clone(),
        dialect: plan.dialect.name(),
        pollers: plan.pollers,
        complete,
        notes,
        parked: swarm.parked(),
        hold_seconds: hold.as_secs_f64(),
        delivered: tally.all_deliveries(),
        losses: tally.warmup_losses(),
        idle_answers: tally.counters.idle_answers,
        reconnects: tally.counters.reconnects,
        reopens: tally.counters.reopens,
        errors: tally.failures.clone(),
        publish_errors: tally.publish_failures.clone(),
        processes: plan.processes.clone(),
        memory_bytes: weights.report(plan.pollers),
        server_cpu,
    })
}
