//! Clients that speak to each other without a backend.

use anyhow::Result;
use pollux_testkit::{Node, Poller, frames};
use serde_json::json;

/// `chat/2023`, signed with `s3Krit`.
const SIGNED: &str =
    "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c";

#[tokio::test]
async fn a_whisper_reaches_everybody_but_its_sender() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.5").spawn().await?;
    let mut sender = Poller::subscribed(&node, &["a"]).await?;
    let mut listener = Poller::subscribed(&node, &["a"]).await?;
    let mut stranger = Poller::subscribed(&node, &["b"]).await?;
    let a = frames::public("a");
    for data in [
        json!({"typing": true}),
        json!("text"),
        json!([1, null]),
        json!(null),
    ] {
        let answer = sender.exchange(&frames::whisper(&a, &data)).await?;
        assert_eq!(
            answer.status, 204,
            "the sender gets nothing: {:?}",
            answer.body
        );
        let frames = listener.poll().await?.frames;
        assert_eq!(frames, [json!({"identifier": a, "message": data})]);
    }
    assert_eq!(stranger.exchange("").await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_whisper_is_not_kept() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.3").spawn().await?;
    let mut sender = Poller::subscribed(&node, &["a"]).await?;
    let a = frames::public("a");
    sender.exchange(&frames::whisper(&a, &json!(1))).await?;
    node.publish("a", &2.into()).await?;
    let mut late = Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&a, &json!({"since": 0}));
    let frames = late.poll_with(&line).await?.frames;
    assert_eq!(frames::messages(&frames), [2]);
    Ok(())
}

#[tokio::test]
async fn whispering_needs_a_subscription() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.3").spawn().await?;
    let mut listener = Poller::subscribed(&node, &["a"]).await?;
    let mut outsider = Poller::subscribed(&node, &["b"]).await?;
    let whisper = frames::whisper(&frames::public("a"), &json!(1));
    assert_eq!(outsider.exchange(&whisper).await?.status, 204);
    assert_eq!(listener.exchange("").await?.status, 204);
    assert_eq!(node.metric("ignored_client_msg_total").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn on_signed_streams_whispering_must_be_switched_on() -> Result<()> {
    for allowed in [false, true] {
        let node = Node::builder()
            .switch("noauth")
            .flag("secret", "s3Krit")
            .flag("poll_interval", "0.5")
            .flag("streams_whisper", &allowed.to_string())
            .spawn()
            .await?;
        let identifier = frames::signed(SIGNED);
        let mut sender = Poller::open(&node).await?;
        let mut listener = Poller::open(&node).await?;
        sender.subscribe(&identifier).await?;
        listener.subscribe(&identifier).await?;
        let whisper = frames::whisper(&identifier, &json!(1));
        assert_eq!(sender.exchange(&whisper).await?.status, 204);
        let status = listener.exchange("").await?.status;
        assert_eq!(
            status,
            if allowed { 200 } else { 204 },
            "streams_whisper={allowed}"
        );
    }
    Ok(())
}
