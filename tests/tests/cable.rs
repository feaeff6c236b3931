//! Action Cable over WebSocket.

use anyhow::Result;
use pollux_testkit::{Cable, Node, PATIENCE, Poller, Request, Said, assert_eventually, frames};
use serde_json::json;
use std::time::Duration;

async fn refused(node: &Node, path: &str, headers: &[(&str, &str)]) -> String {
    let refusal = Cable::connect(node.address(), path, headers).await;
    refusal.map_or_else(|error| error.to_string(), |_| "101".to_owned())
}

#[tokio::test]
async fn the_protocol_is_negotiated() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for (offered, chosen) in [
        (pollux_testkit::PROTOCOLS, Some("actioncable-v1-ext-json")),
        (
            "actioncable-v1-json, actioncable-unsupported",
            Some("actioncable-v1-json"),
        ),
        (
            "actioncable-v1-json, anycable-token.e.y.z",
            Some("actioncable-v1-json"),
        ),
        ("", None),
    ] {
        let cable = Cable::open_at(node.address(), "/cable", offered).await?;
        assert_eq!(cable.protocol(), chosen, "{offered}");
    }
    let unknown = [("Sec-WebSocket-Protocol", "mqtt")];
    assert_eq!(refused(&node, "/cable", &unknown).await, "HTTP 400");
    assert_eq!(refused(&node, "/elsewhere", &[]).await, "HTTP 404");
    let plain = node.ask(&Request::get("/cable")).await?;
    assert_eq!(plain.status, 426);
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() -> Result<()> {
    let node = Node::builder()
        .flag("allowed_origins", "app.example,*.good.example")
        .spawn()
        .await?;
    assert_eq!(refused(&node, "/cable", &[]).await, "HTTP 403");
    for (origin, expected) in [
        ("https://app.example", "101"),
        ("https://x.good.example", "101"),
        ("https://evil.example", "HTTP 403"),
        ("null", "HTTP 403"),
    ] {
        let answer = refused(&node, "/cable", &[("Origin", origin)]).await;
        assert_eq!(answer, expected, "{origin}");
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_and_a_poll_share_a_stream() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("a")).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 1..=50 {
        node.publish("a", &json!(number)).await?;
    }
    let all: Vec<_> = (1..=50).map(|number| json!(number)).collect();
    assert_eq!(cable.messages(50).await?, all);
    assert_eq!(poller.messages(50).await?, all);
    assert_eq!(node.metric("websocket_clients_num").await?, 1.0);
    assert_eq!(node.metric("long_poll_clients_num").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn commands_are_answered_in_order() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut cable = Cable::open(&node).await?;
    let identifier = frames::public("a");
    cable.say(&frames::subscribe(&identifier)).await?;
    cable.say(r#"{"command":"ping"}"#).await?;
    cable
        .say(&frames::subscribe(r#"{"channel":"$pubsub"}"#))
        .await?;
    cable.say_bytes(br#"{"command":"ping"}"#).await?;
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(frames::kind(&cable.frame().await?).to_owned());
    }
    assert_eq!(
        kinds,
        [
            "confirm_subscription",
            "pong",
            "reject_subscription",
            "pong"
        ]
    );
    // The guarantor of Rails' client repeats what is on its way.
    cable.say(&frames::subscribe(&identifier)).await?;
    assert!(cable.is_quiet(Duration::from_millis(300)).await?);
    cable.say(&frames::unsubscribe(&identifier)).await?;
    cable.say(r#"{"command":"ping"}"#).await?;
    assert_eq!(frames::kind(&cable.frame().await?), "pong");
    node.publish("a", &json!(1)).await?;
    assert!(cable.is_quiet(Duration::from_millis(300)).await?);
    Ok(())
}

#[tokio::test]
async fn history_and_whispers_work_as_on_polls() -> Result<()> {
    let node = Node::builder()
        .flag("streams_whisper", "true")
        .spawn()
        .await?;
    for number in 1..=3 {
        node.publish("a", &json!(number)).await?;
    }
    let identifier = frames::public("a");
    let mut one = Cable::open(&node).await?;
    let line = frames::subscribe_with_history(&identifier, &json!({"since": 0}));
    one.say(&line).await?;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(one.frame().await?);
    }
    assert_eq!(
        frames::kinds(&seen),
        [
            "confirm_subscription",
            "message",
            "message",
            "message",
            "confirm_history"
        ]
    );
    let mut two = Cable::open(&node).await?;
    two.subscribe(&identifier).await?;
    one.say(&frames::whisper(&identifier, &json!("psst")))
        .await?;
    assert_eq!(two.messages(1).await?, ["psst"]);
    assert!(one.is_quiet(Duration::from_millis(300)).await?);
    Ok(())
}

#[tokio::test]
async fn clients_choose_their_pings() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut cable = Cable::open_at(node.address(), "/cable?pi=1&ptp=ms", "").await?;
    let Said::Frame(ping) = cable.next().await? else {
        panic!("no frame");
    };
    assert_eq!(ping["type"], "ping");
    let digits = ping["message"]
        .as_i64()
        .unwrap_or_default()
        .to_string()
        .len();
    assert_eq!(digits, 13, "{ping}");
    let mut silent = Cable::open_at(node.address(), "/cable?pi=0", "").await?;
    let next = tokio::time::timeout(Duration::from_secs(2), silent.next()).await;
    assert!(next.is_err(), "{next:?}");
    Ok(())
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_sent_away() -> Result<()> {
    let node = Node::builder()
        .flag("ping_interval", "1")
        .flag("pong_timeout", "2")
        .spawn()
        .await?;
    let mut silent = Cable::open(&node).await?;
    let mut base = Cable::open_at(node.address(), "/cable", "actioncable-v1-json").await?;
    let (seen, code, reason) = silent.ending().await?;
    let farewell = json!({"type": "disconnect", "reason": "no_pong", "reconnect": true});
    assert_eq!(
        (seen.as_slice(), code, reason.as_str()),
        (&[farewell][..], 1000, "No Pong")
    );
    // The base protocol has no pong to give.
    base.subscribe(&frames::public("a")).await?;
    Ok(())
}

#[tokio::test]
async fn native_pings_are_frames_of_websocket() -> Result<()> {
    let node = Node::builder()
        .flag("ping_interval", "1")
        .switch("enable_native_pings")
        .spawn()
        .await?;
    let mut cable = Cable::open(&node).await?;
    assert_eq!(cable.next().await?, Said::Ping);
    Ok(())
}

#[tokio::test]
async fn backends_close_sockets() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut cable = Cable::open(&node).await?;
    let mut other = Cable::open(&node).await?;
    let identifiers = json!({"sid": cable.sid()}).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(false));
    assert_eq!(node.broadcast(&command).await?.status, 201);
    let (seen, code, reason) = cable.ending().await?;
    let farewell = json!({"type": "disconnect", "reason": "remote", "reconnect": false});
    assert_eq!(
        (seen.as_slice(), code, reason.as_str()),
        (&[farewell][..], 1000, "Closed remotely")
    );
    other.subscribe(&frames::public("a")).await?;
    assert_eventually!(node.metric("websocket_clients_num").await? == 1.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_says_so() -> Result<()> {
    let mut node = Node::builder().spawn().await?;
    let mut cable = Cable::open(&node).await?;
    node.ask_to_stop()?;
    let (seen, code, reason) = cable.ending().await?;
    let farewell = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
    assert_eq!(
        (seen.as_slice(), code, reason.as_str()),
        (&[farewell][..], 1001, "Server restart")
    );
    assert!(node.wait(PATIENCE).await?.success());
    Ok(())
}

#[tokio::test]
async fn who_may_not_connect_is_told_so() -> Result<()> {
    let node = Node::builder().flag("secret", "s3cr3t").spawn().await?;
    let mut cable = Cable::connect(node.address(), "/cable", &[]).await?;
    let (seen, code, reason) = cable.ending().await?;
    let farewell = json!({"type": "disconnect", "reason": "unauthorized", "reconnect": false});
    assert_eq!(
        (seen.as_slice(), code, reason.as_str()),
        (&[farewell][..], 1000, "Auth Failed")
    );
    assert_eq!(node.metric("failed_auths_total").await?, 1.0);
    assert_eq!(node.metric("sessions").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn nonsense_ends_the_socket_and_unknown_commands_do_not() -> Result<()> {
    let node = Node::builder()
        .flag("max_message_size", "1000")
        .spawn()
        .await?;
    let mut cable = Cable::open(&node).await?;
    for odd in [
        r#"{"command":"dance","identifier":"x"}"#,
        r#"{"command":"subscribe"}"#,
        "[]",
        "{}",
    ] {
        cable.say(odd).await?;
    }
    cable.subscribe(&frames::public("a")).await?;
    assert_eq!(node.metric("failed_client_msg_total").await?, 4.0);
    cable.say("{not JSON").await?;
    let (_, code, _) = cable.ending().await?;
    assert_eq!(code, 1007);

    let mut cable = Cable::open(&node).await?;
    cable.say(&"x".repeat(2_000)).await?;
    assert!(cable.ending().await.is_err() || cable.next().await.is_err());
    assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn who_does_not_read_is_sent_away_and_nobody_else_waits() -> Result<()> {
    let node = Node::builder()
        .flag("ws_max_pending_size", "3000000")
        .flag("ws_write_timeout", "1")
        .spawn()
        .await?;
    let mut slow = Cable::open(&node).await?;
    slow.subscribe(&frames::public("a")).await?;
    let mut quick = Cable::open(&node).await?;
    quick.subscribe(&frames::public("a")).await?;
    let large = "x".repeat(50_000);
    let reader = tokio::spawn(async move { quick.messages(600).await });
    for _ in 0..600 {
        node.publish("a", &json!(large)).await?;
    }
    assert_eq!(reader.await??.len(), 600);
    assert_eventually!(node.metric("websocket_clients_num").await? == 0.0, PATIENCE);
    drop(slow);
    Ok(())
}

#[tokio::test]
async fn a_socket_is_a_connection_like_others() -> Result<()> {
    let node = Node::builder().flag("max_connections", "2").spawn().await?;
    let one = Cable::open(&node).await?;
    let _two = Cable::open(&node).await?;
    // Operators are served all the same, others are not.
    assert_eq!(node.get("/health").await?.status, 200);
    assert_eq!(node.get("/").await?.status, 503);
    one.close().await?;
    assert_eventually!(node.get("/").await?.status == 200, PATIENCE);
    Ok(())
}
