//! Clients that want everything, and clients that send nonsense without end.

use anyhow::Result;
use pollux_testkit::{Connection, Node, Poller, Request, frames};

const WANTED: usize = 100_000;
const ALLOWED: usize = 1_000;
/// As many as fit into one request of 64 KiB.
const A_POLL: usize = 500;
/// Far above what a thousand subscriptions may cost a debug build, far below what a hundred
/// thousand would.
const MAX_GROWTH: u64 = 24 << 20;

#[tokio::test]
async fn a_hundred_thousand_subscriptions_harm_nobody_else() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "5")
        .flag("poll_flush_interval", "0")
        .flag("max_subscriptions_per_session", &ALLOWED.to_string())
        // What is behind that limit is the question.
        .flag("max_commands_per_second", "0")
        .spawn()
        .await?;
    let mut neighbour = Poller::subscribed(&node, &["quiet"]).await?;
    let mut greedy = Poller::open(&node).await?;
    let before = node.rss_bytes()?;

    let (mut confirmed, mut rejected) = (0, 0);
    for first in (0..WANTED).step_by(A_POLL) {
        let lines: String = (first..first + A_POLL)
            .map(|number| frames::subscribe(&frames::public(&format!("s{number}"))))
            .collect();
        let mut frames = greedy.poll_with(&lines).await?.frames;
        while frames.len() < A_POLL {
            frames.extend(greedy.poll().await?.frames);
        }
        let kinds = frames::kinds(&frames);
        let count = |kind| kinds.iter().filter(|known| **known == kind).count();
        confirmed += count("confirm_subscription");
        rejected += count("reject_subscription");
        if first % (WANTED / 10) == 0 {
            node.publish("quiet", &first.into()).await?;
            assert_eq!(neighbour.messages(1).await?, [first]);
        }
    }
    assert_eq!((confirmed, rejected), (ALLOWED, WANTED - ALLOWED));

    let metrics = node.metrics().await?;
    assert_eq!(
        metrics.sum("rejected_subscriptions_total"),
        Some((WANTED - ALLOWED) as f64)
    );
    assert_eq!(metrics.sum("subscriptions"), Some((ALLOWED + 1) as f64));
    let grown = node.rss_bytes()?.saturating_sub(before);
    assert!(grown < MAX_GROWTH, "the node grew by {grown} bytes");

    // What it was given works, what it was refused does not come.
    node.publish("s5000", &1.into()).await?;
    node.publish("s999", &2.into()).await?;
    assert_eq!(greedy.messages(1).await?, [2]);
    Ok(())
}

const STORM: usize = 2_000;
/// Twenty of these requests are as large as this; two thousand would not fit. Resident memory, and
/// not its proportional share: that grows when another node, of another test, ends.
const MAX_STORM_GROWTH: u64 = 8 << 20;

#[tokio::test]
async fn a_storm_of_nonsense_leaves_no_trace() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "0.01")
        .flag("poll_flush_interval", "0")
        .spawn()
        .await?;
    let mut neighbour = Poller::subscribed(&node, &["quiet"]).await?;
    let target = Poller::open(&node).await?;
    let forged = frames::subscribe(&frames::signed(&format!("forged--{}", "0".repeat(64))));
    let kinds = [
        (413, target.request(&"x".repeat(500_000))),
        (
            204,
            target.request("not JSON\n{\"command\":\"unheard of\"}\n[[[[[[[[\n"),
        ),
        (405, Request::new("DELETE", "/lp")),
        (
            401,
            Request::post("/lp").header("X-Anycable-Poll-ID", "no.body"),
        ),
        (200, target.request(&forged)),
        (
            422,
            Request::post("/_broadcast").body("{\"stream\":\"quiet\",\"data\""),
        ),
        (404, Request::get("/nowhere")),
    ];
    let mut before = 0;
    let mut connection = Connection::open(node.address()).await?;
    for round in 0..STORM {
        let (status, request) = &kinds[round % kinds.len()];
        let response = connection.ask(request).await?;
        assert_eq!(response.status, *status, "{round}: {:?}", response.body);
        if response.lists("connection", "close") {
            connection = Connection::open(node.address()).await?;
        }
        if round % 100 == 0 {
            node.publish("quiet", &round.into()).await?;
            assert_eq!(neighbour.messages(1).await?, [round]);
        }
        if round == STORM / 10 {
            before = node.rss_bytes()?;
        }
    }
    let grown = node.rss_bytes()?.saturating_sub(before);
    assert!(grown < MAX_STORM_GROWTH, "the node grew by {grown} bytes");
    assert_eq!(node.metric("sessions").await?, 2.0);
    Ok(())
}
