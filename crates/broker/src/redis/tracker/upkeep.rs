//! What has to be looked at every now and then.

use super::{
    super::{
        link::{LinkId, Order},
        place::Place,
        table::Phase,
    },
    Control, Tracker,
};
use crate::event::Event;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::warn;

impl Tracker {
    pub(super) async fn on_tick(&mut self) {
        let now = Instant::now();
        self.leave_idle(now);
        self.check_silent(now);
        let overflowed = self.health.overflowed.swap(0, Ordering::Relaxed);
        if overflowed > 0 {
            warn!(
                overflowed,
                "This node is too slow for Redis; what it left out is read from history"
            );
            self.read_all();
            self.send(Event::Gap {
                stream: None,
                missed: overflowed,
            })
            .await;
        }
        self.read_some();
        if self.place.is_cluster() && self.map_due <= now && !self.map_asked {
            self.ask_for_map(now);
        }
        if matches!(*self.place, Place::Sentinels(_)) && self.master_due <= now {
            self.master_due = now + self.config.discovery_interval;
            let (place, control) = (Arc::clone(&self.place), self.control_sender.clone());
            tokio::spawn(async move {
                let master = place.locate().await;
                let address = master.ok().map(|info| Place::address(&info));
                drop(control.send(Control::Master(address)).await);
            });
        }
    }

    pub(super) fn read_all(&mut self) {
        for (name, stream) in &mut self.table.lock().known {
            if stream.phase == Phase::Listening {
                self.readings.want(name.clone(), stream);
            }
        }
    }

    pub(super) fn leave_idle(&self, now: Instant) {
        let gone = self.table.lock().expire(now);
        let mut by_link: HashMap<LinkId, Vec<String>> = HashMap::new();
        for (name, stream) in gone {
            if let (Some(link), Phase::Sent | Phase::Listening) = (stream.link, stream.phase) {
                by_link
                    .entry(link)
                    .or_default()
                    .push(self.names.channel(&name));
            }
        }
        for (link, channels) in by_link {
            if let Some(orders) = self.orders(link) {
                drop(orders.send(Order::Leave(channels)));
            }
        }
    }

    /// Compares streams with their logs that said nothing for a while: the
    /// last publication before a silence may be what was missed.
    pub(super) fn check_silent(&mut self, now: Instant) {
        let every = self.config.check_interval;
        let mut streams = self.table.lock();
        while let Some((due, _)) = self.checks.front() {
            if *due > now {
                break;
            }
            let Some((_, name)) = self.checks.pop_front() else {
                break;
            };
            let Some(stream) = streams.known.get_mut(&name) else {
                continue;
            };
            let silent_since = stream.heard + every;
            let next = if silent_since > now {
                silent_since
            } else {
                if stream.phase == Phase::Listening {
                    self.readings.want(name.clone(), stream);
                }
                now + every
            };
            self.checks.push_back((next, name));
        }
    }
}

/// A random half to whole of the time, so that streams that were subscribed
/// together are not checked together.
pub(super) fn spread(time: Duration) -> Duration {
    let mut random = [0; 1];
    let share = getrandom::fill(&mut random).map_or(0, |()| random[0]);
    time / 2 + time * u32::from(share) / 510
}
