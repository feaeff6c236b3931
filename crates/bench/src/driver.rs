//! Turns the swarm through the phases of a run and notices when nothing moves any more.

use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::failure::Failure;
use crate::metrics;
use crate::plan::{Pace, Plan};
use crate::progress::{Phase, Progress};
use crate::stop::Stop;
use crate::swarm::{Fatal, Makeup, Swarm};
use crate::tally::Tally;

/// The longest the generator sleeps, so that Ctrl-C and the progress bar get their turn.
pub(crate) const LONGEST_NAP: Duration = Duration::from_millis(100);
/// Epoll counts in milliseconds; what is due sooner is waited for awake.
const NAP_GRAIN: Duration = Duration::from_millis(1);
/// How often the server is asked for its gauge.
const GAUGE_INTERVAL: Duration = Duration::from_millis(20);
/// A gauge that is short after this time will stay short.
const GAUGE_PATIENCE: Duration = Duration::from_secs(5);

/// Longer than Pollux's default flush interval of 500 ms: a publication right behind the warm-up
/// would be held back to be coalesced, and would count as slow.
pub(crate) const REST_AFTER_WARMUP: Duration = Duration::from_secs(1);

/// What lives as long as the process.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
}

/// A swarm, and how to lead it.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    pub(crate) swarm: Swarm,
    plan: &'a Plan,
    context: &'a Context,
    progress: Progress,
    /// What had happened at the last change, and when that was.
    state: (usize, usize, Nanos, bool),
    changed: Nanos,
    /// The longest a publication came after its scheduled time.
    pub(crate) latest_start: Duration,
}

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    #[error("interrupted")]
    Interrupted,
    #[error("nothing happened for {0:?}")]
    Stalled(Duration),
    #[error("publishing was refused: {0}")]
    PublishRefused(Failure),
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl Halt {
    /// What to try, where there is something to try.
    pub(crate) const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::PublishRefused(failure) | Self::Fatal(Fatal::Refused(failure)) => {
                failure.advice()
            }
            _ => None,
        }
    }
}

