//! Which link has which slot.

use super::{
    super::{
        link::{LinkId, Order},
        names::{SLOTS, slot},
        reading::{list, number, text},
        table::Phase,
    },
    Control, MAP_EVERY, Tracker,
};
use ::redis::Value;
use std::{collections::HashMap, sync::Arc};
use tokio::time::Instant;
use tracing::{debug, info};

/// Ranges of slots and the masters that have them.
pub(crate) type Map = Vec<(u16, u16, String, u16)>;

/// See the module's head.
#[derive(Debug)]
pub(super) enum Routes {
    /// One link has everything.
    One,
    /// A link for each master.
    Slots {
        map: Map,
        links: Vec<Option<LinkId>>,
        by_address: HashMap<(String, u16), LinkId>,
    },
}

impl Routes {
    pub(super) fn new(is_cluster: bool) -> Self {
        if !is_cluster {
            return Self::One;
        }
        Self::Slots {
            map: Vec::new(),
            links: vec![None; usize::from(SLOTS)],
            by_address: HashMap::new(),
        }
    }

    /// The link for a channel, if there is one.
    pub(super) fn link_of(&self, channel: &str) -> Option<LinkId> {
        match self {
            Self::One => Some(0),
            Self::Slots { links, .. } => {
                links.get(usize::from(slot(channel.as_bytes()))).copied()?
            }
        }
    }

    /// Whether every slot has a link.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::One => true,
            Self::Slots { map, .. } => {
                let slots = map
                    .iter()
                    .map(|(first, last, ..)| u32::from(last - first) + 1);
                slots.sum::<u32>() == u32::from(SLOTS)
            }
        }
    }
}

impl Tracker {
    /// Asks the cluster where its slots are.
    pub(super) fn ask_for_map(&mut self, now: Instant) {
        self.map_asked = true;
        self.map_due = now + MAP_EVERY;
        let (commands, control) = (Arc::clone(&self.commands), self.control_sender.clone());
        tokio::spawn(async move {
            let mut ask = ::redis::cmd("CLUSTER");
            ask.arg("SLOTS");
            let answer = match commands.pooled().await {
                Ok(mut lane) => lane.send(&ask).await,
                Err(error) => Err(error),
            };
            let map = match answer {
                Ok(answer) => parse(&answer),
                Err(error) => {
                    debug!(%error, "The cluster did not say where its slots are");
                    None
                }
            };
            drop(control.send(Control::Map(map)).await);
        });
    }

    /// Opens and closes links, and moves streams to the links of their slots.
    pub(super) async fn on_map(&mut self, new: Map) {
        let Routes::Slots {
            map,
            links,
            by_address,
        } = &mut self.routes
        else {
            return;
        };
        if *map != new {
            info!(
                masters = masters(&new).len(),
                "The cluster's slots are known"
            );
            *map = new.clone();
            let mut old = std::mem::take(by_address);
            let mut known = HashMap::new();
            let mut opened = Vec::new();
            for (address, slots) in masters(&new) {
                match old.remove(&address) {
                    Some(link) => drop(known.insert(address, link)),
                    None => opened.push((address, slots)),
                }
            }
            for gone in old.values() {
                self.links.remove(gone);
            }
            for ((host, port), slots) in opened {
                if let Ok(info) = self.place.node(&host, port) {
                    let link = self.open_link(Some((info, slots)));
                    known.insert((host, port), link);
                }
            }
            let mut of_slot = vec![None; usize::from(SLOTS)];
            for (first, last, host, port) in &new {
                let link = known.get(&(host.clone(), *port)).copied();
                for slot in of_slot
                    .iter_mut()
                    .take(usize::from(*last) + 1)
                    .skip(usize::from(*first))
                {
                    *slot = link;
                }
            }
            if let Routes::Slots {
                links, by_address, ..
            } = &mut self.routes
            {
                *links = of_slot;
                *by_address = known;
            }
            self.ask_for_firehose();
        } else if links.is_empty() {
            return;
        }
        self.move_streams();
        self.look_at_health().await;
    }

    /// Asks the right links for streams that no link listens to.
    fn move_streams(&mut self) {
        let mut leave: HashMap<LinkId, Vec<String>> = HashMap::new();
        let mut unsent = Vec::new();
        let mut streams = self.table.lock();
        for (name, stream) in &mut streams.known {
            let channel = self.names.channel(name);
            let link = self.routes.link_of(&channel);
            if stream.link != link {
                if let (Some(old), Phase::Listening) = (stream.link, stream.phase) {
                    leave.entry(old).or_default().push(channel);
                }
                stream.phase = Phase::Unsent;
                stream.link = link;
            }
            if stream.phase == Phase::Unsent {
                unsent.push(name.clone());
            }
        }
        drop(streams);
        for (link, channels) in leave {
            if let Some(orders) = self.orders(link) {
                drop(orders.send(Order::Leave(channels)));
            }
        }
        self.ask_links(unsent.into_iter());
    }
}

fn masters(map: &Map) -> HashMap<(String, u16), Vec<u16>> {
    let mut masters: HashMap<_, Vec<u16>> = HashMap::new();
    for (first, last, host, port) in map {
        masters
            .entry((host.clone(), *port))
            .or_default()
            .extend(*first..=*last);
    }
    for slots in masters.values_mut() {
        slots.sort_unstable();
    }
    masters
}

/// Reads the answer of `CLUSTER SLOTS`.
pub(crate) fn parse(answer: &Value) -> Option<Map> {
    let mut map = Map::new();
    for range in list(answer).ok()? {
        let [first, last, master, ..] = list(range).ok()? else {
            return None;
        };
        let [host, port, ..] = list(master).ok()? else {
            return None;
        };
        let small = |value| {
            number(value)
                .ok()
                .and_then(|number| u16::try_from(number).ok())
        };
        let (first, last) = (small(first)?, small(last)?);
        let host = text(host).ok().filter(|host| !host.is_empty())?;
        if first > last || last >= SLOTS {
            return None;
        }
        map.push((first, last, host.to_owned(), small(port)?));
    }
    map.sort_unstable();
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_map_is_read() {
        let range = |first, last, host: &str| {
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                Value::Array(vec![bulk(host), Value::Int(7000), bulk("id")]),
                Value::Array(vec![bulk("replica"), Value::Int(7003), bulk("id")]),
            ])
        };
        let answer = Value::Array(vec![range(8_192, 16_383, "b"), range(0, 8_191, "a")]);
        let map = parse(&answer).unwrap();
        assert_eq!(
            map,
            [
                (0, 8_191, "a".to_owned(), 7000),
                (8_192, 16_383, "b".to_owned(), 7000)
            ]
        );
        assert_eq!(masters(&map).len(), 2);
        for wrong in [
            range(5, 4, "a"),
            range(0, 20_000, "a"),
            range(0, 1, ""),
            Value::Nil,
        ] {
            assert_eq!(parse(&Value::Array(vec![wrong])), None);
        }
    }
}
