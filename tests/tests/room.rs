//! Rooms by HTTP: `/ws/poll` and `/ws/send`, one test for each row of what the original promises,
//! or should.

use anyhow::{Result, ensure};
use pollux_testkit::{Connection, Node, PATIENCE, Request, Response, assert_eventually};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const POLL: &str = "/ws/poll";

fn send(body: &str) -> Request {
    Request::post("/ws/send").body(body)
}

async fn sent(node: &Node, message: &Value) -> Result<Value> {
    let response = node.ask(&send(&message.to_string())).await?;
    ensure!(response.status == 202, "{response:?}");
    Ok(serde_json::from_str(response.text()?)?)
}

fn messages(response: &Response) -> Result<Vec<Value>> {
    ensure!(response.status == 200, "{response:?}");
    Ok(serde_json::from_str(response.text()?)?)
}

async fn polled(node: &Node, query: &str) -> Result<Vec<Value>> {
    messages(&node.get(&format!("{POLL}?{query}")).await?)
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    let number = |message: &Value| message["payload"]["n"].as_u64();
    messages.iter().filter_map(number).collect()
}

async fn numbered(node: &Node, session: &str, count: u64) -> Result<()> {
    let mut connection = Connection::open(node.address()).await?;
    for n in 0..count {
        let message = json!({"type": "t", "session_id": session, "payload": {"n": n}});
        let answer = connection.ask(&send(&message.to_string())).await?;
        ensure!(answer.status == 202, "{answer:?}");
    }
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
async fn a_poll_drains_in_order() -> Result<()> {
    let node = Node::builder().spawn().await?;
    numbered(&node, "s", 3).await?;
    assert_eq!(numbers(&polled(&node, "session_id=s").await?), [0, 1, 2]);
    let empty = node.get("/ws/poll?session_id=s").await?;
    assert_eq!((empty.status, empty.text()?), (200, "[]"));
    assert_eq!(
        empty.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(empty.header("x-content-type-options"), Some("nosniff"));
    Ok(())
}

#[tokio::test]
async fn a_session_is_named_or_comes_from_the_room_or_is_broadcast() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let answer = node.ask(&send(r#"{"type":"a","room":"general"}"#)).await?;
    assert_eq!(
        answer.text()?,
        r#"{"session_id":"room:general","status":"queued"}"#
    );
    let general = node.get("/ws/poll?session_id=room%3Ageneral").await?;
    assert_eq!(
        general.text()?,
        r#"[{"kind":"event","payload":{},"room":"general","type":"a"}]"#
    );
    let answer = sent(&node, &json!({"type": "b"})).await?;
    assert_eq!(answer["session_id"], "broadcast");
    assert_eq!(polled(&node, "").await?[0]["type"], "b");
    sent(&node, &json!({"type": "b"})).await?;
    assert_eq!(polled(&node, "session_id=").await?.len(), 1);
    // An explicit session overrides the room.
    let answer = sent(&node, &json!({"type": "c", "session_id": "x", "room": "r"})).await?;
    assert_eq!(answer["session_id"], "x");
    assert!(polled(&node, "session_id=room:r").await?.is_empty());
    assert_eq!(polled(&node, "session_id=x").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn max_takes_the_oldest() -> Result<()> {
    let node = Node::builder().spawn().await?;
    numbered(&node, "s", 60).await?;
    assert!(polled(&node, "session_id=s&max=0").await?.is_empty());
    assert_eq!(polled(&node, "session_id=s&max=abc").await?.len(), 50);
    let one = polled(&node, "session_id=s&max=1").await?;
    assert_eq!(numbers(&one), [50]);
    let two = polled(&node, "session_id=s&max=2abc").await?;
    assert_eq!(numbers(&two), [51, 52]);
    assert_eq!(polled(&node, "session_id=s&max=-1").await?.len(), 7);
    Ok(())
}

#[tokio::test]
async fn a_full_buffer_drops_the_oldest() -> Result<()> {
    let node = Node::builder().spawn().await?;
    numbered(&node, "s", 300).await?;
    let kept = polled(&node, "session_id=s&max=1000").await?;
    assert_eq!(numbers(&kept), (44..300).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_session_without_life_loses_what_waits() -> Result<()> {
    let node = Node::builder().flag("room_ttl", "0.4").spawn().await?;
    numbered(&node, "idle", 2).await?;
    assert_eq!(vix(&node, "lp_sessions_active").await?, 1);
    assert_eventually!(vix(&node, "lp_sessions_active").await? == 0, PATIENCE);
    assert!(polled(&node, "session_id=idle").await?.is_empty());
    // Unlike the original, every poll is a sign of life, an empty one too.
    let node = Node::builder().flag("room_ttl", "2").spawn().await?;
    let start = Instant::now();
    polled(&node, "session_id=busy").await?;
    while start.elapsed() < Duration::from_secs(3) {
        polled(&node, "session_id=busy&wait=0.2").await?;
    }
    assert_eq!(vix(&node, "lp_sessions_total").await?, 1);
    assert_eq!(vix(&node, "lp_sessions_active").await?, 1);
    Ok(())
}

#[tokio::test]
async fn competing_pollers_share_without_loss() -> Result<()> {
    let node = Node::builder().spawn().await?;
    numbered(&node, "s", 100).await?;
    let mut pollers = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(node.address()).await?;
        pollers.push(tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let answer = connection
                    .ask(&Request::get("/ws/poll?session_id=s&max=3"))
                    .await?;
                let some = messages(&answer)?;
                if some.is_empty() {
                    return anyhow::Ok(got);
                }
                got.extend(numbers(&some));
            }
        }));
    }
    let mut all = Vec::new();
    for poller in pollers {
        all.extend(poller.await??);
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_bad_message_is_refused_with_its_reason() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for (body, error) in [
        (r#"{"room":"a"}"#, "missing 'type' field"),
        (r#"{"type":""}"#, "missing 'type' field"),
        ("not json", "invalid JSON body"),
        ("{", "invalid JSON body"),
        ("", "JSON body must be an object"),
        ("[1]", "JSON body must be an object"),
        // The original answers these with 500.
        (r#"{"type":5}"#, "'type' must be a string"),
        (r#"{"type":"a","room":null}"#, "'room' must be a string"),
    ] {
        let answer = node.ask(&send(body)).await?;
        let expected = format!("{{\"error\":\"{error}\"}}");
        assert_eq!((answer.status, answer.text()?), (400, &*expected), "{body}");
    }
    let long = json!({"type": "a", "session_id": "x".repeat(3_000)});
    assert_eq!(node.ask(&send(&long.to_string())).await?.status, 400);
    assert_eq!(node.get("/ws/send").await?.status, 405);
    assert_eq!(node.ask(&Request::post(POLL)).await?.status, 405);
    let large = json!({"type": "a", "payload": {"x": "y".repeat(1 << 20)}});
    assert_eq!(node.ask(&send(&large.to_string())).await?.status, 413);
    Ok(())
}

#[tokio::test]
async fn comments_in_a_body_are_passed_over() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let body = "// first\n{\"type\": /* which */ \"a\", \"payload\": {\"u\": \"http://x\"}}";
    assert_eq!(node.ask(&send(body)).await?.status, 202);
    assert_eq!(polled(&node, "").await?[0]["payload"]["u"], "http://x");
    Ok(())
}

#[tokio::test]
async fn a_message_keeps_its_payload_id_time_and_kind() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let payload = r#"{"text":"Hello","n":5,"f":1.50,"b":true,"arr":[1],"obj":{"a":1}}"#;
    let body = format!(r#"{{"type":"x","id":"1","ts":"T","kind":"k","payload":{payload}}}"#);
    node.ask(&send(&body)).await?;
    let answer = node.get(POLL).await?;
    // Unlike the original, which loses whole numbers and whatever is nested.
    let expected = format!(r#"[{{"id":"1","kind":"k","payload":{payload},"ts":"T","type":"x"}}]"#);
    assert_eq!(answer.text()?, expected);
    // Unlike the original, HTTP's messages have a kind as sockets' have.
    sent(&node, &json!({"type": "x"})).await?;
    assert_eq!(polled(&node, "").await?[0]["kind"], "event");
    Ok(())
}

#[tokio::test]
async fn a_poll_may_wait() -> Result<()> {
    let node = Node::builder().flag("room_max_wait", "10").spawn().await?;
    let start = Instant::now();
    assert!(polled(&node, "session_id=s&wait=0.3").await?.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(300));
    let mut poller = Connection::open(node.address()).await?;
    poller
        .send(&Request::get("/ws/poll?session_id=s&wait=9"))
        .await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    let start = Instant::now();
    numbered(&node, "s", 1).await?;
    assert_eq!(numbers(&messages(&poller.response().await?)?), [0]);
    assert!(start.elapsed() < Duration::from_secs(5));
    // Asking for more than is allowed is no mistake.
    let node = Node::builder()
        .flag("room_max_wait", "0.1")
        .flag("room_wait", "60")
        .spawn()
        .await?;
    let start = Instant::now();
    assert!(polled(&node, "wait=1000").await?.is_empty());
    assert!(polled(&node, "").await?.is_empty());
    assert!(start.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[tokio::test]
async fn what_a_gone_poller_did_not_get_is_there_for_the_next() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let large = json!({"type": "t", "session_id": "s", "payload": {"x": "y".repeat(800_000)}});
    let mut poller = Connection::open(node.address()).await?;
    poller.shrink_receive_buffer(4_096)?;
    poller
        .send(&Request::get("/ws/poll?session_id=s&wait=20"))
        .await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    sent(&node, &large).await?;
    assert_eventually!(
        vix(&node, "lp_messages_drained_total").await? == 1,
        PATIENCE
    );
    poller.reset()?;
    let again = polled(&node, "session_id=s&wait=20").await?;
    assert_eq!(again.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_metrics_count_a_scripted_run() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let page = node.get("/metrics").await?;
    let names: Vec<_> = page
        .text()?
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE vix_ws_"))
        .collect();
    assert_eq!(
        names,
        [
            "connections_total counter",
            "connections_active gauge",
            "messages_in_total counter",
            "messages_out_total counter",
            "errors_total counter",
            "lp_sessions_total counter",
            "lp_sessions_active gauge",
            "lp_polls_total counter",
            "lp_messages_buffered gauge",
            "lp_messages_enqueued_total counter",
            "lp_messages_drained_total counter",
        ]
    );
    numbered(&node, "a", 5).await?;
    polled(&node, "session_id=a&max=2").await?;
    polled(&node, "session_id=new").await?;
    for (name, value) in [
        ("lp_sessions_total", 2),
        ("lp_sessions_active", 2),
        ("lp_polls_total", 2),
        ("lp_messages_buffered", 3),
        ("lp_messages_enqueued_total", 5),
        ("lp_messages_drained_total", 2),
        ("connections_total", 0),
    ] {
        assert_eq!(vix(&node, name).await?, value, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_poll_and_who_may_send() -> Result<()> {
    let node = Node::builder()
        .flag("secret", "s3Krit")
        .flag("broadcast_key", "key")
        .spawn()
        .await?;
    assert_eq!(node.get(POLL).await?.status, 401);
    let message = send(r#"{"type":"a"}"#);
    assert_eq!(node.ask(&message).await?.status, 401);
    let with_key = message.header("Authorization", "Bearer key");
    assert_eq!(node.ask(&with_key).await?.status, 202);
    let node = Node::builder()
        .flag("allowed_origins", "good.example")
        .spawn()
        .await?;
    for (origin, status) in [("https://evil.example", 403), ("https://good.example", 202)] {
        let message = send(r#"{"type":"a"}"#).header("Origin", origin);
        assert_eq!(node.ask(&message).await?.status, status);
    }
    let node = Node::builder().flag("room", "false").spawn().await?;
    assert_eq!(node.get(POLL).await?.status, 404);
    let page = node.get("/metrics").await?;
    assert!(!page.text()?.contains("vix_ws_"));
    Ok(())
}

#[tokio::test]
async fn the_resolver_can_be_told_where_messages_go() -> Result<()> {
    let node = Node::builder()
        .flag(
            "room_resolver",
            "user:{payload.user_id},room:{room},all:{type}",
        )
        .spawn()
        .await?;
    for (message, session) in [
        (
            json!({"type": "a", "payload": {"user_id": 7}, "room": "r"}),
            "user:7",
        ),
        (json!({"type": "a", "room": "r"}), "room:r"),
        (json!({"type": "a"}), "all:a"),
    ] {
        assert_eq!(sent(&node, &message).await?["session_id"], session);
        let query = format!("session_id={session}");
        assert_eq!(polled(&node, &query).await?.len(), 1, "{session}");
    }
    Ok(())
}

#[tokio::test]
async fn other_doors_reach_a_rooms_polls() -> Result<()> {
    let node = Node::builder().spawn().await?;
    node.publish("room:r", &json!({"text": "hi"})).await?;
    let expected = json!({
        "kind": "event", "payload": {"text": "hi"}, "room": "r", "type": "message",
    });
    assert_eq!(polled(&node, "session_id=room:r").await?, [expected]);
    Ok(())
}

#[tokio::test]
async fn history_is_read_in_pages() -> Result<()> {
    let node = Node::builder().switch("room_history").spawn().await?;
    for n in 0..5 {
        sent(
            &node,
            &json!({"type": "t", "room": "a b", "payload": {"n": n}}),
        )
        .await?;
    }
    // Taking messages takes nothing from history.
    assert_eq!(polled(&node, "session_id=room:a%20b").await?.len(), 5);
    let get = async |path: &str| -> Result<Value> {
        let answer = node.get(path).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(serde_json::from_str(answer.text()?)?)
    };
    let newest = get("/rooms/a%20b/messages?limit=2").await?;
    assert_eq!(
        (&newest["count"], &newest["room"]),
        (&json!(2), &json!("a b"))
    );
    let list = |page: &Value| page["messages"].as_array().cloned().unwrap_or_default();
    assert_eq!(numbers(&list(&newest)), [4, 3]);
    let last = newest["messages"][1]["id"].as_str().unwrap_or_default();
    assert_eq!(last.len(), 20);
    let older = get(&format!("/rooms/a%20b/messages?before_id={last}")).await?;
    assert_eq!(numbers(&list(&older)), [2, 1, 0]);
    let replay = get(&format!("/replay/{last}?room=a+b")).await?;
    assert_eq!(numbers(&list(&replay)), [4]);
    assert_eq!(replay["start_id"], last);
    let unknown = get("/rooms/none/messages?limit=x").await?;
    assert_eq!(unknown, json!({"count": 0, "messages": [], "room": "none"}));
    let closed = Node::builder().spawn().await?;
    assert_eq!(closed.get("/rooms/a/messages").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn ten_thousand_polls_leave_nothing_behind() -> Result<()> {
    let node = Node::builder()
        .flag("room_buffer_size", "10")
        .flag("history_limit", "10")
        .spawn()
        .await?;
    let mut poller = Connection::open(node.address()).await?;
    let mut sender = Connection::open(node.address()).await?;
    let message = send(r#"{"type":"t","session_id":"s","payload":{"n":1}}"#);
    let poll = Request::get("/ws/poll?session_id=s&wait=5");
    let mut before = 0;
    for number in 0..10_000_u32 {
        if number == 2_000 {
            before = node.rss_bytes()?;
        }
        poller.send(&poll).await?;
        sender.ask(&message).await?;
        assert_eq!(messages(&poller.response().await?)?.len(), 1);
    }
    let grown = node.rss_bytes()?.saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    Ok(())
}
