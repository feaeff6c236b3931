//! Server-sent events.

use anyhow::{Context, Result};
use pollux_testkit::{
    Cable, EventStream, Node, PATIENCE, Poller, Redis, Request, assert_eventually, frames,
};
use serde_json::{Value, json};

async fn publish(node: &Node, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    for number in numbers {
        node.publish("chat/1", &json!({ "n": number })).await?;
    }
    Ok(())
}

fn numbers(events: &[pollux_testkit::Event]) -> Vec<u64> {
    let number = |data: &str| serde_json::from_str::<Value>(data).ok()?["n"].as_u64();
    events
        .iter()
        .filter_map(|event| number(&event.data))
        .collect()
}

#[tokio::test]
async fn a_stream_begins_at_once_and_carries_what_is_published() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut events = EventStream::open(&node, "/events?stream=chat/1").await?;
    assert!(events.has_header("content-type: text/event-stream; charset=utf-8"));
    assert!(events.has_header("x-accel-buffering: no"));
    assert!(events.has_header("access-control-allow-origin: *"));
    let retry = events.next().await?.context("no retry")?.retry;
    assert!(
        retry.is_some_and(|retry| (1_000..=4_000).contains(&retry)),
        "{retry:?}"
    );
    let welcome: Value = serde_json::from_str(&events.named("welcome").await?.data)?;
    assert!(welcome["sid"].is_string());
    events.named("confirm_subscription").await?;
    publish(&node, 1..=3).await?;
    let seen = events.messages(3).await?;
    assert_eq!(numbers(&seen), [1, 2, 3]);
    assert!(
        seen[0]
            .id
            .as_deref()
            .is_some_and(|id| id.starts_with("1/") && id.ends_with("/chat/1"))
    );
    assert_eq!(node.metric("sse_clients_num").await?, 1.0);
    drop(events);
    assert_eventually!(node.metric("sse_clients_num").await? == 0.0, PATIENCE);
    assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn the_last_event_id_brings_what_was_missed_on_another_node() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let node = Node::builder().redis(&redis).spawn().await?;
        assert_eventually!(node.get("/ready").await?.status == 200, PATIENCE);
        nodes.push(node);
    }
    let mut events = EventStream::open(&nodes[0], "/events?stream=chat/1").await?;
    publish(&nodes[1], 1..=3).await?;
    let id = events.messages(2).await?[1].id.clone().context("no id")?;
    drop(events);
    publish(&nodes[0], 4..=5).await?;

    let headers = [("Last-Event-ID", id.as_str())];
    let address = nodes[1].address();
    let mut again = EventStream::open_at(address, "/events?stream=chat/1", &headers).await?;
    publish(&nodes[0], 6..=6).await?;
    assert_eq!(numbers(&again.messages(4).await?), [3, 4, 5, 6]);

    // A page that was loaded again has no header to send.
    let target = format!(
        "/events?stream=chat/1&lastEventId={}",
        id.replace('/', "%2F")
    );
    let mut again = EventStream::open(&nodes[1], &target).await?;
    assert_eq!(numbers(&again.messages(4).await?), [3, 4, 5, 6]);

    // The order of AnyCable's documents.
    let parts: Vec<_> = id.splitn(3, '/').collect();
    let swapped = format!("{}/{}/{}", parts[0], parts[2], parts[1]);
    let headers = [("Last-Event-ID", swapped.as_str())];
    let mut again = EventStream::open_at(address, "/events?stream=chat/1", &headers).await?;
    assert_eq!(numbers(&again.messages(4).await?), [3, 4, 5, 6]);
    Ok(())
}

#[tokio::test]
async fn an_id_of_a_forgotten_life_is_told_and_the_stream_goes_on() -> Result<()> {
    let node = Node::builder().spawn().await?;
    publish(&node, 1..=2).await?;
    node.fanned_out(2).await?;
    let headers = [("Last-Event-ID", "1/gone/chat/1")];
    let target = "/events?stream=chat/1";
    let mut events = EventStream::open_at(node.address(), target, &headers).await?;
    events.named("reject_history").await?;
    publish(&node, 3..=3).await?;
    assert_eq!(numbers(&events.messages(1).await?), [3]);
    Ok(())
}

