//! Every door to every dialect on every node: three nodes share a Redis, publishers come through
//! nginx or to Redis, and at each node waits a client of each dialect for each door.

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::{BoxFuture, join_all, try_join_all};
use pollux_testkit::{
    Cable, Connection, EventStream, Nginx, Node, PATIENCE, Poller, Redis, Request,
    assert_eventually, frames,
};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr};
use tokio::time::timeout;

const NODES: usize = 3;

/// How a publication gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    Fcall,
    Xadd,
    Publish,
    Broadcast,
    Api,
    Category,
    Mailbox,
    Room,
    Whisper,
}

const DOORS: [Door; 9] = [
    Door::Fcall,
    Door::Xadd,
    Door::Publish,
    Door::Broadcast,
    Door::Api,
    Door::Category,
    Door::Mailbox,
    Door::Room,
    Door::Whisper,
];

/// How a client listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Poll,
    Cable,
    Events,
    Category,
    Mailbox,
    Room,
    RoomSocket,
}

const DIALECTS: [Dialect; 7] = [
    Dialect::Poll,
    Dialect::Cable,
    Dialect::Events,
    Dialect::Category,
    Dialect::Mailbox,
    Dialect::Room,
    Dialect::RoomSocket,
];

impl Dialect {
    /// Whether a client is nothing but a request that waits.
    const fn is_one_request(self) -> bool {
        matches!(self, Self::Category | Self::Mailbox | Self::Room)
    }
}

/// One cell: nobody else listens to its stream, because of those who share a mailbox only one
/// gets a message.
#[derive(Clone, Debug)]
struct Cell {
    door: Door,
    dialect: Dialect,
    node: usize,
}

impl Cell {
    fn stream(&self) -> String {
        let (door, dialect) = (format!("{:?}", self.door), format!("{:?}", self.dialect));
        format!("room:{door}-{dialect}-{}", self.node)
    }

    fn room(&self) -> String {
        let stream = self.stream();
        stream
            .strip_prefix("room:")
            .map_or_else(|| stream.clone(), str::to_owned)
    }

    /// What is said, and looked for in whatever the client gets.
    fn word(&self) -> String {
        format!("word-{}-", self.room())
    }

    fn data(&self) -> String {
        json!({"payload": {"text": self.word()}, "type": "note"}).to_string()
    }
}

/// A client that listens; done when it has got the word.
type Waiting = BoxFuture<'static, Result<()>>;

/// Connects the cell's client. When this is done it hears what is published.
async fn listen(cell: &Cell, node: SocketAddr) -> Result<Waiting> {
    let (stream, word) = (cell.stream(), cell.word());
    Ok(match cell.dialect {
        Dialect::Poll => {
            let mut poller = Poller::open_at(node).await?;
            poller.subscribe(&frames::public(&stream)).await?;
            Box::pin(async move {
                loop {
                    let messages = poller.messages(1).await?;
                    if messages
                        .iter()
                        .any(|message| message.to_string().contains(&word))
                    {
                        return Ok(());
                    }
                }
            })
        }
        Dialect::Cable => {
            let protocol = pollux_testkit::PROTOCOLS;
            let mut cable = Cable::open_at(node, "/cable", protocol).await?;
            cable.subscribe(&frames::public(&stream)).await?;
            Box::pin(async move {
                while !cable.frame().await?.to_string().contains(&word) {}
                Ok(())
            })
        }
        Dialect::Events => {
            let target = format!("/events?stream={stream}");
            let mut events = EventStream::open_at(node, &target, &[]).await?;
            Box::pin(async move {
                loop {
                    let event = events.next().await?.context("the stream ended")?;
                    if event.data.contains(&word) {
                        return Ok(());
                    }
                }
            })
        }
        Dialect::Category => {
            request(
                node,
                format!("/longpoll/events?timeout=20&category={stream}"),
                word,
            )
            .await?
        }
        Dialect::Mailbox => request(node, format!("/poll?rcpt={stream}"), word).await?,
        Dialect::Room => {
            let target = format!("/ws/poll?wait=20&session_id={stream}");
            request(node, target, word).await?
        }
        Dialect::RoomSocket => {
            let mut socket = Cable::connect(node, "/ws", &[]).await?;
            let room = cell.room();
            let join = json!({"type": "room.join", "payload": {"user": "u", "room": room}});
            socket.say(&join.to_string()).await?;
            // It is told itself that it has joined.
            while !socket.frame().await?.to_string().contains(&room) {}
            Box::pin(async move {
                while !socket.frame().await?.to_string().contains(&word) {}
                Ok(())
            })
        }
    })
}

/// Waits for the answer to one request.
async fn request(node: SocketAddr, target: String, word: String) -> Result<Waiting> {
    let mut connection = Connection::open(node).await?;
    connection.send(&Request::get(&target)).await?;
    Ok(Box::pin(async move {
        let response = connection.response().await?;
        ensure!(response.status == 200, "{target}: {}", response.status);
        let text = response.text()?;
        ensure!(text.contains(&word), "{target}: {text}");
        Ok(())
    }))
}

