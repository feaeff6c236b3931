//! What attackers try, door by door.

use anyhow::{Context as _, Result};
use pollux_testkit::{
    Cable, EventStream, Node, NodeBuilder, Poller, Request, Response, assert_eventually, frames,
    signed_stream, token,
};
use serde_json::{Value, json};

const SECRET: &str = "s3Krit-that-nobody-may-see";
const EVIL: &str = "https://evil.example";
const GOOD: &str = "https://app.example";

fn listed() -> NodeBuilder {
    Node::builder()
        .flag("allowed_origins", "app.example")
        .switch("public")
}

fn handshake(path: &str) -> Request {
    Request::get(path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn may_read(answer: &Response) -> bool {
    answer.header("access-control-allow-origin").is_some()
}

#[tokio::test]
async fn pages_of_other_origins_get_nowhere() -> Result<()> {
    let node = listed().switch("category_cors").spawn().await?;
    for request in [
        Request::post("/lp"),
        handshake("/cable"),
        handshake("/ws"),
        Request::get("/events?stream=a"),
        Request::post("/events").body(frames::subscribe(&frames::public("a"))),
        Request::get("/ws/poll?session_id=a"),
        Request::get("/poll?rcpt=a"),
        Request::get("/longpoll/events?category=a&timeout=1"),
    ] {
        let answer = node.ask(&request.clone().header("Origin", EVIL)).await?;
        assert_eq!(answer.status, 403, "{request:?}");
        assert!(!may_read(&answer), "{request:?}");
    }
    // A page may send these without asking, so they have to be refused when they come.
    let body = r#"{"stream":"a","data":"1"}"#;
    for request in [
        Request::post("/_broadcast").body(body),
        Request::post("/api/publish").body(body),
        Request::post("/push?rcpt=a").body("x"),
        Request::post("/ws/send").body(r#"{"type":"chat.message","room":"a","payload":{}}"#),
        Request::post("/longpoll/publish").body(r#"{"category":"a","data":1}"#),
    ] {
        let answer = node.ask(&request.clone().header("Origin", EVIL)).await?;
        assert!(
            matches!(answer.status, 401 | 403),
            "{} {request:?}",
            answer.status
        );
        assert!(!may_read(&answer), "{request:?}");
    }
    assert_eq!(node.metric("publications_total").await?, 0.0);
    for preflight in ["/lp", "/events", "/ws/poll", "/poll", "/longpoll/events"] {
        let asks = Request::new("OPTIONS", preflight)
            .header("Access-Control-Request-Method", "POST")
            .header("Origin", EVIL);
        assert!(!may_read(&node.ask(&asks).await?), "{preflight}");
        let asks = Request::new("OPTIONS", preflight).header("Origin", GOOD);
        assert!(may_read(&node.ask(&asks).await?), "{preflight}");
    }
    // Names that only look like the good one.
    for origin in [
        "https://app.example.evil.example",
        "https://evilapp.example",
        "https://app.example@evil.example",
        "https://app.example:8443",
        "null",
        "",
    ] {
        let answer = node
            .ask(&Request::post("/lp").header("Origin", origin))
            .await?;
        assert_eq!(answer.status, 403, "{origin}");
    }
    let answer = node
        .ask(&Request::post("/lp").header("Origin", GOOD))
        .await?;
    assert_eq!(answer.header("access-control-allow-origin"), Some(GOOD));
    assert!(answer.lists("vary", "origin"));
    Ok(())
}

#[tokio::test]
async fn names_break_out_of_nothing() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let names = [
        "a\r\nX-Evil: 1\r\n\r\nforged",
        "a\ndata: forged\n\n",
        "a\"}\n{\"type\":\"disconnect\"}",
        "a\u{2028}\u{0}\u{7f}",
        "../../{x}*?[a]",
    ];
    for name in names {
        let identifier = json!({"channel": "$pubsub", "stream_name": name}).to_string();
        let mut poller = Poller::open(&node).await?;
        let (kind, _) = poller.try_subscribe(&identifier).await?;
        let mut events =
            EventStream::post(node.address(), "/events", &frames::subscribe(&identifier)).await?;
        let mut cable = Cable::open(&node).await?;
        cable.say(&frames::subscribe(&identifier)).await?;
        if kind == "reject_subscription" {
            assert_eq!(cable.frame().await?["type"], kind.as_str(), "{name:?}");
            continue;
        }
        assert_eq!(cable.frame().await?["identifier"], identifier.as_str());
        events.named("confirm_subscription").await?;
        node.publish(name, &json!({"n": 1})).await?;
        let answer = node.ask(&poller.request("")).await?;
        assert_eq!(answer.header("x-evil"), None);
        let frames = answer.frames()?;
        assert_eq!(frames.len(), 1, "{name:?}");
        assert_eq!(frames[0]["message"], json!({"n": 1}));
        assert_eq!(cable.messages(1).await?, [json!({"n": 1})]);
        let event = events.messages(1).await?;
        let data: Value = serde_json::from_str(&event[0].data)?;
        assert_eq!(data["identifier"], identifier.as_str());
        assert!(!event[0].data.contains("\ndata"), "{name:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ids_of_others_can_not_be_guessed() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mine = Poller::subscribed(&node, &["a"]).await?;
    let other = Poller::subscribed(&node, &["b"]).await?;
    let (mine, other) = (mine.poll_id(), other.poll_id());
    let secret = |id: &str| id.rsplit_once('.').map(|(_, secret)| secret.to_owned());
    let (own, theirs) = (
        secret(mine).context("no dot")?,
        secret(other).context("no dot")?,
    );
    assert!(own.len() >= 22 && own != theirs, "128 bits: {own}");
    let half = own.get(..own.len() / 2).context("short")?;
    for id in [
        format!("{mine}x"),
        mine.get(..mine.len() - 1).context("short")?.to_owned(),
        format!("r.{half}{}", theirs.get(half.len()..).context("short")?),
        own.to_uppercase(),
        format!("r.{}", "A".repeat(own.len())),
        "null".to_owned(),
        String::new(),
    ] {
        let poll = Request::post("/lp").header("X-Anycable-Poll-ID", &id);
        let answer = node.ask(&poll).await?;
        assert_eq!(answer.status, 401, "{id}");
        assert_eq!(answer.frames()?[0]["reason"], "session_expired", "{id}");
    }
    // A client does not choose its ids.
    let chosen = Request::post("/lp").header("X-Request-ID", "chosen-by-the-client");
    let answer = node.ask(&chosen).await?;
    assert!(!answer.text()?.contains("chosen-by-the-client"));
    Ok(())
}

#[tokio::test]
async fn logs_and_metrics_hold_no_secret() -> Result<()> {
    let node = Node::builder()
        .flag("secret", SECRET)
        .flag("log_level", "debug")
        .flag("broadcast_key", "key-that-nobody-may-see")
        .publish_with_key("key-that-nobody-may-see")
        .flag("poll_interval", "1")
        .spawn()
        .await?;
    let claims = json!({"ext": "{\"user\":\"ann-the-client\"}"});
    let good = token(SECRET, &claims);
    let bad = token("another", &claims);
    let name = signed_stream(SECRET, "inbox");
    let open = |token: &str| Request::post(&format!("/lp?jid={token}")).header("X-JID", token);
    let mut poller = Poller::from_open(node.address(), &node.ask(&open(&good)).await?)?;
    assert_eq!(node.ask(&open(&bad)).await?.status, 401);
    let identifier = json!({"channel": "$pubsub", "signed_stream_name": name}).to_string();
    poller.subscribe(&identifier).await?;
    let wrong = node
        .ask(
            &Request::post("/_broadcast")
                .body("{}")
                .header("Authorization", "Bearer wrong-key"),
        )
        .await?;
    assert_eq!(wrong.status, 401);
    node.publish("inbox", &json!("body-of-a-message")).await?;
    assert_eq!(
        poller.poll().await?.messages(),
        [json!("body-of-a-message")]
    );
    for nonsense in [
        "{\"command\":\"body-of-a-command\"",
        "not json body-of-a-command",
    ] {
        poller.exchange(nonsense).await.ok();
    }
    node.broadcast("not json body-of-a-message").await?;
    assert_eventually!(
        node.metric("failed_client_msg_total").await? >= 1.0,
        pollux_testkit::PATIENCE
    );
    let secrets = [
        SECRET,
        "key-that-nobody-may-see",
        "wrong-key",
        &good,
        &bad,
        &name,
        poller.poll_id(),
        poller.sid(),
        "body-of-a-message",
        "body-of-a-command",
    ];
    let log = node.log().text();
    let metrics = node.get("/metrics").await?;
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
        assert!(
            !metrics.text()?.contains(secret),
            "{secret} is in the metrics"
        );
    }
    assert!(log.contains("Listening"), "there is a log");
    Ok(())
}
