//! The server's memory at the moments that matter, and its CPU time over the measured window.

use std::time::Duration;

use serde::Serialize;

use crate::server::{Cpu, CpuSource, Memory, MemorySource, Processes};

/// Samples of one run. A server whose processes were not given has none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    before: Option<Memory>,
    parked: Option<Memory>,
    after_delivery: Option<Memory>,
    end: Option<Memory>,
}

/// When memory is sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// Before the first connection.
    Before,
    /// Every poll waits for its first message.
    Parked,
    /// Every poll has been answered and waits again.
    AfterDelivery,
    End,
}

/// What the server's memory was; all in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemoryReport {
    pub(crate) source: MemorySource,
    pub(crate) before: u64,
    pub(crate) parked: Option<u64>,
    pub(crate) after_delivery: Option<u64>,
    pub(crate) end: Option<u64>,
    pub(crate) per_poll_parked: Option<i64>,
    pub(crate) per_poll_after_delivery: Option<i64>,
    pub(crate) per_poll_end: Option<i64>,
}

/// CPU time over the measured window.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CpuReport {
    pub(crate) source: CpuSource,
    pub(crate) seconds: f64,
    pub(crate) us_per_delivery: Option<f64>,
    pub(crate) us_per_answer: Option<f64>,
}

/// CPU time at the beginning of the window, of the server and of the generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuStart {
    server: Option<Cpu>,
    generator: Option<Cpu>,
}

impl Weights {
    /// Samples; a server that just died leaves a hole, which the report shows.
    pub(crate) fn sample(&mut self, moment: Moment, processes: &Processes) {
        if processes.is_empty() {
            return;
        }
        let memory = processes.memory().ok();
        match moment {
            Moment::Before => self.before = memory,
            Moment::Parked => self.parked = memory,
            Moment::AfterDelivery => self.after_delivery = memory,
            Moment::End => self.end = memory,
        }
    }

    pub(crate) fn report(&self, pollers: usize) -> Option<MemoryReport> {
        let before = self.before?;
        let bytes = |memory: Option<Memory>| {
            let memory = memory.filter(|memory| memory.source == before.source)?;
            Some(memory.bytes)
        };
        let per_poll = |memory: Option<Memory>| {
            let grown = i64::try_from(bytes(memory)?).ok()? - i64::try_from(before.bytes).ok()?;
            grown.checked_div(i64::try_from(pollers).ok()?)
        };
        Some(MemoryReport {
            source: before.source,
            before: before.bytes,
            parked: bytes(self.parked),
            after_delivery: bytes(self.after_delivery),
            end: bytes(self.end),
            per_poll_parked: per_poll(self.parked),
            per_poll_after_delivery: per_poll(self.after_delivery),
            per_poll_end: per_poll(self.end),
        })
    }
}

impl CpuStart {
    pub(crate) fn now(server: &Processes) -> Self {
        Self {
            server: (!server.is_empty()).then(|| server.cpu().ok()).flatten(),
            generator: Processes::myself().cpu().ok(),
        }
    }

    /// What the server and the generator spent since.
    pub(crate) fn until_now(
        self,
        server: &Processes,
        deliveries: u64,
        answers: u64,
    ) -> (Option<CpuReport>, Option<CpuReport>) {
        let report = |processes: &Processes, start: Option<Cpu>| {
            let (spent, source) = processes.cpu().ok()?.since(start?);
            Some(CpuReport {
                source,
                seconds: spent.as_secs_f64(),
                us_per_delivery: per(spent, deliveries),
                us_per_answer: per(spent, answers),
            })
        };
        (
            report(server, self.server),
            report(&Processes::myself(), self.generator),
        )
    }
}

fn per(spent: Duration, count: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let count = count as f64;
    (count > 0.0).then(|| spent.as_secs_f64() * 1e6 / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighs_by_poll_and_does_not_mix_sources() {
        let memory = |bytes, source| Some(Memory { bytes, source });
        let weights = Weights {
            before: memory(1000, MemorySource::Pss),
            parked: memory(3000, MemorySource::Pss),
            after_delivery: memory(9000, MemorySource::Rss),
            end: memory(500, MemorySource::Pss),
        };
        let report = weights.report(10).unwrap();
        assert_eq!(report.per_poll_parked, Some(200));
        assert_eq!(report.after_delivery, None);
        assert_eq!(report.per_poll_end, Some(-50));
        assert!(Weights::default().report(10).is_none());
        assert_eq!(per(Duration::from_micros(10), 0), None);
    }
}
