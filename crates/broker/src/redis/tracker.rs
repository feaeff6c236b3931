//! The one task that turns what links hear into events.
//!
//! It knows which link listens to which stream, what each stream's last
//! delivered position is, and reads from the log what the links have missed.

mod listening;
mod messages;
mod readings;
mod routes;
mod upkeep;

use super::{
    commands::Commands,
    config::RedisConfig,
    health::Health,
    link::{LinkId, Message, News, Order},
    names::Names,
    place::Place,
    script::Scripts,
    state::Reading,
    table::{Phase, Table},
};
use crate::event::Event;
use pollux_protocol::StreamName;
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
use tokio_util::sync::DropGuard;
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
}
