//! The one task that turns what links hear into events.
//!
//! It knows which link listens to which stream, what each stream's last
//! delivered position is, and reads from the log what the links have missed.

mod readings;
mod routes;

use super::{
    commands::Commands,
    config::RedisConfig,
    health::Health,
    link::{Link, LinkId, Message, News, Order},
    names::Names,
    place::Place,
    script::Scripts,
    state::{Placed, Reading, Todo},
    table::{Phase, Table},
};
use crate::event::Event;
use pollux_protocol::{Announcement, Inbound, StreamName};
use readings::Readings;
pub(super) use readings::is_lasting;
use routes::Routes;
pub(super) use routes::parse as parse_map;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

/// Messages that may wait for this node. Behind it stands Redis's own output
/// buffer for each connection.
const MESSAGE_QUEUE: usize = 8_192;

/// News that may wait; whoever has some waits for room.
const NEWS_QUEUE: usize = 64;

/// How often lingering streams, checks and retries are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often a cluster is asked for its slots, without any sign of a change.
const MAP_EVERY: Duration = Duration::from_secs(5);

/// What the tracker's own side tasks tell it.
#[derive(Debug)]
pub(super) enum Control {
    /// Streams were read; an error is one of the connection.
    Read(Vec<(StreamName, Result<Option<Reading>, ()>)>),
    /// Where the slots are.
    Map(Option<routes::Map>),
    /// Where the sentinels say that the master is.
    Master(Option<String>),
}

/// A link as the tracker sees it.
#[derive(Debug)]
struct Connection {
    /// Where it is, once connected.
    address: String,
    /// `None` while it is not connected.
    orders: Option<mpsc::UnboundedSender<Order>>,
    _stop: DropGuard,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Tracker {
    place: Arc<Place>,
    names: Names,
    scripts: Arc<Scripts>,
    commands: Arc<Commands>,
    table: Arc<Table>,
    health: Arc<Health>,
    events: mpsc::Sender<Event>,
    config: RedisConfig,
    routes: Routes,
    links: HashMap<LinkId, Connection>,
    next_link: LinkId,
    /// The link that hears the firehose, and whether it does yet.
    firehose: Option<(LinkId, bool)>,
    readings: Readings,
    /// When to compare silent streams with their logs.
    checks: VecDeque<(Instant, StreamName)>,
    map_due: Instant,
    map_asked: bool,
    master_due: Instant,
    message_sender: mpsc::Sender<Message>,
    control_sender: mpsc::Sender<Control>,
    news_sender: mpsc::Sender<News>,
}

/// What the tracker listens to.
#[derive(Debug)]
pub(super) struct Inputs {
    messages: mpsc::Receiver<Message>,
    control: mpsc::Receiver<Control>,
    news: mpsc::Receiver<News>,
}

/// What a tracker is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) place: Arc<Place>,
    pub(super) names: Names,
    pub(super) scripts: Arc<Scripts>,
    pub(super) commands: Arc<Commands>,
    pub(super) table: Arc<Table>,
    pub(super) health: Arc<Health>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) config: RedisConfig,
}

impl Tracker {
    pub(super) fn new(parts: Parts) -> (Self, Inputs) {
        let (message_sender, messages) = mpsc::channel(MESSAGE_QUEUE);
        let (control_sender, control) = mpsc::channel(NEWS_QUEUE);
        let (news_sender, news) = mpsc::channel(NEWS_QUEUE);
        let now = Instant::now();
        let tracker = Self {
            routes: Routes::new(parts.place.is_cluster()),
            place: parts.place,
            names: parts.names,
            scripts: parts.scripts,
            commands: parts.commands,
            table: parts.table,
            health: parts.health,
            events: parts.events,
            master_due: now + parts.config.discovery_interval,
            config: parts.config,
            links: HashMap::new(),
            next_link: 0,
            firehose: None,
            readings: Readings::default(),
            checks: VecDeque::new(),
            map_due: now,
            map_asked: false,
            message_sender,
            control_sender,
            news_sender,
        };
        let inputs = Inputs {
            messages,
            control,
            news,
        };
        (tracker, inputs)
    }