#[tokio::test]
async fn raw_streams_have_nothing_but_publications() -> Result<()> {
    let node = Node::builder().flag("ping_interval", "1").spawn().await?;
    let mut events = EventStream::open(&node, "/events?stream=chat/1&raw=1").await?;
    assert!(events.next().await?.context("no retry")?.retry.is_some());
    node.broadcast(&frames::publication("chat/1", &json!("two\nlines")))
        .await?;
    let event = events.next().await?.context("no event")?;
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("", "two\nlines")
    );
    Ok(())
}

#[tokio::test]
async fn a_body_opens_several_subscriptions() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let body = frames::subscribe(&frames::public("a")) + &frames::subscribe(&frames::public("b"));
    let mut events = EventStream::post(node.address(), "/events", &body).await?;
    node.publish("a", &json!(1)).await?;
    node.publish("b", &json!(2)).await?;
    for (stream, number) in [("a", 1), ("b", 2)] {
        let frame: Value = serde_json::from_str(&events.named("").await?.data)?;
        assert_eq!(frame["identifier"], frames::public(stream));
        assert_eq!(frame["message"], number);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_is_refused_before_the_stream_begins() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for (target, status) in [
        ("/events", 400),
        ("/events?channel=Unknown", 400),
        ("/events?signed_stream=forged", 400),
        ("/events?stream=a&last-event-id=nonsense", 400),
    ] {
        assert_eq!(node.get(target).await?.status, status, "{target}");
    }
    let empty = node
        .ask(&Request::post("/events").body("nonsense\n"))
        .await?;
    assert_eq!(empty.status, 400);
    let large = node
        .ask(&Request::post("/events").body("x".repeat(70_000)))
        .await?;
    assert_eq!(large.status, 413);
    assert_eq!(node.metric("sessions").await?, 0.0);

    let closed = Node::builder().flag("secret", "s3cr3t").spawn().await?;
    assert_eq!(closed.get("/events?stream=a").await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_ends_its_streams_cleanly() -> Result<()> {
    let mut node = Node::builder().spawn().await?;
    let mut events = EventStream::open(&node, "/events?stream=a").await?;
    events.named("confirm_subscription").await?;
    node.ask_to_stop()?;
    let farewell = events.named("disconnect").await?;
    assert!(farewell.data.contains("server_restart"));
    assert_eq!(farewell.retry, None);
    assert_eq!(events.next().await?, None);
    assert!(node.wait(PATIENCE).await?.success());
    Ok(())
}

#[tokio::test]
async fn backends_send_clients_away_for_good() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut events = EventStream::open(&node, "/events?stream=a").await?;
    let welcome: Value = serde_json::from_str(&events.named("welcome").await?.data)?;
    let identifiers = json!({"sid": welcome["sid"]}).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(false));
    assert_eq!(node.broadcast(&command).await?.status, 201);
    let farewell = events.named("disconnect").await?;
    assert_eq!(farewell.retry, Some(31_536_000_000));
    assert_eq!(events.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn all_transports_see_one_order() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut events = EventStream::open(&node, "/events?stream=chat/1").await?;
    events.named("confirm_subscription").await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("chat/1")).await?;
    let mut poller = Poller::subscribed(&node, &["chat/1"]).await?;
    publish(&node, 1..=30).await?;
    let all: Vec<_> = (1..=30).map(|number| json!({ "n": number })).collect();
    assert_eq!(cable.messages(30).await?, all);
    assert_eq!(poller.messages(30).await?, all);
    assert_eq!(
        numbers(&events.messages(30).await?),
        (1..=30).collect::<Vec<_>>()
    );
    Ok(())
}
