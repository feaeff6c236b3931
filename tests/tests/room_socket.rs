//! Rooms by WebSocket, and between sockets and polls.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Cable, Connection, Node, PATIENCE, Request, Said, assert_eventually};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(300);

async fn socket(node: &Node) -> Result<Cable> {
    let open = node.metric("websocket_clients_num").await?;
    let socket = Cable::connect(node.address(), "/ws", &[]).await?;
    // From now on it hears what everybody hears.
    assert_eventually!(
        node.metric("websocket_clients_num").await? > open
            && node.metric("subscriptions").await? > open,
        PATIENCE
    );
    Ok(socket)
}

/// A member of a room, who has heard of all who joined.
async fn member(node: &Node, room: &str, user: &str) -> Result<Cable> {
    let mut socket = socket(node).await?;
    let join = json!({"type": "chat.join", "payload": {"room": room, "user": user}});
    socket.say(&join.to_string()).await?;
    // Its own arrival is told when it is in.
    loop {
        let frame = socket.frame().await?;
        if frame["payload"]["text"] == format!("{user} joined the room") {
            return Ok(socket);
        }
    }
}

async fn polled(node: &Node, session: &str) -> Result<Vec<Value>> {
    let answer = node.get(&format!("/ws/poll?session_id={session}")).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(serde_json::from_str(answer.text()?)?)
}

async fn sent(node: &Node, message: &Value) -> Result<()> {
    let answer = node
        .ask(&Request::post("/ws/send").body(message.to_string()))
        .await?;
    ensure!(answer.status == 202, "{answer:?}");
    Ok(())
}

async fn vix(node: &Node, name: &str) -> Result<u64> {
    let page = node.get("/metrics").await?;
    let start = format!("vix_ws_{name} ");
    let line = page
        .text()?
        .lines()
        .find_map(|line| line.strip_prefix(&start));
    Ok(line.unwrap_or_default().parse()?)
}

#[tokio::test]
async fn a_sockets_message_waits_for_polls() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut socket = socket(&node).await?;
    let payload = json!({"text": "hi", "deep": [{"n": 1}]});
    let message = json!({"type": "note", "room": "r", "payload": payload});
    socket.say(&message.to_string()).await?;
    assert_eventually!(
        vix(&node, "lp_messages_enqueued_total").await? == 1,
        PATIENCE
    );
    let expected = json!({"kind": "event", "payload": payload, "room": "r", "type": "note"});
    assert_eq!(polled(&node, "room:r").await?, [expected]);
    // It is not in the room, so it heard nothing of it.
    assert!(socket.is_quiet(SOON).await?);
    // Binary frames are taken for text.
    socket.say_bytes(br#"{"type":"b"}"#).await?;
    assert_eq!(socket.frame().await?, json!({"payload": {}, "type": "b"}));
    assert_eq!(polled(&node, "broadcast").await?[0]["type"], "b");
    Ok(())
}

#[tokio::test]
async fn what_is_not_typed_is_ignored() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut socket = socket(&node).await?;
    for text in [
        "hello",
        "{}",
        "[]",
        r#"{"type":5}"#,
        r#"{"type":"a","room":null}"#,
    ] {
        socket.say(text).await?;
    }
    socket.say(r#"{"type":"app.ping"}"#).await?;
    let pong = json!({"payload": {"status": "ok", "transport": "websocket"}, "type": "app.pong"});
    assert_eq!(socket.frame().await?, pong);
    assert!(polled(&node, "broadcast").await?.is_empty());
    assert_eq!(vix(&node, "messages_in_total").await?, 6);
    Ok(())
}

