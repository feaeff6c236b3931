//! The progress bar: on stderr, and only if somebody looks at it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Nanos;
use crate::swarm::Swarm;

/// Between two drawings; drawing takes time from the measurement.
const INTERVAL: Duration = Duration::from_millis(200);
const TEMPLATE: &str = "{prefix:>12} [{bar:40}] {pos}/{len} {msg}";

/// What the run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Parking,
    Warming,
    Publishing,
    Holding,
}

/// A bar that shows one phase at a time.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    phase: Phase,
    /// Publications and deliveries when the phase began.
    base: (u64, u64),
    began: Nanos,
    drawn: Nanos,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Parking => "parked",
            Self::Warming => "warming up",
            Self::Publishing => "published",
            Self::Holding => "holding",
        }
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            phase: Phase::Connecting,
            base: (0, 0),
            began: Nanos::default(),
            drawn: Nanos::default(),
        }
    }

    /// A new phase of `length` pollers or publications begins.
    pub(crate) fn enter(&mut self, phase: Phase, length: u64, swarm: &Swarm, now: Nanos) {
        self.phase = phase;
        self.base = counts(swarm);
        self.began = now;
        self.drawn = Nanos::default();
        self.bar.set_message("");
        self.bar.set_position(0);
        self.bar.set_length(length);
        self.bar.set_prefix(phase.name());
        self.update(swarm, now);
    }

    pub(crate) fn update(&mut self, swarm: &Swarm, now: Nanos) {
        if self.bar.is_hidden() || (self.drawn > self.began && now.since(self.drawn) < INTERVAL) {
            return;
        }
        self.drawn = now;
        let (published, delivered) = counts(swarm);
        let seconds = now.since(self.began).as_secs_f64().max(f64::EPSILON);
        match self.phase {
            Phase::Connecting => {
                let (started, ready) = (swarm.started(), swarm.ready());
                self.bar.set_position(u64::try_from(ready).unwrap_or(0));
                self.bar
                    .set_message(format!("parked, {} connecting", started - ready));
            }
            Phase::Parking | Phase::Holding => {
                let parked = swarm.parked();
                self.bar.set_position(u64::try_from(parked).unwrap_or(0));
                self.bar.set_message("");
            }
            Phase::Warming | Phase::Publishing => {
                self.bar.set_position(published - self.base.0);
                let delivered = delivered - self.base.1;
                #[expect(clippy::cast_precision_loss, reason = "shown without decimals")]
                let rate = delivered as f64 / seconds;
                self.bar
                    .set_message(format!("delivered {delivered}, {rate:.0}/s"));
            }
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn counts(swarm: &Swarm) -> (u64, u64) {
    let tally = swarm.tally();
    let published = u64::try_from(tally.published()).unwrap_or(0);
    (published, tally.all_deliveries())
}
