//! Reports as tables for people and as one JSON object for programs.

use std::fs;
use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cli::OutputArgs;
use crate::fanout::{FanoutReport, Spread};
use crate::idle::IdleReport;
use crate::server::{CpuSource, MemorySource};
use crate::table::{Table, grouped, size, time};
use crate::weigh::{CpuReport, MemoryReport};

/// A generator this busy may be what was measured.
pub(crate) const BUSY_GENERATOR: f64 = 0.95;

/// Something that can be printed in both forms.
pub(crate) trait Report: Serialize {
    fn table(&self) -> Table;
}

/// Prints to standard output, and writes the file if one was asked for.
pub(crate) fn print(report: &impl Report, args: &OutputArgs) -> Result<()> {
    let json = serde_json::to_string(report)?;
    if let Some(path) = &args.output {
        fs::write(path, format!("{json}\n"))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    let mut out = io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{json}")
    } else {
        write!(out, "{}", report.table())
    };
    match written.and_then(|()| out.flush()) {
        // Whoever read us has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("failed to print the report"),
    }
}

impl Report for FanoutReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        table.row(
            "server",
            format!(
                "{} ({})",
                self.url,
                format!("{:?}", self.dialect).to_lowercase()
            ),
        );
        table.row(
            "pollers",
            format!(
                "{} on {} stream(s), opened in {:.2} s",
                grouped(u64::try_from(self.pollers).unwrap_or(u64::MAX)),
                self.streams,
                self.opening_seconds
            ),
        );
        let pace = if self.rate > 0.0 {
            format!("{} a second", self.rate)
        } else {
            "each when all have the last".to_owned()
        };
        table.row(
            "publications",
            format!(
                "{} accepted of {} sent, {} bytes, {pace}",
                self.accepted, self.published, self.payload_bytes
            ),
        );
        table.gap();
        table.row(
            "deliveries",
            format!("{} of {}", grouped(self.deliveries), grouped(self.expected)),
        );
        table.row("losses", grouped(self.losses));
        if self.warmup_losses > 0 {
            table.row("lost in warm-up", grouped(self.warmup_losses));
        }
        table.row("duplicates", grouped(self.duplicates));
        table.row("out of order", grouped(self.out_of_order));
        if self.foreign > 0 {
            table.row("of other runs", grouped(self.foreign));
        }
        if self.server_gaps > 0 {
            table.row("gaps the server admits", grouped(self.server_gaps));
        }
        table.row("answers", answers(self));
        connections(&mut table, self.reconnects, self.reopens);
        table.row("errors", &self.errors);
        if !self.publish_errors.is_empty() {
            table.row("publish errors", &self.publish_errors);
        }
        table.gap();
        spread(&mut table, "latency", self.latency_us, "p50", "p99");
        spread(
            &mut table,
            "last receiver",
            self.last_receiver_us,
            "median",
            "p99",
        );
        spread(&mut table, "publish answer", self.publish_us, "p50", "p99");
        if self.rate > 0.0 {
            table.row(
                "behind schedule",
                format!("at most {}", time(self.schedule_lag_us)),
            );
        }
        table.row(
            "throughput",
            format!(
                "{:.0} deliveries/s over {:.3} s",
                self.deliveries_per_second, self.seconds
            ),
        );
        if self.server_cpu.is_some() || self.generator_cpu.is_some() {
            table.gap();
            cpu(&mut table, "server CPU", self.server_cpu);
            cpu(&mut table, "generator CPU", self.generator_cpu);
        }
        if let Some(generator) = self.generator_cpu
            && self.seconds > 0.0
            && generator.seconds / self.seconds > BUSY_GENERATOR
        {
            table.row(
                "",
                "the generator used a whole core: it may have been the limit",
            );
        }
        memory(&mut table, self.memory_bytes);
        notes(&mut table, self.complete, &self.notes);
        table
    }
}

impl Report for IdleReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        table.row(
            "server",
            format!(
                "{} ({})",
                self.url,
                format!("{:?}", self.dialect).to_lowercase()
            ),
        );
        table.row(
            "parked polls",
            format!("{} of {}", self.parked, self.pollers),
        );
        table.row("held for", format!("{} s", self.hold_seconds));
        table.row("messages received", grouped(self.delivered));
        if self.losses > 0 {
            table.row("losses", grouped(self.losses));
        }
        table.row("polls that timed out", grouped(self.idle_answers));
        connections(&mut table, self.reconnects, self.reopens);
        table.row("errors", &self.errors);
        if !self.publish_errors.is_empty() {
            table.row("publish errors", &self.publish_errors);
        }
        if let Some(server) = self.server_cpu {
            table.row("server CPU while held", format!("{:.3} s", server.seconds));
        }
        memory(&mut table, self.memory_bytes);
        notes(&mut table, self.complete, &self.notes);
        table
    }
}

fn answers(report: &FanoutReport) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let each = report.deliveries as f64 / report.answers.max(1) as f64;
    format!(
        "{} with {each:.2} messages each, {} that timed out",
        grouped(report.answers),
        grouped(report.idle_answers)
    )
}

fn connections(table: &mut Table, reconnects: u64, reopens: u64) {
    table.row(
        "connections",
        format!(
            "{} reconnects, {} sessions opened again",
            grouped(reconnects),
            grouped(reopens)
        ),
    );
}

fn spread(table: &mut Table, label: &str, spread: Option<Spread>, middle: &str, high: &str) {
    if let Some(spread) = spread {
        table.row(
            label,
            format!(
                "{middle} {}, {high} {}, max {}",
                time(spread.p50),
                time(spread.p99),
                time(spread.max)
            ),
        );
    }
}

fn cpu(table: &mut Table, label: &str, cpu: Option<CpuReport>) {
    let Some(cpu) = cpu else {
        return;
    };
    let source = match cpu.source {
        CpuSource::Schedstat => "schedstat",
        CpuSource::Stat => "stat, 10 ms ticks",
    };
    let each = match (cpu.us_per_delivery, cpu.us_per_answer) {
        (Some(delivery), Some(answer)) => {
            format!("{delivery:.2} µs a delivery, {answer:.2} µs an answer, ")
        }
        _ => String::new(),
    };
    table.row(
        label,
        format!("{each}{:.3} s in all ({source})", cpu.seconds),
    );
}

fn memory(table: &mut Table, memory: Option<MemoryReport>) {
    let Some(memory) = memory else {
        return;
    };
    table.gap();
    let source = match memory.source {
        MemorySource::Pss => "PSS",
        MemorySource::Rss => "RSS",
    };
    let bytes = |bytes: u64| size(i64::try_from(bytes).unwrap_or(i64::MAX));
    table.row(&format!("{source} before"), bytes(memory.before));
    for (moment, total, each) in [
        ("parked", memory.parked, memory.per_poll_parked),
        (
            "after a delivery",
            memory.after_delivery,
            memory.per_poll_after_delivery,
        ),
        ("at the end", memory.end, memory.per_poll_end),
    ] {
        if let (Some(total), Some(each)) = (total, each) {
            let value = format!("{}, {} a poll", bytes(total), size(each));
            table.row(&format!("{source} {moment}"), value);
        }
    }
}

fn notes(table: &mut Table, complete: bool, notes: &[String]) {
    if complete && notes.is_empty() {
        return;
    }
    table.gap();
    if !complete {
        table.row(
            "PARTIAL",
            "the run ended early; figures are of what happened so far",
        );
    }
    for note in notes {
        table.row("note", note);
    }
}
