//! Which link listens to which stream.

use super::{
    super::{
        link::{Link, LinkId, Order},
        table::Phase,
    },
    Connection, Tracker,
    upkeep::spread,
};
use pollux_protocol::StreamName;
use std::{collections::HashMap, sync::Arc};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

impl Tracker {
    pub(super) fn open_link(
        &mut self,
        node: Option<(::redis::ConnectionInfo, Vec<u16>)>,
    ) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        let (node, slots) = node.map_or((None, Vec::new()), |(node, slots)| (Some(node), slots));
        let link = Link {
            id,
            place: Arc::clone(&self.place),
            node,
            slots,
            names: self.names.clone(),
            scripts: Arc::clone(&self.scripts),
            name: format!("pollux-{}", self.config.node),
            messages: self.message_sender.clone(),
            news: self.news_sender.clone(),
            health: Arc::clone(&self.health),
        };
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(link.run()));
        let connection = Connection {
            address: String::new(),
            orders: None,
            _stop: stop.drop_guard(),
        };
        self.links.insert(id, connection);
        id
    }

    /// One link hears the channels that all nodes hear.
    pub(super) fn ask_for_firehose(&mut self) {
        let chosen = self.routes.link_of(&self.config.channel);
        if let (Some((before, true)), Some(chosen)) = (self.firehose, chosen)
            && before == chosen
        {
            return;
        }
        let Some(chosen) = chosen else { return };
        self.firehose = Some((chosen, false));
        if let Some(orders) = self.orders(chosen) {
            let channels = vec![self.config.channel.clone(), self.names.nodes()];
            drop(orders.send(Order::Firehose(channels)));
        }
    }

    pub(super) fn orders(&self, link: LinkId) -> Option<&mpsc::UnboundedSender<Order>> {
        self.links.get(&link)?.orders.as_ref()
    }

    /// Asks links for streams that are new.
    pub(super) fn listen_to_fresh(&mut self) {
        let fresh = std::mem::take(&mut self.table.lock().fresh);
        self.ask_links(fresh.into_iter());
    }

    /// Asks a link for all streams that it should listen to.
    pub(super) fn listen_again(&mut self, link: LinkId) {
        let streams = self.table.lock();
        let names: Vec<_> = streams
            .known
            .iter()
            .filter(|(_, stream)| stream.link == Some(link) || stream.link.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        drop(streams);
        self.ask_links(names.into_iter());
    }

    pub(super) fn ask_links(&mut self, names: impl Iterator<Item = StreamName>) {
        let mut by_link: HashMap<LinkId, Vec<String>> = HashMap::new();
        let mut streams = self.table.lock();
        for name in names {
            let Some(stream) = streams.known.get_mut(&name) else {
                continue;
            };
            let channel = self.names.channel(&name);
            stream.link = self.routes.link_of(&channel);
            let Some(link) = stream.link else { continue };
            let is_connected = self
                .links
                .get(&link)
                .is_some_and(|link| link.orders.is_some());
            if stream.phase == Phase::Unsent && is_connected {
                stream.phase = Phase::Sent;
                by_link.entry(link).or_default().push(channel);
            }
        }
        drop(streams);
        for (link, channels) in by_link {
            if let Some(orders) = self.orders(link) {
                drop(orders.send(Order::Listen(channels)));
            }
        }
    }

    /// From now on nothing is missed on these channels; what was missed before
    /// is read.
    pub(super) fn on_listening(&mut self, link: LinkId, channels: &[String]) {
        let now = Instant::now();
        let mut streams = self.table.lock();
        for channel in channels {
            let Some(name) = self.names.stream(channel.as_bytes()) else {
                continue;
            };
            let Some(stream) = streams.known.get_mut(&name) else {
                continue;
            };
            if stream.link != Some(link) {
                continue;
            }
            stream.phase = Phase::Listening;
            if stream.state.is_new() {
                let due = now + spread(self.config.check_interval);
                self.checks.push_back((due, name.clone()));
            }
            self.readings.want(name, stream);
        }
        drop(streams);
        self.read_some();
    }
}
