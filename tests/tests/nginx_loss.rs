//! Nodes that are lost behind nginx, and come back.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Connection, Nginx, Node, NodeBuilder, PATIENCE, Poller, Redis, Request};
use pollux_testkit::{Response, Upstream, assert_eventually, frames};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

const STREAM: &str = "news";

const EXPIRED: &str =
    "{\"type\":\"disconnect\",\"reason\":\"session_expired\",\"reconnect\":true}\n";

/// What "at once" may take: less than any of nginx's timeouts.
const AT_ONCE: Duration = Duration::from_millis(900);

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("poll_keepalive_timeout", "60")
        .redis(redis)
}

async fn ready(node: &Node) -> Result<()> {
    assert_eventually!(node.get("/ready").await?.status == 200, PATIENCE);
    Ok(())
}

/// A client, the place of its node in the list, and the cookie it was given.
struct Client {
    poller: Poller,
    home: usize,
    cookie: String,
}

impl Client {
    async fn open(nginx: SocketAddr, nodes: &[Node]) -> Result<Self> {
        let before = opened(nodes).await?;
        let response = Connection::once(nginx, &Request::post("/lp")).await?;
        let cookie = response.header("set-cookie").context("no cookie")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let mut poller = Poller::from_open(nginx, &response)?;
        poller.subscribe(&frames::public(STREAM)).await?;
        let home = home(&before, nodes).await?;
        Ok(Self {
            poller,
            home,
            cookie,
        })
    }
}

/// Sessions that each node has opened.
async fn opened(nodes: &[Node]) -> Result<Vec<f64>> {
    let opened = nodes
        .iter()
        .map(|node| node.metric("opened_sessions_total"));
    futures_util::future::try_join_all(opened).await
}

/// Which node has opened a session since. Whoever polls a node makes it fetch
/// the session.
async fn home(before: &[f64], nodes: &[Node]) -> Result<usize> {
    let now = opened(nodes).await?;
    let mut both = before.iter().zip(&now);
    both.position(|(before, now)| before < now)
        .context("no node has opened it")
}

async fn parked(nodes: &[&Node], polls: usize) -> Result<()> {
    assert_eventually!(
        {
            let mut sum = 0.0;
            for node in nodes {
                sum += node.metric("parked_polls").await?;
            }
            sum == polls as f64
        },
        PATIENCE,
        "not {polls} polls wait"
    );
    Ok(())
}

async fn stale(nodes: &[&Node]) -> Result<f64> {
    let mut sum = 0.0;
    for node in nodes {
        sum += node.metric("long_poll_stale_requests_total").await?;
    }
    Ok(sum)
}

#[tokio::test]
async fn a_lost_node_is_lost_to_its_own_clients_only() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(builder(&redis).spawn().await?);
    }
    for node in &nodes {
        ready(node).await?;
    }
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    let nginx = Nginx::spawn(&addresses).await?;
    let at = nginx.address();
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(Client::open(at, &nodes).await?);
    }
    let (mut lost, mut kept): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.home == 0);
    assert!(!lost.is_empty() && !kept.is_empty());
    let mut of_lost = Vec::new();
    for client in &lost {
        of_lost.push(client.poller.park().await?);
    }
    let mut of_kept = Vec::new();
    for client in &kept {
        of_kept.push(client.poller.park().await?);
    }
    parked(&nodes.iter().collect::<Vec<_>>(), 30).await?;
    let rest: Vec<_> = nodes.iter().skip(1).collect();
    let before = stale(&rest).await?;

    let lost_port = nodes[0].address().port();
    drop(nodes.remove(0));
    let rest: Vec<_> = nodes.iter().collect();
    for poll in &mut of_lost {
        // The node may have done what this poll asked, so nobody else is asked.
        assert_eq!(poll.answer().await?.status, 502);
    }
    // Whoever comes now gets a place, and does not even wait for it.
    for number in 0..20 {
        let open = timeout(AT_ONCE, Poller::open_at(at)).await;
        open.with_context(|| format!("open {number}"))??;
    }
    // The others' polls still wait, get what is published, and go on.
    parked(&rest, kept.len()).await?;
    for round in 0..3 {
        rest[0].publish(STREAM, &json!(round)).await?;
        for (client, poll) in kept.iter_mut().zip(&mut of_kept) {
            let answer = client.poller.understand(poll.answer().await?)?;
            assert_eq!(answer.messages(), [round]);
            *poll = client.poller.park().await?;
        }
        parked(&rest, kept.len()).await?;
    }
    assert_eq!(stale(&rest).await?, before);
    // The lost node's clients are told at their next poll, and start again.
    for client in &mut lost {
        client.poller.hang_up();
        let answer = client.poller.exchange("").await?;
        assert_eq!((answer.status, answer.text()?), (401, EXPIRED));
        let open = Request::post("/lp").header("Cookie", &client.cookie);
        let response = Connection::once(at, &open).await?;
        client.poller = Poller::from_open(at, &response)?;
        client.poller.subscribe(&frames::public(STREAM)).await?;
    }
    rest[0].publish(STREAM, &json!("again")).await?;
    for client in &mut lost {
        assert_eq!(client.poller.messages(1).await?, ["again"]);
    }
    assert_eq!(stale(&rest).await?, before + lost.len() as f64);

    // It comes back, and gets its keys again.
    let back = builder(&redis).port(lost_port).spawn().await?;
    ready(&back).await?;
    let back = [back];
    for client in &lost {
        let open = Request::post("/lp").header("Cookie", &client.cookie);
        assert_eventually!(
            {
                let before = opened(&back).await?;
                Connection::once(at, &open).await?;
                home(&before, &back).await.is_ok()
            },
            PATIENCE,
            "its clients do not come back"
        );
    }
    Ok(())
}

