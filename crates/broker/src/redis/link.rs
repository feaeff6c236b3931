//! One connection that listens, and its supervisor.
//!
//! The rule of this file: **a link is never deaf without knowing it.** A closed
//! connection ends the attempt; an open one is asked every few seconds to bring
//! a message of its own back; a full queue is counted and told; and after every
//! ending comes another attempt, for ever.

mod ears;

use super::{
    backoff::Backoff,
    health::Health,
    names::{Names, slot},
    place::{ANSWER_TIMEOUT, Place, io},
    script::{Door, Scripts},
    tracker::is_lasting,
};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, Value, aio::MultiplexedConnection,
};
use ears::Ears;
use futures_util::future::join_all;
use std::sync::{Arc, atomic::Ordering};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tracing::{debug, info, warn};

/// Channels in one command. Redis answers nobody else meanwhile.
const BATCH: usize = 256;

/// How often a link is probed. Two probes unanswered are a dead link.
const PROBE_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Probes between two looks at the library, and the probe of the first one:
/// nodes that start together may replace each other's.
const LIBRARY_EVERY: u64 = 15;
const LIBRARY_FIRST: u64 = 2;

/// Numbers the links of a broker.
pub(super) type LinkId = u32;

/// What a link is asked to do. For one connection only: the next one gets a
/// queue of its own.
#[derive(Debug)]
pub(super) enum Order {
    /// Listen to streams' channels.
    Listen(Vec<String>),
    /// Not any more.
    Leave(Vec<String>),
    /// Listen to the channels that all nodes hear.
    Firehose(Vec<String>),
    /// Connect anew.
    Restart,
}

/// What a link tells.
#[derive(Debug)]
pub(super) enum News {
    /// Connected; orders go here.
    Connected {
        link: LinkId,
        address: String,
        orders: mpsc::UnboundedSender<Order>,
    },
    /// From now on what is published to these channels arrives.
    Listening { link: LinkId, channels: Vec<String> },
    /// The server has these channels no more, or never had them.
    Moved { link: LinkId },
    /// The firehose is listened to.
    Firehose { link: LinkId },
    /// The connection ended.
    Lost { link: LinkId },
}

/// A message of some channel.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) channel: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) place: Arc<Place>,
    /// In a cluster, the one node that this link is for.
    pub(super) node: Option<ConnectionInfo>,
    /// Slots of that node when the link was made.
    pub(super) slots: Vec<u16>,
    pub(super) names: Names,
    pub(super) scripts: Arc<Scripts>,
    /// What connections are called.
    pub(super) name: String,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) health: Arc<Health>,
}