    /// Works until it is cancelled, or nobody takes the events.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        if !self.place.is_cluster() {
            self.open_link(None);
        }
        let table = Arc::clone(&self.table);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.events.is_closed() {
            tokio::select! {
                biased;
                Some(news) = inputs.news.recv() => self.on_news(news).await,
                Some(control) = inputs.control.recv() => self.on_control(control).await,
                () = table.changed.notified() => self.listen_to_fresh(),
                _ = ticks.tick() => self.on_tick().await,
                Some(message) = inputs.messages.recv() => self.on_message(message).await,
            }
        }
    }

    async fn on_control(&mut self, control: Control) {
        match control {
            Control::Read(results) => self.on_read(results).await,
            Control::Map(map) => {
                self.map_asked = false;
                if let Some(map) = map {
                    self.on_map(map).await;
                }
            }
            Control::Master(Some(address)) => {
                for link in self.links.values() {
                    if let Some(orders) = &link.orders
                        && link.address != address
                    {
                        warn!("The master is elsewhere now; following it");
                        drop(orders.send(Order::Restart));
                    }
                }
            }
            Control::Master(None) => {}
        }
    }

    async fn on_news(&mut self, news: News) {
        match news {
            News::Connected {
                link,
                address,
                orders,
            } => {
                let Some(connection) = self.links.get_mut(&link) else {
                    return;
                };
                connection.address = address;
                connection.orders = Some(orders);
                if matches!(*self.place, Place::Sentinels(_)) {
                    // Pooled connections may lead to the old master.
                    self.commands.forget().await;
                }
                self.ask_for_firehose();
                self.listen_again(link);
            }
            News::Listening { link, channels } => self.on_listening(link, &channels),
            News::Firehose { link } => {
                if self.firehose.is_some_and(|(chosen, _)| chosen == link) {
                    self.firehose = Some((link, true));
                }
            }
            News::Moved { link } => {
                for stream in self.table.lock().known.values_mut() {
                    if stream.link == Some(link) && stream.phase == Phase::Sent {
                        stream.phase = Phase::Unsent;
                    }
                }
                self.map_due = self.map_due.min(Instant::now() + TICK);
            }
            News::Lost { link } => {
                if let Some(connection) = self.links.get_mut(&link) {
                    connection.orders = None;
                }
                if let Some((chosen, heard)) = &mut self.firehose
                    && *chosen == link
                {
                    *heard = false;
                }
                for stream in self.table.lock().known.values_mut() {
                    if stream.link == Some(link) {
                        stream.phase = Phase::Unsent;
                    }
                }
                self.map_due = self.map_due.min(Instant::now() + TICK);
            }
        }
        self.look_at_health().await;
    }

    /// Tells when the node begins or ceases to hear everything.
    async fn look_at_health(&mut self) {
        let all_listen = !self.links.is_empty()
            && self.links.values().all(|link| link.orders.is_some())
            && self.routes.is_complete();
        let hears = all_listen && self.firehose.is_some_and(|(_, heard)| heard);
        let heard = self.health.hears.swap(hears, Ordering::Relaxed);
        let event = match (heard, hears) {
            (false, true) => Event::Up,
            (true, false) => Event::Down,
            _ => return,
        };
        self.send(event).await;
    }

    async fn send(&self, event: Event) {
        // A closed queue ends the loop.
        drop(self.events.send(event).await);
    }

    fn open_link(&mut self, node: Option<(::redis::ConnectionInfo, Vec<u16>)>) -> LinkId {
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

    /// One link hears the channel that all nodes hear.
    fn ask_for_firehose(&mut self) {
        let chosen = self.routes.link_of(&self.config.channel);
        if let (Some((before, true)), Some(chosen)) = (self.firehose, chosen)
            && before == chosen
        {
            return;
        }
        let Some(chosen) = chosen else { return };
        self.firehose = Some((chosen, false));
        if let Some(orders) = self.orders(chosen) {
            drop(orders.send(Order::Firehose(self.config.channel.clone())));
        }
    }

    fn orders(&self, link: LinkId) -> Option<&mpsc::UnboundedSender<Order>> {
        self.links.get(&link)?.orders.as_ref()
    }

    /// Asks links for streams that are new.
    fn listen_to_fresh(&mut self) {
        let fresh = std::mem::take(&mut self.table.lock().fresh);
        self.ask_links(fresh.into_iter());
    }

    /// Asks a link for all streams that it should listen to.
    fn listen_again(&mut self, link: LinkId) {
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

    fn ask_links(&mut self, names: impl Iterator<Item = StreamName>) {
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
    fn on_listening(&mut self, link: LinkId, channels: &[String]) {
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

    async fn on_message(&mut self, message: Message) {
        self.health.messages.fetch_add(1, Ordering::Relaxed);
        let received = Instant::now();
        if message.channel == self.config.channel.as_bytes() {
            return self.on_firehose(&message.body, received).await;
        }
        let Some(name) = self.names.stream(&message.channel) else {
            return;
        };
        if !self.table.lock().known.contains_key(&name) {
            return;
        }
        match Announcement::parse(name.clone(), &message.body) {
            Ok(announcement) => {
                let publication = Arc::new(announcement.publication);
                match announcement.stamp {
                    None => {
                        self.send(Event::Delivery {
                            publication,
                            position: None,
                            received,
                            late: false,
                        })
                        .await;
                    }
                    Some(stamp) => {
                        let placed = Placed {
                            stamp,
                            publication: Some(publication),
                            received,
                        };
                        self.on_placed(name, placed).await;
                    }
                }
            }
            // The log has the same; whoever reads it steps over it.
            Err(error) => self.send(Event::Malformed(error)).await,
        }
    }

    async fn on_placed(&mut self, name: StreamName, placed: Placed) {
        let received = placed.received;
        let todo = {
            let mut streams = self.table.lock();
            let Some(stream) = streams.known.get_mut(&name) else {
                return;
            };
            let todo = stream.state.hear(placed);
            if !todo.deliver.is_empty() {
                stream.heard = received;
            }
            if todo.read {
                self.readings.queue(name.clone(), stream);
            }
            todo
        };
        let reads = todo.read;
        self.carry_out(&name, todo).await;
        if reads {
            self.read_some();
        }
    }

    async fn on_firehose(&self, body: &[u8], received: Instant) {
        match Inbound::parse(body) {
            Ok(Inbound::Publications(publications)) => {
                for publication in publications {
                    self.send(Event::Delivery {
                        publication: Arc::new(publication),
                        position: None,
                        received,
                        late: false,
                    })
                    .await;
                }
            }
            Ok(Inbound::Disconnect(command)) => self.send(Event::Disconnect(command)).await,
            Err(error) => self.send(Event::Malformed(error)).await,
        }
    }

    /// Tells the node what is to be delivered, and what is lost.
    async fn carry_out(&self, name: &StreamName, todo: Todo) {
        if let Some(missed) = todo.missed {
            self.health
                .missed
                .fetch_add(missed.max(1), Ordering::Relaxed);
            self.send(Event::Gap {
                stream: Some(name.clone()),
                missed,
            })
            .await;
        }
        if todo.repaired > 0 {
            let repaired = u64::try_from(todo.repaired).unwrap_or(u64::MAX);
            self.health.repaired.fetch_add(repaired, Ordering::Relaxed);
        }
        let late = todo.repaired > 0;
        for placed in todo.deliver {
            let Some(publication) = placed.publication else {
                self.send(Event::Malformed(
                    pollux_protocol::PublicationError::unreadable(),
                ))
                .await;
                continue;
            };
            self.send(Event::Delivery {
                publication,
                position: Some(placed.stamp.position),
                received: placed.received,
                late,
            })
            .await;
        }
    }

    async fn on_tick(&mut self) {
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

    fn read_all(&mut self) {
        for (name, stream) in &mut self.table.lock().known {
            if stream.phase == Phase::Listening {
                self.readings.want(name.clone(), stream);
            }
        }
    }

    fn leave_idle(&self, now: Instant) {
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
    fn check_silent(&mut self, now: Instant) {
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
fn spread(time: Duration) -> Duration {
    let mut random = [0; 1];
    let share = getrandom::fill(&mut random).map_or(0, |()| random[0]);
    time / 2 + time * u32::from(share) / 510
}