/// Two servers behind nginx, of which the first does what it is told, and a cookie that leads to
/// the first.
struct Two {
    nginx: Nginx,
    /// The status of the first's answers; zero for none.
    status: Arc<AtomicU16>,
    first: Upstream,
    second: Upstream,
    cookie: String,
}

impl Two {
    /// The first's answers have these headers too.
    async fn start(headers: &'static str) -> Result<Self> {
        let status = Arc::new(AtomicU16::new(200));
        let answer = {
            let status = Arc::clone(&status);
            move |_| match status.load(Ordering::Relaxed) {
                0 => None,
                status => Some(format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\n\r\n"
                )),
            }
        };
        let first = Upstream::spawn(answer).await?;
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let second = Upstream::spawn(move |_| Some(ok.to_owned())).await?;
        let nginx = Nginx::spawn(&[first.address(), second.address()]).await?;
        for number in 0..100 {
            let cookie = format!("pollux_route=key-{number}");
            let request = Request::post("/lp").header("Cookie", &cookie);
            ensure!(Connection::once(nginx.address(), &request).await?.status == 200);
            if !first.requests().is_empty() {
                return Ok(Self {
                    nginx,
                    status,
                    first,
                    second,
                    cookie,
                });
            }
        }
        anyhow::bail!("no key leads to the first")
    }

    /// A request for the first.
    async fn ask(&self, method: &str) -> Result<Response> {
        let request = Request::new(method, "/lp")
            .header("Cookie", &self.cookie)
            .body("once");
        let answer = timeout(AT_ONCE, Connection::once(self.nginx.address(), &request));
        answer.await?
    }

    /// Requests that each has got.
    fn seen(&self) -> (usize, usize) {
        (self.first.requests().len(), self.second.requests().len())
    }
}

#[tokio::test]
async fn a_post_that_may_have_run_is_not_sent_again() -> Result<()> {
    let two = Two::start("").await?;
    let (first, second) = two.seen();
    two.status.store(0, Ordering::Relaxed);
    // On a connection that was kept, and on a new one.
    for times in 1..=2 {
        assert_eq!(two.ask("POST").await?.status, 502);
        assert_eq!(two.seen(), (first + times, second));
    }
    let last = two.first.requests().pop().unwrap_or_default();
    assert!(last.ends_with("\r\n\r\nonce"), "{last}");
    Ok(())
}

#[tokio::test]
async fn a_get_that_was_cut_off_is_sent_again() -> Result<()> {
    let two = Two::start("").await?;
    let (first, second) = two.seen();
    two.status.store(0, Ordering::Relaxed);
    assert_eq!(two.ask("GET").await?.status, 200);
    assert_eq!(two.seen(), (first + 1, second + 1));
    Ok(())
}

#[tokio::test]
async fn a_post_that_can_not_be_sent_goes_elsewhere() -> Result<()> {
    // A connection that nginx keeps could be closed at the very moment it is used again, and that
    // is no failure to connect.
    let two = Two::start("Connection: close\r\n").await?;
    let before = two.second.requests().len();
    let (nginx, first, second) = (two.nginx, two.first, two.second);
    let request = Request::post("/lp").header("Cookie", &two.cookie);
    let request = request.body("once");
    first.stop().await;
    for times in 1..=10 {
        let answer = timeout(AT_ONCE, Connection::once(nginx.address(), &request));
        assert_eq!(answer.await??.status, 200);
        assert_eq!(second.requests().len(), before + times);
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_full_keeps_its_clients() -> Result<()> {
    let two = Two::start("").await?;
    let (first, second) = two.seen();
    two.status.store(503, Ordering::Relaxed);
    for times in 1..=10 {
        assert_eq!(two.ask("POST").await?.status, 503);
        assert_eq!(two.seen(), (first + times, second));
    }
    Ok(())
}
