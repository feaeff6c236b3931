//! Clients find their node again, through the bundled nginx files.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Connection, Nginx, Node, PATIENCE, Parked, Poller, Redis, Request, Response};
use pollux_testkit::{assert_eventually, frames};
use serde_json::{Value, json};
use std::net::SocketAddr;

const CHANNEL: &str = "__anycable__";

const STREAM: &str = "news";

/// Pollers of each kind: without cookies, as curl is, and with them, as browsers are.
const EACH: usize = 300;

/// A client that makes every request on a connection of its own.
struct Client {
    poller: Poller,
    nginx: SocketAddr,
    /// What it sends as `Cookie`; `None` for one that keeps none.
    cookie: Option<String>,
    /// How often it was told a cookie.
    told: usize,
}

impl Client {
    async fn open(nginx: &Nginx, keeps_cookies: bool) -> Result<Self> {
        let nginx = nginx.address();
        let response = Connection::once(nginx, &Request::post("/lp")).await?;
        let mut client = Self {
            poller: Poller::from_open(nginx, &response)?,
            nginx,
            cookie: None,
            told: 0,
        };
        client.take_cookie(&response, keeps_cookies);
        ensure!(client.told == 1, "{:?}", response.headers);
        Ok(client)
    }

    fn take_cookie(&mut self, response: &Response, keep: bool) {
        if let Some(cookie) = response.header("set-cookie") {
            self.told += 1;
            let cookie = cookie.split(';').next().map(str::to_owned);
            self.cookie = cookie.filter(|_| keep);
        }
    }

    fn request(&self, commands: &str) -> Request {
        let request = self.poller.request(commands);
        match &self.cookie {
            Some(cookie) => request.header("Cookie", cookie),
            None => request,
        }
    }

    async fn poll(&mut self, commands: &str) -> Result<Vec<Value>> {
        let response = Connection::once(self.nginx, &self.request(commands)).await?;
        self.take_cookie(&response, self.cookie.is_some());
        Ok(self.poller.understand(response)?.frames)
    }

    async fn park(&self) -> Result<Connection> {
        let mut connection = Connection::open(self.nginx).await?;
        connection.send(&self.request("")).await?;
        Ok(connection)
    }
}

/// Three nodes of one cluster.
async fn cluster(redis: &Redis) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let node = Node::builder()
            .flag("poll_interval", "20")
            .flag("poll_flush_interval", "0")
            .flag("poll_keepalive_timeout", "60")
            .redis(redis)
            .spawn();
        nodes.push(node.await?);
    }
    for node in &nodes {
        assert_eventually!(node.get("/ready").await?.status == 200, PATIENCE);
    }
    Ok(nodes)
}

fn addresses(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().map(Node::address).collect()
}

async fn sum(nodes: &[Node], metric: &str) -> Result<f64> {
    let mut sum = 0.0;
    for node in nodes {
        sum += node.metric(metric).await?;
    }
    Ok(sum)
}

