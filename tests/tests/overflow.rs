//! Clients that do not fetch what is theirs.

use anyhow::Result;
use pollux_testkit::{Node, Poller, frames};
use serde_json::json;

const EXPIRED: &str =
    "{\"type\":\"disconnect\",\"reason\":\"session_expired\",\"reconnect\":true}\n";

async fn node(policy: &str) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "0.3")
        .flag("poll_keepalive_timeout", "30")
        .flag("poll_overflow", policy)
        .flag("poll_outbox_max_frames", "10")
        .flag("poll_outbox_max_bytes", "10000")
        .spawn()
        .await
}

#[tokio::test]
async fn expire_ends_the_session_and_says_that_something_was_lost() -> Result<()> {
    let node = node("expire").await?;
    let mut slow = Poller::subscribed(&node, &["a"]).await?;
    let mut other = Poller::subscribed(&node, &["b"]).await?;
    for number in 0..30 {
        node.publish("a", &number.into()).await?;
    }
    node.fanned_out(30).await?;
    let response = slow.exchange("").await?;
    assert_eq!(response.status, 401);
    assert_eq!(response.text()?, EXPIRED);
    assert_eq!(response.header("pollux-gap"), Some("1"));
    assert_eq!(node.metric("disconnected_slow_clients_total").await?, 1.0);
    assert_eq!(node.metric("sessions").await?, 1.0);
    assert_eq!(node.metric("broadcast_streams_num").await?, 1.0);
    assert_eq!(
        node.metric("subscriptions").await?,
        1.0,
        "its memory is free"
    );

    node.publish("b", &1.into()).await?;
    assert_eq!(other.messages(1).await?, [1], "somebody else suffered");
    Ok(())
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_and_says_so_once() -> Result<()> {
    let node = node("drop_oldest").await?;
    let mut slow = Poller::subscribed(&node, &["a"]).await?.with_cursor();
    // What was flushed and not acknowledged takes room too; this says that it has it.
    assert_eq!(slow.exchange("").await?.status, 204);
    for number in 0..30 {
        node.publish("a", &number.into()).await?;
    }
    node.fanned_out(30).await?;
    let answer = slow.poll().await?;
    assert_eq!(
        answer.messages(),
        (20..30).map(serde_json::Value::from).collect::<Vec<_>>()
    );
    assert_eq!(answer.response.header("pollux-gap"), Some("1"));
    assert_eq!(
        slow.cursor(),
        32,
        "the numbers of dropped frames are not used again"
    );
    assert_eq!(node.metric("dropped_frames_total").await?, 20.0);

    node.publish("a", &30.into()).await?;
    let answer = slow.poll().await?;
    assert_eq!(answer.messages(), [30]);
    assert!(!answer.gap(), "it has been told already");
    Ok(())
}

#[tokio::test]
async fn a_few_large_messages_fill_an_outbox_too() -> Result<()> {
    let node = node("drop_oldest").await?;
    let mut slow = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..5 {
        let data = json!({"n": number, "x": "x".repeat(4_000)});
        node.publish("a", &data).await?;
    }
    node.fanned_out(5).await?;
    let answer = slow.poll().await?;
    let numbers: Vec<_> = answer
        .messages()
        .iter()
        .map(|message| message["n"].clone())
        .collect();
    assert_eq!(numbers, [3, 4]);
    assert!(answer.gap());
    Ok(())
}

#[tokio::test]
async fn whoever_polls_does_not_overflow() -> Result<()> {
    let node = node("expire").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..100 {
        node.publish("a", &number.into()).await?;
        if number % 5 == 4 {
            let expected: Vec<_> = (number - 4..=number).map(serde_json::Value::from).collect();
            assert_eq!(poller.messages(5).await?, expected);
        }
    }
    assert_eq!(node.metric("dropped_frames_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_and_its_memory_bounded() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "30")
        .flag("poll_write_timeout", "1")
        .flag("poll_keepalive_timeout", "60")
        .flag("poll_overflow", "drop_oldest")
        .flag("poll_outbox_max_bytes", "16MiB")
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    // More than any socket buffer of this machine takes.
    let chunk = "x".repeat(500_000);
    for number in 0..24 {
        node.publish("a", &json!({"n": number, "x": chunk})).await?;
    }
    let deaf = poller.park().await?;
    let connection = deaf.into_connection();
    connection.shrink_receive_buffer(4_096)?;
    pollux_testkit::assert_eventually!(
        node.metric("timeout_server_msg_total").await? >= 1.0,
        pollux_testkit::PATIENCE
    );
    let response = poller.exchange("").await?;
    let messages = frames::messages(&response.frames()?);
    assert_eq!(messages.len(), 24, "they went back to the session");
    drop(connection);
    Ok(())
}
