//! Nodes are replaced one after the other while everybody publishes.

use anyhow::Result;
use pollux_testkit::{
    Cable, Client, Door, Nginx, Node, NodeBuilder, PATIENCE, Redis, Server, Traffic, frames,
};
use serde_json::{Value, json};
use std::time::Duration;

const STREAMS: [&str; 3] = ["a", "b", "c"];
/// Each publisher publishes so often.
const EVERY: Duration = Duration::from_millis(20);
/// Messages of each publisher before a node is replaced, and after it.
const AROUND: u64 = 25;

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "1")
        .flag("ping_interval", "1")
        .flag("sse", "true")
        .flag("history_limit", "5000")
        .redis(redis)
}

/// Rolls three nodes behind nginx under these clients.
async fn roll(clients: &[(Client, usize)]) -> Result<()> {
    let redis = Redis::builder().append_only().spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(builder(&redis).spawn_ready().await?);
    }
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    let nginx = Nginx::spawn(&addresses).await?;
    let mut traffic = Traffic::on(&STREAMS);
    for &(client, number) in clients {
        traffic.read_as(client, &nginx, number).await?;
    }
    let server = Server::from(&redis);
    traffic.publish(Door::Fcall, &server, EVERY);
    traffic.accepted(AROUND).await?;
    for node in &mut nodes {
        let port = node.address().port();
        let status = node.terminate(PATIENCE).await?;
        assert_eq!(status.code(), Some(0), "{}", node.log().text());
        traffic.accepted(AROUND).await?;
        *node = builder(&redis).port(port).spawn_ready().await?;
        traffic.accepted(AROUND).await?;
    }
    let outcome = traffic.finish().await?;
    assert!(outcome.is_clean(), "{outcome}");
    for node in &nodes {
        assert_eq!(node.metric("long_poll_stale_requests_total").await?, 0.0);
    }
    Ok(())
}

#[tokio::test]
async fn pollers_without_a_cursor_notice_nothing() -> Result<()> {
    roll(&[(Client::PlainPoller, 12)]).await
}

#[tokio::test]
async fn pollers_with_a_cursor_notice_nothing() -> Result<()> {
    roll(&[(Client::CursorPoller, 12)]).await
}

#[tokio::test]
async fn sockets_come_back_for_what_they_missed() -> Result<()> {
    roll(&[(Client::Socket, 12)]).await
}

#[tokio::test]
async fn event_streams_come_back_for_what_they_missed() -> Result<()> {
    roll(&[(Client::EventStream, 12)]).await
}

#[tokio::test]
async fn all_of_them_together() -> Result<()> {
    let clients = [
        Client::PlainPoller,
        Client::CursorPoller,
        Client::Socket,
        Client::EventStream,
    ];
    roll(&clients.map(|client| (client, 6))).await
}

/// It has no way to ask for what it missed; but what it gets is in order, and once.
#[tokio::test]
async fn base_sockets_miss_only_what_came_while_they_were_away() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut one = builder(&redis).spawn_ready().await?;
    let two = builder(&redis).spawn_ready().await?;
    let news = frames::public("news");
    let mut cable = Cable::open_at(one.address(), "/cable", "actioncable-v1-json").await?;
    cable.subscribe(&news).await?;
    for number in 1..=3 {
        two.publish("news", &json!(number)).await?;
    }
    let mut seen = cable.messages(3).await?;
    one.ask_to_stop()?;
    let (last, code, reason) = cable.ending().await?;
    let farewell = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
    assert_eq!(last, [farewell]);
    assert_eq!((code, reason.as_str()), (1001, "Server restart"));
    two.publish("news", &json!("missed")).await?;
    let mut cable = Cable::open_at(two.address(), "/cable", "actioncable-v1-json").await?;
    cable.subscribe(&news).await?;
    for number in 4..=6 {
        two.publish("news", &json!(number)).await?;
    }
    seen.extend(cable.messages(3).await?);
    assert_eq!(seen, (1..=6).map(Value::from).collect::<Vec<_>>());
    assert_eq!(one.wait(PATIENCE).await?.code(), Some(0));
    Ok(())
}
