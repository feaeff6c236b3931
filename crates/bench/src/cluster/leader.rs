//! Turns the fleet through the phases of a run and notices when nothing moves any more.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::args::DoorName;
use super::fleet::{Fleet, Layout};
use super::setup::Setup;
use crate::clock::Nanos;
use crate::driver::{Context, Halt, LONGEST_NAP};
use crate::failure::Failures;
use crate::fanout::explained;
use crate::mark::RunId;
use crate::tally::Tally;

/// A fleet, and how to lead it.
#[derive(Debug)]
pub(super) struct Leader<'a> {
    pub(super) fleet: Fleet,
    pub(super) setup: &'a Setup,
    pub(super) context: &'a Context,
    /// What had happened at the last change, and when that was.
    state: (usize, usize, u64, bool),
    changed: Nanos,
}

/// How fast to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Publications a second; 0: as many as possible.
    pub(super) rate: f64,
    /// Publications that one node's subscribers may have to come yet.
    pub(super) ahead: u64,
}

/// A run that is over.
#[derive(Debug)]
pub(super) enum Ended {
    Complete,
    /// Figures are of what happened until then.
    Early(String),
}

impl<'a> Leader<'a> {
    /// Opens all pollers and gives the nodes time to come to rest. `door` is any door.
    pub(super) fn open(
        setup: &'a Setup,
        layout: Layout,
        streams: u32,
        door: DoorName,
        context: &'a Context,
    ) -> Result<Self> {
        let door = setup.open(door, 1)?;
        let mut leader = Self {
            fleet: Fleet::new(setup, layout, streams, door, context.clock)?,
            setup,
            context,
            state: (0, 0, 0, true),
            changed: context.clock.now(),
        };
        let opened = leader
            .turn_until(|fleet| fleet.ready() == fleet.len())
            .and_then(|()| leader.keep_turning(setup.settle));
        match opened {
            Ok(()) => Ok(leader),
            Err(halt @ (Halt::Interrupted | Halt::Stalled(_))) => {
                let fleet = &leader.fleet;
                let mut failures = Failures::default();
                fleet
                    .tallies()
                    .for_each(|tally| failures.add(&tally.failures));
                bail!(
                    "{halt} while opening: {} of {} polls are parked, errors: {failures}",
                    fleet.ready(),
                    fleet.len()
                )
            }
            Err(halt) => Err(explained(halt)),
        }
    }

    /// Begins with another door and warms it up with `publish`, which publishes so many times.
    pub(super) fn begin(
        &mut self,
        door: DoorName,
        in_flight: usize,
        run: RunId,
        publish: impl FnOnce(&mut Self, usize) -> Result<(), Halt>,
    ) -> Result<Ended> {
        let door = self.setup.open(door, in_flight)?;
        let warmup = self.setup.warmup;
        self.fleet
            .begin(door, run, warmup)
            .map_err(|failure| explained(Halt::PublishRefused(failure)))?;
        let warmed_up = publish(self, warmup).and_then(|()| self.keep_turning(self.setup.settle));
        self.end(warmed_up)
    }

    /// Sorts the end of a phase: what leaves something to report is no error.
    pub(super) fn end(&self, phase: Result<(), Halt>) -> Result<Ended> {
        match phase {
            Ok(()) => Ok(Ended::Complete),
            Err(halt @ (Halt::Interrupted | Halt::Stalled(_))) => {
                Ok(Ended::Early(halt.to_string()))
            }
            Err(halt) => {
                let explained = explained(halt);
                Err(match self.fleet.door().refusal() {
                    Some(words) => anyhow!("{explained} (Redis says: {words})"),
                    None => explained,
                })
            }
        }
    }

    fn turn(&mut self, patience: Duration) -> Result<(), Halt> {
        if self.context.stop.is_asked() {
            return Err(Halt::Interrupted);
        }
        self.fleet.turn(patience.min(LONGEST_NAP))?;
        let state = (
            self.fleet.ready(),
            self.fleet.tallies().map(Tally::published).sum(),
            self.fleet.tallies().map(Tally::all_deliveries).sum(),
            self.fleet.door().has_room(),
        );
        if state != self.state {
            self.state = state;
            self.changed = self.context.clock.now();
        }
        Ok(())
    }

    /// Turns once, and fails if nothing has happened for too long.
    fn wait(&mut self, patience: Duration) -> Result<(), Halt> {
        self.turn(patience)?;
        let still = self.context.clock.now().since(self.changed);
        if still > self.setup.timeout {
            return Err(Halt::Stalled(self.setup.timeout));
        }
        Ok(())
    }

    fn turn_until(&mut self, done: impl Fn(&Fleet) -> bool) -> Result<(), Halt> {
        self.changed = self.context.clock.now();
        while !done(&self.fleet) {
            self.wait(LONGEST_NAP)?;
        }
        Ok(())
    }

    /// Keeps the polls going for some time, whether anything happens or not.
    pub(super) fn keep_turning(&mut self, time: Duration) -> Result<(), Halt> {
        let end = self.context.clock.now().plus(time);
        loop {
            let left = end.since(self.context.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    /// Publishes `count` times, each time after all have the last one and have polled again.
    pub(super) fn publish_each(&mut self, count: usize, pause: Duration) -> Result<(), Halt> {
        for _ in 0..count {
            self.keep_turning(pause)?;
            self.fleet.publish();
            self.fleet.send();
            self.turn_until(|fleet| fleet.is_settled() || is_refused(fleet))?;
            self.check_publishing()?;
        }
        Ok(())
    }

    /// Publishes `count` times and waits until all have everything.
    pub(super) fn publish_all(&mut self, count: usize, pace: Pace) -> Result<(), Halt> {
        self.changed = self.context.clock.now();
        let start = self.changed;
        for index in 0..count {
            while let Some(patience) = self.hindrance(pace, start, index) {
                self.fleet.send();
                self.check_publishing()?;
                self.wait(patience)?;
            }
            self.fleet.publish();
        }
        self.fleet.send();
        self.turn_until(|fleet| fleet.is_settled() || is_refused(fleet))?;
        self.check_publishing()
    }

    /// How long to wait at most before looking again whether one more may be published.
    fn hindrance(&mut self, pace: Pace, start: Nanos, index: usize) -> Option<Duration> {
        if !self.fleet.door().has_room() || self.fleet.behind() >= pace.ahead {
            return Some(LONGEST_NAP);
        }
        if pace.rate > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "a count of publications")]
            let due = start.plus(Duration::from_secs_f64(index as f64 / pace.rate));
            let now = self.context.clock.now();
            // Nothing has to happen before the time has come.
            self.changed = now;
            let left = due.since(now);
            return (!left.is_zero()).then_some(left);
        }
        None
    }

    /// A door that has never taken a publication will not take the next one either.
    fn check_publishing(&self) -> Result<(), Halt> {
        match refused_by(&self.fleet) {
            Some(halt) if is_refused(&self.fleet) => Err(halt),
            _ => Ok(()),
        }
    }
}

fn refused_by(fleet: &Fleet) -> Option<Halt> {
    let tally = fleet.tallies().next()?;
    tally
        .publish_failures
        .most_frequent()
        .map(Halt::PublishRefused)
}

/// Everything so far was refused.
fn is_refused(fleet: &Fleet) -> bool {
    fleet
        .tallies()
        .next()
        .is_some_and(|tally| !tally.publish_failures.is_empty() && !tally.ever_accepted())
}
