//! Clients that keep a connection and say nothing, or one byte at a time, and
//! those who find no place any more.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Connection, Node, PATIENCE, Poller, Request, Response, assert_eventually, frames,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, interval, timeout};

/// Connections of an attacker, as many as many a tool makes.
const MANY: usize = 1_000;

/// Requests that are never whole, one for each place where the node waits for
/// more.
const HALVES: [(&str, &str); 9] = [
    ("nothing", ""),
    ("a poll's head", "POST /lp HTTP/1.1\r\nHost: a\r\nX-"),
    (
        "a poll's body",
        "POST /lp HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    ),
    (
        "a poll's body in chunks",
        "POST /lp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{",
    ),
    ("another head", "GET /health HTTP/1.1\r\nHost: a\r\nX-"),
    (
        "a publication",
        "POST /_broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    ),
    (
        "a push",
        "POST /push?rcpt=a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    ),
    (
        "commands of an event stream",
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    ),
    ("a preface", "PRI * HTTP/2.0\r\n\r\n"),
];

async fn node() -> Result<Node> {
    Node::builder()
        .flag("header_read_timeout", "1")
        .spawn()
        .await
}

/// Sends the beginning of a request.
async fn begin(node: &Node, half: &str) -> Result<Connection> {
    let mut connection = Connection::open(node.address()).await?;
    connection.send_bytes(half.as_bytes()).await?;
    Ok(connection)
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() -> Result<()> {
    let node = node().await?;
    let mut waiting = Vec::new();
    for (what, half) in HALVES {
        waiting.push((what, begin(&node, half).await?));
    }
    for (what, mut connection) in waiting {
        // Where a body was to come, its sender may be told.
        let answer = connection.response_within(PATIENCE).await;
        if let Ok(answer) = answer {
            let answer = answer.with_context(|| format!("{what} is waited for"))?;
            ensure!(answer.status == 408, "{what}: {answer:?}");
            connection.closed_within(PATIENCE).await.context(what)?;
        }
    }
    assert_eventually!(node.metric("connections").await? <= 1.0, PATIENCE);
    assert_eq!(node.metric("sessions").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_byte_at_a_time_is_no_sign_of_life() -> Result<()> {
    let node = node().await?;
    for (what, half) in HALVES {
        let mut connection = begin(&node, half).await?;
        let start = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        let trickle = async {
            loop {
                ticks.tick().await;
                let ended = connection.readable_within(Duration::ZERO).await?;
                if ended || connection.send_bytes(b"a").await.is_err() {
                    return anyhow::Ok(());
                }
            }
        };
        let ended = timeout(PATIENCE, trickle).await;
        ended.with_context(|| format!("{what} goes on after {:?}", start.elapsed()))??;
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_half_open_connections_keep_nobody_out() -> Result<()> {
    let node = Node::builder()
        .flag("header_read_timeout", "5")
        .spawn()
        .await?;
    let before = node.rss_bytes()?;
    let mut halves = Vec::new();
    for number in 0..MANY {
        let (_, half) = HALVES[number % HALVES.len()];
        halves.push(begin(&node, half).await?);
    }
    assert!(node.metric("connections").await? >= 500.0);
    let start = Instant::now();
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    node.publish("a", &json!("news")).await?;
    assert_eq!(poller.messages(1).await?, [json!("news")]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let grown = node.rss_bytes()?.saturating_sub(before) / 1_000;
    assert!(grown < 64 * 1024, "{grown} bytes a connection");
    // And it is over without their doing anything.
    assert_eventually!(
        {
            poller.poll_with(&frames::ping()).await?;
            node.metric("connections").await? <= 2.0
        },
        Duration::from_secs(60)
    );
    drop(halves);
    assert_eq!(node.ask(&Request::get("/health")).await?.status, 200);
    Ok(())
}

/// As many as a full node still listens to.
const SPARE: usize = 16;

fn is_full(answer: &Response) -> Result<()> {
    ensure!(answer.status == 503, "{answer:?}");
    let seconds: u32 = answer.header("retry-after").context("no time")?.parse()?;
    ensure!((1..=5).contains(&seconds), "{seconds}");
    Ok(())
}

#[tokio::test]
async fn a_full_node_says_so_and_is_not_taken_for_dead() -> Result<()> {
    let node = Node::builder().flag("max_connections", "2").spawn().await?;
    let mut first = Connection::open(node.address()).await?;
    assert_eq!(first.ask(&Request::get("/health")).await?.status, 200);
    let mut second = Connection::open(node.address()).await?;
    assert_eq!(second.ask(&Request::get("/health")).await?.status, 200);
    for path in ["/health", "/ready", "/metrics"] {
        let mut connection = Connection::open(node.address()).await?;
        let answer = connection.ask(&Request::get(path)).await?;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.lists("connection", "close"), "{path}");
        connection.closed_within(PATIENCE).await?;
    }
    for request in [
        Request::post("/lp"),
        Request::post("/_broadcast").body(frames::publication("a", &json!(1))),
        Request::get("/cable"),
        Request::get("/events?stream=a"),
        Request::get("/"),
    ] {
        let mut connection = Connection::open(node.address()).await?;
        is_full(&connection.ask(&request).await?)?;
        connection.closed_within(PATIENCE).await?;
    }
    assert_eq!(node.metric("refused_connections_total").await?, 5.0);
    assert_eq!(node.metric("sessions").await?, 0.0);
    // Those who were there are served, and whoever leaves makes room.
    assert_eq!(first.ask(&Request::post("/lp")).await?.status, 200);
    drop(second);
    assert_eventually!(
        node.ask(&Request::post("/lp")).await?.status == 200,
        PATIENCE
    );
    Ok(())
}

#[tokio::test]
async fn silence_does_not_take_the_last_places_for_long() -> Result<()> {
    let node = Node::builder().flag("max_connections", "1").spawn().await?;
    let mut first = Connection::open(node.address()).await?;
    assert_eq!(first.ask(&Request::get("/health")).await?.status, 200);
    let mut silent = Vec::new();
    for _ in 0..SPARE {
        silent.push(begin(&node, "GET /health HTTP/1.1\r\n").await?);
    }
    // Nobody is asked any more.
    let mut refused = Connection::open(node.address()).await?;
    is_full(&refused.response().await?)?;
    refused.closed_within(PATIENCE).await?;
    assert_eventually!(
        Connection::once(node.address(), &Request::get("/health"))
            .await
            .is_ok_and(|answer| answer.status == 200),
        PATIENCE
    );
    for mut connection in silent {
        connection.closed_within(PATIENCE).await?;
    }
    Ok(())
}