/// How it was known that all polls are parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// The server's gauge said so.
    ByGauge,
    /// The server's gauge said less than what was sent.
    GaugeShort(u64),
    /// The server has no gauge; some time was given.
    BySettling,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        context: &'a Context,
        warmup: usize,
        in_flight: usize,
    ) -> Result<Self, Halt> {
        let makeup = Makeup {
            dialect: plan.dialect.clone(),
            tally: Tally::new(plan.run, plan.pollers_by_stream(), warmup),
            clock: context.clock,
            pollers: plan.pollers,
            streams: plan.streams,
            payload: plan.payload,
            in_flight,
        };
        Ok(Self {
            swarm: Swarm::new(makeup).map_err(Fatal::from)?,
            plan,
            context,
            progress: Progress::new(),
            state: (0, 0, Nanos::default(), true),
            changed: context.clock.now(),
            latest_start: Duration::ZERO,
        })
    }

    fn enter(&mut self, phase: Phase, length: usize) {
        let length = u64::try_from(length).unwrap_or(0);
        let now = self.context.clock.now();
        self.changed = now;
        self.progress.enter(phase, length, &self.swarm, now);
    }

    pub(crate) fn finish(&self) {
        self.progress.finish();
    }

    fn turn(&mut self, patience: Duration) -> Result<(), Halt> {
        if self.context.stop.is_asked() {
            return Err(Halt::Interrupted);
        }
        self.swarm.turn(patience.min(LONGEST_NAP))?;
        let now = self.context.clock.now();
        self.progress.update(&self.swarm, now);
        let tally = self.swarm.tally();
        let state = (
            self.swarm.ready(),
            tally.published(),
            tally.last_receipt(),
            self.swarm.can_publish(),
        );
        if state != self.state {
            self.state = state;
            self.changed = now;
        }
        Ok(())
    }

    fn turn_until(&mut self, done: impl Fn(&Swarm) -> bool) -> Result<(), Halt> {
        while !done(&self.swarm) {
            self.turn(LONGEST_NAP)?;
            self.check_for_stall()?;
        }
        Ok(())
    }

    fn check_for_stall(&self) -> Result<(), Halt> {
        let still = self.context.clock.now().since(self.changed);
        if still <= self.plan.timeout {
            return Ok(());
        }
        Err(Halt::Stalled(self.plan.timeout))
    }

    /// Opens all pollers, until each has sent a poll that can wait.
    pub(crate) fn open_all(&mut self) -> Result<(), Halt> {
        self.enter(Phase::Connecting, self.plan.pollers);
        self.swarm.connect_publisher();
        self.turn_until(|swarm| swarm.ready() == swarm.len())
    }

    /// Waits until the server holds all polls, by its gauge if it has one.
    pub(crate) fn wait_parked(&mut self) -> Result<Parked, Halt> {
        self.enter(Phase::Parking, self.plan.pollers);
        let wanted = u64::try_from(self.plan.pollers).unwrap_or(u64::MAX);
        let start = self.context.clock.now();
        loop {
            match metrics::parked_polls(&self.plan.metrics) {
                None => {
                    self.keep_turning(self.plan.settle)?;
                    return Ok(Parked::BySettling);
                }
                Some(parked) if parked >= wanted => return Ok(Parked::ByGauge),
                Some(parked) if self.context.clock.now().since(start) > GAUGE_PATIENCE => {
                    return Ok(Parked::GaugeShort(parked));
                }
                Some(_) => self.keep_turning(GAUGE_INTERVAL)?,
            }
        }
    }

    /// Keeps the polls going for some time, whether anything happens or not.
    pub(crate) fn keep_turning(&mut self, time: Duration) -> Result<(), Halt> {
        let end = self.context.clock.now().plus(time);
        loop {
            let left = end.since(self.context.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    pub(crate) fn hold(&mut self, time: Duration) -> Result<(), Halt> {
        self.enter(Phase::Holding, self.plan.pollers);
        self.keep_turning(time)
    }

    /// Publishes `count` times, as if it were not worth measuring.
    pub(crate) fn warm_up(&mut self, count: usize) -> Result<(), Halt> {
        self.enter(Phase::Warming, count);
        self.publish_when_answered(count, Duration::ZERO)
    }

    /// Publishes `count` times and waits for what was accepted.
    pub(crate) fn publish(&mut self, count: usize, pace: Pace) -> Result<(), Halt> {
        self.enter(Phase::Publishing, count);
        match pace {
            Pace::Answered(pause) => self.publish_when_answered(count, pause),
            Pace::PerSecond(rate) => self.publish_at(count, rate),
        }
    }

    fn publish_when_answered(&mut self, count: usize, pause: Duration) -> Result<(), Halt> {
        for index in 0..count {
            if index > 0 {
                self.keep_turning(pause)?;
            }
            self.swarm.publish();
            self.turn_until(|swarm| swarm.all_answered() && swarm.tally().latest_is_settled())?;
            self.check_publishing()?;
        }
        Ok(())
    }

    fn publish_at(&mut self, count: usize, rate: f64) -> Result<(), Halt> {
        let start = self.context.clock.now();
        for index in 0..count {
            #[expect(clippy::cast_precision_loss, reason = "a count of publications")]
            let due = start.plus(Duration::from_secs_f64(index as f64 / rate));
            loop {
                let now = self.context.clock.now();
                let left = due.since(now);
                if left.is_zero() && self.swarm.can_publish() {
                    self.latest_start = self.latest_start.max(now.since(due));
                    break;
                }
                self.turn(if left.is_zero() {
                    LONGEST_NAP
                } else {
                    left.saturating_sub(NAP_GRAIN)
                })?;
                if !self.swarm.can_publish() {
                    self.check_for_stall()?;
                }
            }
            self.check_publishing()?;
            self.swarm.publish();
        }
        let drained = self.turn_until(|swarm| swarm.all_answered() && swarm.tally().all_settled());
        match drained {
            // All was published and waited for. What is missing is lost, the run is complete.
            Err(Halt::Stalled(_)) if self.swarm.all_answered() => {}
            other => other?,
        }
        self.check_publishing()
    }

    /// A server that has never taken a publication will not take the next one either.
    fn check_publishing(&self) -> Result<(), Halt> {
        let tally = self.swarm.tally();
        match tally.publish_failures.most_frequent() {
            Some(failure) if !tally.ever_accepted() => Err(Halt::PublishRefused(failure)),
            _ => Ok(()),
        }
    }

    /// Gives the pollers time to send their next polls, and the server to take them.
    pub(crate) fn calm_down(&mut self) -> Result<(), Halt> {
        let start = self.context.clock.now();
        while self.swarm.parked() < self.plan.pollers
            && self.context.clock.now().since(start) < GAUGE_PATIENCE
        {
            self.turn(GAUGE_INTERVAL)?;
        }
        self.keep_turning(self.plan.settle)
    }
}