#[tokio::test]
async fn http_reaches_a_rooms_sockets_or_all() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut inside = member(&node, "r", "Ann").await?;
    let mut outside = socket(&node).await?;
    sent(
        &node,
        &json!({"type": "x", "room": "r", "id": "1", "payload": {"n": 1}}),
    )
    .await?;
    // Nothing but type and payload.
    assert_eq!(
        inside.frame().await?,
        json!({"payload": {"n": 1}, "type": "x"})
    );
    assert!(outside.is_quiet(SOON).await?);
    sent(&node, &json!({"type": "y"})).await?;
    for socket in [&mut inside, &mut outside] {
        assert_eq!(socket.frame().await?, json!({"payload": {}, "type": "y"}));
    }
    // Kept for one session, told to the room.
    sent(&node, &json!({"type": "z", "room": "r", "session_id": "x"})).await?;
    assert_eq!(inside.frame().await?["type"], "z");
    assert!(outside.is_quiet(SOON).await?);
    assert_eq!(polled(&node, "x").await?.len(), 1);
    assert_eq!(polled(&node, "room:r").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn rooms_are_joined_talked_in_and_left() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut ann = member(&node, "r", "Ann").await?;
    let mut cat = member(&node, "other", "Cat").await?;
    let mut bea = member(&node, "r", "Bea").await?;
    let joined = ann.frame().await?;
    assert_eq!(
        joined,
        json!({
            "type": "chat.joined",
            "payload": {"room": "r", "user": "Bea", "lp_session_id": "room:r"},
        })
    );
    assert_eq!(ann.frame().await?["payload"]["text"], "Bea joined the room");
    bea.say(r#"{"type":"chat.message","payload":{"text":"hi"}}"#)
        .await?;
    let expected = json!({
        "type": "chat.message", "payload": {"room": "r", "user": "Bea", "text": "hi"},
    });
    for socket in [&mut ann, &mut bea] {
        assert_eq!(socket.frame().await?, expected);
    }
    assert_eq!(polled(&node, "room:r").await?.len(), 1);
    bea.say(r#"{"type":"chat.typing"}"#).await?;
    let typing = json!({"type": "chat.typing", "payload": {"room": "r", "user": "Bea"}});
    assert_eq!(ann.frame().await?, typing);
    assert!(polled(&node, "room:r").await?.is_empty());
    assert_eq!(bea.frame().await?, typing);
    bea.say(r#"{"type":"chat.leave"}"#).await?;
    for socket in [&mut ann, &mut bea] {
        let left = json!({"type": "chat.left", "payload": {"room": "r", "user": "Bea"}});
        assert_eq!(socket.frame().await?, left);
        assert_eq!(
            socket.frame().await?["payload"]["text"],
            "Bea left the room"
        );
    }
    ann.say(r#"{"type":"chat.message","payload":{"text":"alone"}}"#)
        .await?;
    assert_eq!(ann.frame().await?["payload"]["text"], "alone");
    assert!(bea.is_quiet(SOON).await?);
    assert!(cat.is_quiet(SOON).await?);
    // Whoever goes leaves all rooms.
    let before = node.metric("subscriptions").await?;
    ann.close().await?;
    assert_eventually!(
        node.metric("subscriptions").await? == before - 2.0,
        PATIENCE
    );
    Ok(())
}

#[tokio::test]
async fn the_other_examples_dialect_is_spoken_too() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut socket = socket(&node).await?;
    socket
        .say(r#"{"type":"room.join","payload":{"user":"Ann","room":"r"}}"#)
        .await?;
    socket
        .say(r#"{"type":"room.message","payload":{"text":"hi"}}"#)
        .await?;
    let notice = socket.frame().await?;
    assert_eq!(notice["type"], "room.system");
    assert_eq!(notice["payload"]["text"], "Ann joined the room");
    let message = socket.frame().await?;
    assert_eq!(message["type"], "room.message");
    assert_eq!(message["payload"]["room"], "r");
    // Without a room everybody hears it, as in the examples without rooms.
    let mut other = self::socket(&node).await?;
    other
        .say(r#"{"type":"chat.message","payload":{"text":"all"}}"#)
        .await?;
    for socket in [&mut socket, &mut other] {
        assert_eq!(socket.frame().await?["payload"], json!({"text": "all"}));
    }
    other.say(r#"{"type":"system.metrics"}"#).await?;
    let numbers = other.frame().await?;
    assert_eq!(numbers["type"], "system.metrics.snapshot");
    assert_eq!(numbers["payload"]["connections_active"], 2);
    Ok(())
}

fn handshake(lines: &str) -> String {
    format!("GET /ws HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

#[tokio::test]
async fn handshakes_are_lenient_and_bad_ones_are_answered() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
    for (lines, status) in [
        (format!("{upgrade}{key}"), 101),
        (format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 101),
        (
            format!("{upgrade}{key}Sec-WebSocket-Protocol: whatever\r\n"),
            101,
        ),
        (format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"), 400),
        (upgrade.to_owned(), 400),
        (format!("{upgrade}Sec-WebSocket-Key: \r\n"), 400),
        (String::new(), 426),
    ] {
        let mut connection = Connection::open(node.address()).await?;
        connection.send_bytes(handshake(&lines).as_bytes()).await?;
        let head = connection.peek(12).await?;
        let status = format!("HTTP/1.1 {status}");
        assert_eq!(String::from_utf8_lossy(&head), status, "{lines}");
    }
    Ok(())
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut connection = Connection::open(node.address()).await?;
    let lines = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    connection.send_bytes(handshake(lines).as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(connection.bytes(1).await?);
    }
    let head = String::from_utf8(head)?;
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // "abc" under a mask of zeros.
    connection
        .send_bytes(&[0x89, 0x83, 0, 0, 0, 0, b'a', b'b', b'c'])
        .await?;
    assert_eq!(connection.bytes(5).await?, [0x8a, 3, b'a', b'b', b'c']);
    // A close is echoed with its code.
    connection
        .send_bytes(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9])
        .await?;
    assert_eq!(connection.bytes(4).await?, [0x88, 2, 0x03, 0xe9]);
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_socket() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut socket = socket(&node).await?;
    let message = |length| {
        format!(
            r#"{{"type":"t","payload":{{"x":"{}"}}}}"#,
            "y".repeat(length)
        )
    };
    socket.say(&message(65_000)).await?;
    assert_eq!(socket.frame().await?["type"], "t");
    socket.say(&message(65_536)).await?;
    let (_, code, _) = socket.ending().await?;
    assert_eq!(code, 1009);
    Ok(())
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_left() -> Result<()> {
    let node = Node::builder()
        .flag("room_ping_interval", "0.2")
        .flag("room_idle_timeout", "1.5")
        .spawn()
        .await?;
    let mut socket = socket(&node).await?;
    // Its pongs keep it.
    for _ in 0..10 {
        assert_eq!(socket.next().await?, Said::Ping);
    }
    let node = Node::builder()
        .flag("room_ping_interval", "0")
        .flag("room_idle_timeout", "0.5")
        .spawn()
        .await?;
    let mut socket = Cable::connect(node.address(), "/ws", &[]).await?;
    let (_, code, reason) = socket.ending().await?;
    assert_eq!((code, &*reason), (1000, "Idle"));
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_others_are_not() -> Result<()> {
    let node = Node::builder()
        .flag("ws_write_timeout", "0.5")
        .spawn()
        .await?;
    let slow = member(&node, "r", "Slow").await?;
    let mut quick = member(&node, "r", "Quick").await?;
    let message = json!({"type": "t", "room": "r", "payload": {"x": "y".repeat(100_000)}});
    let mut sent_all = 0;
    while vix(&node, "connections_active").await? == 2 {
        sent(&node, &message).await?;
        assert_eq!(quick.frame().await?["type"], "t");
        sent_all += 1;
        ensure!(sent_all < 1_000, "the slow one is still there");
    }
    drop(slow);
    sent(&node, &json!({"type": "after", "room": "r"})).await?;
    assert_eq!(quick.frame().await?["type"], "after");
    Ok(())
}

#[tokio::test]
async fn sockets_are_told_when_the_node_stops() -> Result<()> {
    let mut node = Node::builder().spawn().await?;
    let mut socket = socket(&node).await?;
    node.ask_to_stop()?;
    let (frames, code, reason) = socket.ending().await?;
    assert_eq!((frames.len(), code, &*reason), (0, 1001, "Server restart"));
    node.wait(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn who_may_connect_and_who_may_only_listen() -> Result<()> {
    let node = Node::builder().flag("secret", "s3Krit").spawn().await?;
    let refused = Cable::connect(node.address(), "/ws", &[]).await;
    let refused = refused.err().context("it may connect")?;
    assert_eq!(refused.to_string(), "HTTP 401");
    let node = Node::builder()
        .flag("noauth", "true")
        .flag("public_streams", "true")
        .flag("broadcast_key", "key")
        .spawn()
        .await?;
    let mut listens = socket(&node).await?;
    listens.say(r#"{"type":"t"}"#).await?;
    let said = listens.frame().await?;
    assert_eq!(said["type"], "chat.error");
    let with_key = [("Authorization", "Bearer key")];
    let mut speaks = Cable::connect(node.address(), "/ws", &with_key).await?;
    speaks.say(r#"{"type":"t"}"#).await?;
    assert_eq!(listens.frame().await?["type"], "t");
    Ok(())
}

#[tokio::test]
async fn sockets_and_other_doors_hear_each_other() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut inside = member(&node, "r", "Ann").await?;
    node.publish("room:r", &json!({"text": "hi"})).await?;
    assert_eq!(
        inside.frame().await?,
        json!({"payload": {"text": "hi"}, "type": "message"})
    );
    let mut cable = Cable::open(&node).await?;
    cable
        .subscribe(&pollux_testkit::frames::public("room:r"))
        .await?;
    inside.say(r#"{"type":"note","room":"r"}"#).await?;
    let expected = json!({"kind": "event", "payload": {}, "room": "r", "type": "note"});
    assert_eq!(cable.messages(1).await?, [expected]);
    Ok(())
}
