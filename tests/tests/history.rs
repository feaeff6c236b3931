//! Recovering what was missed, with positions, from the embedded broker.

use anyhow::{Context, Result};
use pollux_testkit::{Connection, Node, Poller, frames};
use serde_json::{Value, json};

async fn node() -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "0.3")
        .flag("poll_flush_interval", "0")
        .flag("history_limit", "10")
        .spawn()
        .await
}

async fn publish(node: &Node, count: u64) -> Result<()> {
    for number in 1..=count {
        node.publish("a", &number.into()).await?;
    }
    Ok(())
}

/// The position of a message.
fn position(frame: &Value) -> Result<(u64, String)> {
    assert_eq!(frame["stream_id"], "a", "{frame}");
    let epoch = frame["epoch"].as_str().context("no epoch")?;
    Ok((
        frame["offset"].as_u64().context("no offset")?,
        epoch.to_owned(),
    ))
}

/// All frames that come until the stream is quiet.
async fn ask(poller: &mut Poller, line: &str) -> Result<Vec<Value>> {
    let mut frames = Vec::new();
    let mut answer = poller.poll_with(line).await?;
    while answer.response.status == 200 {
        frames.append(&mut answer.frames);
        answer = poller.poll().await?;
    }
    Ok(frames)
}

fn at(offset: u64, epoch: &str) -> Value {
    json!({"streams": {"a": {"offset": offset, "epoch": epoch}}})
}

#[tokio::test]
async fn messages_carry_positions_without_a_hole() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    publish(&node, 5).await?;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(poller.poll().await?.frames);
    }
    let positions = seen.iter().map(position).collect::<Result<Vec<_>>>()?;
    let offsets: Vec<u64> = positions.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5]);
    assert!(positions.iter().all(|(_, epoch)| *epoch == positions[0].1));
    Ok(())
}

#[tokio::test]
async fn a_replay_starts_after_the_given_offset() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    publish(&node, 5).await?;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(poller.poll().await?.frames);
    }
    let epoch = position(&seen[0])?.1;
    let a = frames::public("a");
    for since in 0..=5 {
        let frames = ask(&mut poller, &frames::history(&a, &at(since, &epoch))).await?;
        let (verdict, replayed) = frames.split_last().context("no answer")?;
        assert_eq!(frames::kind(verdict), "confirm_history");
        assert_eq!(verdict["identifier"], a);
        let skip = usize::try_from(since)?;
        assert_eq!(replayed, &seen[skip..], "a replayed message is the message");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_client_recovers_while_it_subscribes() -> Result<()> {
    let node = node().await?;
    let mut first = Poller::subscribed(&node, &["a"]).await?;
    publish(&node, 1).await?;
    let (_, epoch) = position(&first.poll().await?.frames[0])?;
    publish(&node, 3).await?;

    let a = frames::public("a");
    let mut second = Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&a, &at(1, &epoch));
    let frames = ask(&mut second, &line).await?;
    let expected = [
        "confirm_subscription",
        "message",
        "message",
        "message",
        "confirm_history",
    ];
    assert_eq!(frames::kinds(&frames), expected);
    assert_eq!(frames::messages(&frames), [1, 2, 3]);
    assert_eq!(position(&frames[1])?.0, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_replayed_does_not_come_live_as_well() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "0.2")
        .flag("poll_flush_interval", "0")
        .spawn()
        .await?;
    let mut publisher = Connection::open(node.address()).await?;
    for round in 0..40 {
        let stream = format!("s{round}");
        let batch: Vec<Value> = (1..=50)
            .map(|number| json!({"stream": stream, "data": number}))
            .collect();
        let request = node.broadcast_request(&Value::from(batch).to_string());
        let mut poller = Poller::open(&node).await?;
        // The client subscribes while the batch is on its way to the sessions.
        publisher.send(&request).await?;
        let identifier = frames::public(&stream);
        let line = frames::subscribe_with_history(&identifier, &json!({"since": 0}));
        let frames = ask(&mut poller, &line).await?;
        assert_eq!(publisher.response().await?.status, 201);
        let expected: Vec<Value> = (1..=50).map(Value::from).collect();
        assert_eq!(frames::messages(&frames), expected, "round {round}");
    }
    Ok(())
}

#[tokio::test]
async fn history_is_found_by_time_too() -> Result<()> {
    let node = node().await?;
    publish(&node, 3).await?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let a = frames::public("a");
    for (since, count) in [(0, 3), (now - 60, 3), (now + 60, 0)] {
        let mut poller = Poller::open(&node).await?;
        let line = frames::subscribe_with_history(&a, &json!({"since": since, "streams": {}}));
        let frames = ask(&mut poller, &line).await?;
        assert_eq!(frames::messages(&frames).len(), count, "since {since}");
        let last = frames.last().context("no answer")?;
        assert_eq!(frames::kind(last), "confirm_history");
    }
    // A stream nobody knows has nothing to tell, and that is no error.
    let unknown = frames::public("unknown");
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&unknown, &json!({"since": 0}));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(
        frames::kinds(&frames),
        ["confirm_subscription", "confirm_history"]
    );
    Ok(())
}

#[tokio::test]
async fn what_history_cannot_tell_is_rejected_and_nothing_is_sent() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    // The history holds ten.
    publish(&node, 15).await?;
    let mut seen = Vec::new();
    while seen.len() < 15 {
        seen.extend(poller.poll().await?.frames);
    }
    let epoch = position(&seen[0])?.1;
    let a = frames::public("a");
    let bad = [
        at(15, "another"),
        at(4, &epoch),
        at(0, &epoch),
        at(16, &epoch),
    ];
    for request in bad {
        let frames = ask(&mut poller, &frames::history(&a, &request)).await?;
        assert_eq!(frames::kinds(&frames), ["reject_history"], "{request}");
        assert_eq!(frames[0]["identifier"], a);
    }
    let frames = ask(&mut poller, &frames::history(&a, &at(5, &epoch))).await?;
    assert_eq!(frames.len(), 11, "the oldest that is kept");
    let unknown = frames::public("unknown");
    poller.subscribe(&unknown).await?;
    let request = json!({"streams": {"unknown": {"offset": 1, "epoch": epoch}}});
    let frames = ask(&mut poller, &frames::history(&unknown, &request)).await?;
    assert_eq!(frames::kinds(&frames), ["reject_history"]);
    Ok(())
}

#[tokio::test]
async fn a_request_that_asks_for_nothing_is_a_mistake_without_an_answer() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let frames = ask(
        &mut poller,
        &frames::history(&frames::public("a"), &json!({})),
    )
    .await?;
    assert!(frames.is_empty(), "{frames:?}");
    assert_eq!(node.metric("failed_client_msg_total").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn transient_messages_are_not_kept() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let body = json!({"stream": "a", "data": "1", "meta": {"transient": true}}).to_string();
    assert_eq!(node.broadcast(&body).await?.status, 201);
    node.publish("a", &2.into()).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(poller.poll().await?.frames);
    }
    assert!(seen[0].get("offset").is_none(), "{}", seen[0]);
    assert_eq!(position(&seen[1])?.0, 1);
    let line = frames::history(&frames::public("a"), &json!({"since": 0}));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(frames::messages(&frames), [2]);
    Ok(())
}

#[tokio::test]
async fn without_history_every_request_is_rejected() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "0.3")
        .flag("history_limit", "0")
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    publish(&node, 2).await?;
    assert_eq!(poller.messages(2).await?, [1, 2]);
    let line = frames::history(&frames::public("a"), &at(0, "x"));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(frames::kinds(&frames), ["reject_history"]);
    Ok(())
}