#[tokio::test]
async fn every_poll_reaches_the_node_of_its_session() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = cluster(&redis).await?;
    let nginx = Nginx::spawn(&addresses(&nodes)).await?;
    let mut clients = Vec::new();
    for number in 0..2 * EACH {
        clients.push(Client::open(&nginx, number % 2 == 1).await?);
    }
    // With a reply to wait for, a poll is over at once.
    for client in &mut clients {
        client
            .poll(&frames::subscribe(&frames::public(STREAM)))
            .await?;
        client.poll("{\"command\":\"ping\"}").await?;
        ensure!(client.told == 1, "a cookie was set again");
    }
    for node in &nodes {
        let sessions = node.metric("sessions").await?;
        let fair = (2 * EACH / 3) as f64;
        assert!(sessions > fair / 2.0, "only {sessions} on one node");
        assert_eq!(node.metric("ignored_routes_total").await?, 0.0);
    }

    let mut waiting = Vec::new();
    for client in &clients {
        waiting.push(client.park().await?);
    }
    let all = (2 * EACH) as f64;
    assert_eventually!(sum(&nodes, "parked_polls").await? == all, PATIENCE);
    // One by HTTP, through nginx as a backend might.
    let publication = frames::publication(STREAM, &json!("by HTTP"));
    let publish = Request::post("/_broadcast").body(publication);
    let taken = Connection::once(nginx.address(), &publish).await?;
    assert_eq!(taken.status, 201);
    for (client, connection) in clients.iter_mut().zip(&mut waiting) {
        let answer = client.poller.understand(connection.response().await?)?;
        assert_eq!(answer.messages(), ["by HTTP"]);
        connection.send(&client.request("")).await?;
    }
    assert_eventually!(sum(&nodes, "parked_polls").await? == all, PATIENCE);
    // The other doors, one after the other.
    for door in ["FCALL", "XADD", "PUBLISH"] {
        let message = json!(format!("by {door}"));
        let publication = frames::publication(STREAM, &message);
        let key = format!("pollux:{{{STREAM}}}");
        match door {
            "FCALL" => {
                let data = message.to_string();
                redis
                    .cli(&["FCALL", "pollux_publish", "1", &key, &data])
                    .await?;
            }
            "XADD" => {
                redis
                    .cli(&["XADD", CHANNEL, "*", "payload", &publication])
                    .await?;
            }
            _ => {
                redis.publish(CHANNEL, &publication).await?;
            }
        }
        for (client, connection) in clients.iter_mut().zip(&mut waiting) {
            let answer = client.poller.understand(connection.response().await?)?;
            assert_eq!(answer.messages(), std::slice::from_ref(&message));
            connection.send(&client.request("")).await?;
        }
        assert_eventually!(sum(&nodes, "parked_polls").await? == all, PATIENCE);
    }
    assert_eq!(sum(&nodes, "long_poll_stale_requests_total").await?, 0.0);
    assert_eq!(sum(&nodes, "sessions").await?, all);
    Ok(())
}

/// The node that holds a poll of this session.
async fn holder(nodes: &[Node], poller: &Poller) -> Result<usize> {
    let mut parked: Parked = poller.park().await?;
    assert_eventually!(sum(nodes, "parked_polls").await? == 1.0, PATIENCE);
    let mut holder = None;
    for (at, node) in nodes.iter().enumerate() {
        if node.metric("parked_polls").await? == 1.0 {
            holder = Some(at);
        }
    }
    let answer = parked.answer_within(std::time::Duration::ZERO).await?;
    ensure!(answer.is_none(), "{answer:?}");
    parked.into_connection().reset()?;
    assert_eventually!(sum(nodes, "parked_polls").await? == 0.0, PATIENCE);
    holder.context("nobody holds it")
}

#[tokio::test]
async fn the_poll_id_wins_over_the_cookie() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = cluster(&redis).await?;
    let nginx = Nginx::spawn(&addresses(&nodes)).await?;
    // Two sessions on different nodes.
    let one = Client::open(&nginx, true).await?;
    let home = holder(&nodes, &one.poller).await?;
    let mut two = Client::open(&nginx, true).await?;
    while holder(&nodes, &two.poller).await? == home {
        two = Client::open(&nginx, true).await?;
    }
    // The cookie alone leads a new session to the node of the others with the same cookie.
    let cookie = one.cookie.clone().context("no cookie")?;
    for _ in 0..5 {
        let open = Request::post("/lp").header("Cookie", &cookie);
        let response = Connection::once(nginx.address(), &open).await?;
        assert!(response.header("set-cookie").is_none());
        let poller = Poller::from_open(nginx.address(), &response)?;
        assert_eq!(holder(&nodes, &poller).await?, home);
    }
    // With a poll id it says nothing, and neither does what clients make up.
    let long = format!("pollux_route={}", "x".repeat(3_000));
    for cookie in [cookie.as_str(), "pollux_route=a.b", "pollux_route=", &long] {
        let poll = two
            .poller
            .request("{\"command\":\"ping\"}")
            .header("Cookie", cookie)
            .header("X-Pollux-Route", "elsewhere");
        let response = Connection::once(nginx.address(), &poll).await?;
        assert!(matches!(response.status, 200), "{cookie}: {response:?}");
        two.poller.understand(response)?;
    }
    assert_eq!(sum(&nodes, "long_poll_stale_requests_total").await?, 0.0);
    Ok(())
}
