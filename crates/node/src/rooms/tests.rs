//! The library's calls.

use crate::{Config, Node, Payload, RoomMessage};
use std::time::Duration;

fn message(n: u32) -> RoomMessage {
    RoomMessage::new("t", Payload::from_text(&format!("{{\"n\":{n}}}")))
}

fn node(config: Config) -> Node {
    Node::builder().config(config).build().unwrap()
}

#[tokio::test]
async fn applications_push_and_poll() {
    let node = node(Config {
        room_buffer_size: 3,
        ..Config::default()
    });
    assert_eq!(node.buffer_size("s").await.unwrap(), 0);
    assert!(node.poll("s", 5).await.unwrap().is_empty());
    for n in 0..5 {
        node.push_to("s", &message(n)).await.unwrap();
    }
    assert_eq!(node.buffer_size("s").await.unwrap(), 3);
    assert!(node.poll("s", 0).await.unwrap().is_empty());
    let payloads = |messages: Vec<RoomMessage>| {
        let payload = |message: &RoomMessage| message.payload.as_str().to_owned();
        messages.iter().map(payload).collect::<Vec<_>>()
    };
    let first = node.poll("s", 1).await.unwrap();
    assert_eq!(payloads(first), [r#"{"n":2}"#]);
    let rest = node.poll("s", 50).await.unwrap();
    assert_eq!(payloads(rest), [r#"{"n":3}"#, r#"{"n":4}"#]);
    assert!(node.push_to("", &message(1)).await.is_err());
    assert!(node.poll(&"x".repeat(3_000), 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn sessions_without_life_are_swept() {
    let node = node(Config {
        room_ttl: Duration::from_secs(60),
        ..Config::default()
    });
    node.push_to("idle", &message(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    node.push_to("busy", &message(1)).await.unwrap();
    assert_eq!(node.sweep(), 0);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(node.sweep(), 1);
    assert!(node.poll("idle", 5).await.unwrap().is_empty());
    assert_eq!(node.poll("busy", 5).await.unwrap().len(), 1);
}