impl Link {
    /// Listens for ever, until it is cancelled.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut told = false;
        loop {
            let mut connected = false;
            let ended = Box::pin(self.listen(&mut connected)).await;
            if connected {
                backoff.reset();
            }
            if self.news.send(News::Lost { link: self.id }).await.is_err() {
                return;
            }
            let wait = backoff.next();
            // Once an outage; the attempts between are for debugging.
            if connected || !told {
                warn!(error = %ended, link = self.id, "Redis is away; will try for ever");
            } else {
                debug!(error = %ended, link = self.id, ?wait, "Redis is still away");
            }
            told = true;
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection's life. Returns why it ended.
    async fn listen(&self, connected: &mut bool) -> RedisError {
        match self.live(connected).await {
            Ok(()) => io("the link was told to connect anew"),
            Err(error) => error,
        }
    }

    async fn live(&self, connected: &mut bool) -> RedisResult<()> {
        let info = match &self.node {
            Some(info) => info.clone(),
            None => self.place.locate().await?,
        };
        let address = Place::address(&info);
        let ears = Arc::new(Ears::default());
        let probe = self.probe_channel();
        let mut connection = self.connect(info, &ears, &probe).await?;
        self.check_role(&mut connection).await?;
        self.install(&mut connection).await?;
        self.subscribe(&mut connection, std::slice::from_ref(&probe))
            .await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the tracker never waits for a link; it asks for each stream at most once \
                      in a linger, and no command here takes as long"
        )]
        let (orders, mut queue) = mpsc::unbounded_channel();
        *connected = true;
        info!(link = self.id, address, "Listening to Redis");
        self.health.connections.fetch_add(1, Ordering::Relaxed);
        let news = News::Connected {
            link: self.id,
            address,
            orders,
        };
        if self.news.send(news).await.is_err() {
            return Ok(());
        }
        let mut probes = tokio::time::interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0;
        loop {
            tokio::select! {
                biased;
                () = ears.ended() => return Err(io("the connection was closed")),
                _ = probes.tick() => {
                    self.check(&ears, sent)?;
                    sent += 1;
                    self.probe(&mut connection, &probe, sent).await?;
                    if sent % LIBRARY_EVERY == LIBRARY_FIRST {
                        self.install(&mut connection).await?;
                    }
                }
                order = queue.recv() => match order {
                    None | Some(Order::Restart) => return Ok(()),
                    Some(order) => {
                        if !self.obey(&mut connection, &ears, order).await? {
                            return Ok(());
                        }
                    }
                },
            }
        }
    }

    async fn connect(
        &self,
        info: ConnectionInfo,
        ears: &Arc<Ears>,
        probe: &str,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_push_sender(ears::receiver(
                Arc::clone(ears),
                Arc::clone(&self.health),
                self.messages.clone(),
                probe,
            ));
        let client = Client::open(info)?;
        // Boxed: the library's future is several kilobytes.
        let mut connection =
            Box::pin(client.get_multiplexed_async_connection_with_config(&config)).await?;
        let mut name = ::redis::cmd("CLIENT");
        name.arg("SETNAME").arg(&self.name);
        if let Err(error) = name.query_async::<Value>(&mut connection).await {
            // Some hosted Redis forbid it, and it is only a help for people.
            debug!(%error, "Could not name the connection");
        }
        Ok(connection)
    }

    /// Sees to it that backends can publish.
    async fn install(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        match self.scripts.library.install(connection).await {
            Ok(door) => {
                if self.health.learn_door(&door)
                    && let Door::Script(hash) = door
                {
                    info!(
                        hash,
                        "This Redis has no functions: backends publish with EVALSHA and this hash"
                    );
                }
                Ok(())
            }
            Err(error) if is_lasting(&error) => {
                // Everything but FCALL works without it.
                warn!(%error, "Backends can't FCALL pollux_publish: the library was refused");
                Ok(())
            }
            // It is loading, or not the master any more.
            Err(error) => Err(error),
        }
    }

    /// Replicas hear what their master announces, but later, and not what is
    /// announced while they are cut off.
    async fn check_role(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let role = ::redis::cmd("ROLE").query_async::<Value>(connection).await;
        match role {
            Ok(Value::Array(role)) => match role.first() {
                Some(Value::BulkString(role)) if role == b"slave" => {
                    Err(io("the server is a replica"))
                }
                _ => Ok(()),
            },
            Err(error) if !is_lasting(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn probe_channel(&self) -> String {
        let here = |channel: &String| {
            self.slots.is_empty() || self.slots.binary_search(&slot(channel.as_bytes())).is_ok()
        };
        let mut channels = (0..200_000).map(|attempt| self.names.probe(&self.name, attempt));
        channels.find(here).unwrap_or_default()
    }

    async fn tell(&self, news: News) {
        // Without a tracker the link is about to be cancelled.
        drop(self.news.send(news).await);
    }

    const fn is_sharded(&self) -> bool {
        self.node.is_some()
    }

    fn check(&self, ears: &Ears, sent: u64) -> RedisResult<()> {
        if ears.echo() == sent {
            return Ok(());
        }
        self.health.deaf.fetch_add(1, Ordering::Relaxed);
        Err(io("a probe did not come back: the connection was deaf"))
    }

    async fn probe(
        &self,
        connection: &mut MultiplexedConnection,
        channel: &str,
        number: u64,
    ) -> RedisResult<()> {
        let verb = if self.is_sharded() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        };
        let mut publish = ::redis::cmd(verb);
        publish.arg(channel).arg(number.to_string());
        let heard: u64 = publish.query_async(connection).await?;
        if heard == 0 {
            self.health.deaf.fetch_add(1, Ordering::Relaxed);
            return Err(io("the server has forgotten a subscription"));
        }
        Ok(())
    }

    /// False if the link must connect anew.
    async fn obey(
        &self,
        connection: &mut MultiplexedConnection,
        ears: &Ears,
        order: Order,
    ) -> RedisResult<bool> {
        let link = self.id;
        match order {
            Order::Restart => return Ok(false),
            Order::Firehose(channels) => {
                for channel in channels {
                    connection.subscribe(&channel).await?;
                }
                self.tell(News::Firehose { link }).await;
            }
            Order::Listen(channels) => {
                for batch in channels.chunks(BATCH) {
                    match self.subscribe(connection, batch).await {
                        Ok(()) => {
                            let channels = batch.to_vec();
                            self.tell(News::Listening { link, channels }).await;
                        }
                        Err(error) if is_elsewhere(&error) => {
                            self.tell(News::Moved { link }).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Order::Leave(channels) => {
                for batch in channels.chunks(BATCH) {
                    ears.expect_leaving(batch.len());
                    self.unsubscribe(connection, batch).await?;
                }
            }
        }
        Ok(!ears.have_ended())
    }

    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        channels: &[String],
    ) -> RedisResult<()> {
        if self.is_sharded() {
            return one_by_one(connection, "SSUBSCRIBE", channels).await;
        }
        connection.subscribe(channels).await
    }

    async fn unsubscribe(
        &self,
        connection: &mut MultiplexedConnection,
        channels: &[String],
    ) -> RedisResult<()> {
        if self.is_sharded() {
            return one_by_one(connection, "SUNSUBSCRIBE", channels).await;
        }
        connection.unsubscribe(channels).await
    }
}

/// A command for each channel, sent without waiting for each other: channels
/// of different slots can't share one, and the library counts on one answer a
/// command.
async fn one_by_one(
    connection: &MultiplexedConnection,
    verb: &str,
    channels: &[String],
) -> RedisResult<()> {
    let commands: Vec<Cmd> = channels
        .iter()
        .map(|channel| {
            let mut command = ::redis::cmd(verb);
            command.arg(channel);
            command
        })
        .collect();
    let answers = commands.iter().map(|command| {
        let mut connection = connection.clone();
        async move { command.query_async::<Value>(&mut connection).await }
    });
    let answers = join_all(answers).await;
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Whether another server of the cluster has the channel.
fn is_elsewhere(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        )
    )
}