struct Cluster {
    redis: Redis,
    nodes: Vec<Node>,
    nginx: Nginx,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let redis = Redis::spawn().await?;
        let spawn = |_| {
            Node::builder()
                .redis(&redis)
                .flag("mailbox_capacity", "10")
                .flag("poll_flush_interval", "0")
                .flag("trusted_proxies", "127.0.0.1")
                .spawn_ready()
        };
        let nodes = try_join_all((0..NODES).map(spawn)).await?;
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let nginx = Nginx::spawn(&addresses).await?;
        Ok(Self {
            redis,
            nodes,
            nginx,
        })
    }

    async fn publish(&self, cell: &Cell) -> Result<()> {
        let (stream, data) = (cell.stream(), cell.data());
        let message = json!({"stream": stream, "data": data}).to_string();
        match cell.door {
            Door::Fcall => {
                let key = format!("pollux:{{{stream}}}");
                let said = ["FCALL", "pollux_publish", "1", &key, &data];
                self.redis.cli(&said).await?;
            }
            Door::Xadd => {
                let said = ["XADD", "__anycable__", "*", "payload", &message];
                self.redis.cli(&said).await?;
            }
            Door::Publish => {
                self.redis.publish("__anycable__", &message).await?;
            }
            Door::Broadcast => self.post("/_broadcast", &message, 201).await?,
            Door::Api => self.post("/api/publish", &message, 201).await?,
            Door::Category => {
                let body = format!("{{\"category\":\"{stream}\",\"data\":{data}}}");
                self.post("/longpoll/publish", &body, 200).await?;
            }
            Door::Mailbox => {
                self.post(&format!("/push?rcpt={stream}"), &data, 200)
                    .await?;
            }
            Door::Room => {
                let payload = json!({"text": cell.word()});
                let body = json!({"type": "note", "room": cell.room(), "payload": payload});
                self.post("/ws/send", &body.to_string(), 202).await?;
            }
            Door::Whisper => {
                let identifier = frames::public(&stream);
                let mut cable = Cable::open(&self.nodes[(cell.node + 1) % NODES]).await?;
                cable.subscribe(&identifier).await?;
                let data = serde_json::from_str(&data)?;
                cable.say(&frames::whisper(&identifier, &data)).await?;
                // Whatever is behind it says that it was read.
                cable.say(&frames::ping()).await?;
                while frames::kind(&cable.frame().await?) != "pong" {}
            }
        }
        Ok(())
    }

    async fn post(&self, target: &str, body: &str, expected: u16) -> Result<()> {
        let request = Request::post(target).body(body);
        let response = Connection::once(self.nginx.address(), &request).await?;
        ensure!(response.status == expected, "{target}: {}", response.status);
        Ok(())
    }

    /// Requests that wait. Clients with a connection of their own are told when they listen.
    async fn parked(&self) -> Result<f64> {
        let all = self.nodes.iter().map(|node| node.metric("parked_polls"));
        Ok(try_join_all(all).await?.iter().sum())
    }
}

#[tokio::test]
async fn every_door_reaches_every_dialect_on_every_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut table = BTreeMap::new();
    for door in DOORS {
        let cells: Vec<Cell> = DIALECTS
            .into_iter()
            .flat_map(|dialect| {
                (0..NODES).map(move |node| Cell {
                    door,
                    dialect,
                    node,
                })
            })
            .collect();
        assert_eventually!(cluster.parked().await? == 0.0, PATIENCE);
        let opening = cells.iter().map(|cell| {
            let node = cluster.nodes[cell.node].address();
            async move {
                listen(cell, node)
                    .await
                    .with_context(|| format!("{cell:?}"))
            }
        });
        let waiting = try_join_all(opening).await?;
        let parked = cells.iter().filter(|cell| cell.dialect.is_one_request());
        let parked = f64::from(u32::try_from(parked.count())?);
        assert_eventually!(cluster.parked().await? == parked, PATIENCE);
        let told = cells.iter().map(|cell| cluster.publish(cell));
        try_join_all(told)
            .await
            .with_context(|| format!("{door:?}"))?;
        let got = waiting
            .into_iter()
            .map(|waiting| timeout(PATIENCE, waiting));
        for (cell, got) in cells.iter().zip(join_all(got).await) {
            let outcome = match got {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("{error:#}")),
                Err(_) => Err("nothing came".to_owned()),
            };
            table.insert((cell.door, cell.dialect, cell.node), outcome);
        }
    }
    print(&table);
    let red: Vec<_> = table
        .iter()
        .filter_map(|(cell, outcome)| Some(format!("{cell:?}: {}", outcome.as_ref().err()?)))
        .collect();
    if !red.is_empty() {
        bail!("{} cells are not green:\n{}", red.len(), red.join("\n"));
    }
    Ok(())
}

type Table = BTreeMap<(Door, Dialect, usize), Result<(), String>>;

/// A row for each door, a column for each dialect, a mark for each node.
#[expect(clippy::print_stdout, reason = "the matrix is for people to see")]
fn print(table: &Table) {
    let name = |dialect| format!("{dialect:?}");
    let head: Vec<_> = DIALECTS
        .map(name)
        .iter()
        .map(|name| format!("{name:>12}"))
        .collect();
    println!("{:10}{}", "", head.concat());
    for door in DOORS {
        let cells = DIALECTS.map(|dialect| {
            let mark = |node| match table.get(&(door, dialect, node)) {
                Some(Ok(())) => '+',
                Some(Err(_)) => '-',
                None => ' ',
            };
            format!("{:>12}", (0..NODES).map(mark).collect::<String>())
        });
        println!("{:10}{}", format!("{door:?}"), cells.concat());
    }
}
