//! Coming back by session id, to whichever node.

use anyhow::Result;
use pollux_testkit::{
    Cable, Connection, Node, PROTOCOLS, Poller, Redis, Request, assert_eventually, frames,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The node a client was on, and the one it comes back to.
struct Nodes {
    first: Node,
    /// `None` if it comes back to the same.
    second: Option<Node>,
    _redis: Option<Redis>,
}

impl Nodes {
    async fn one(flags: &[(&str, &str)]) -> Result<Self> {
        Ok(Self {
            first: builder(flags).spawn().await?,
            second: None,
            _redis: None,
        })
    }

    async fn two(flags: &[(&str, &str)]) -> Result<Self> {
        let redis = Redis::spawn().await?;
        Ok(Self {
            first: builder(flags).redis(&redis).spawn_ready().await?,
            second: Some(builder(flags).redis(&redis).spawn_ready().await?),
            _redis: Some(redis),
        })
    }

    fn next(&self) -> &Node {
        self.second.as_ref().unwrap_or(&self.first)
    }
}

fn builder(flags: &[(&str, &str)]) -> pollux_testkit::NodeBuilder {
    let builder = Node::builder().flag("poll_flush_interval", "0");
    flags
        .iter()
        .fold(builder, |builder, (name, value)| builder.flag(name, value))
}

/// Comes back over a socket, as soon as the session can be restored.
async fn come_back(node: &Node, sid: &str, protocols: &str) -> Result<(Cable, Value)> {
    let path = format!("/cable?sid={sid}");
    let headers = [("Sec-WebSocket-Protocol", protocols)];
    let deadline = tokio::time::Instant::now() + pollux_testkit::PATIENCE;
    loop {
        let mut cable = Cable::connect(node.address(), &path, &headers).await?;
        let welcome = cable.frame().await?;
        // What was subscribed a moment ago may not be written yet.
        if welcome["restored"] == true || tokio::time::Instant::now() > deadline {
            return Ok((cable, welcome));
        }
        cable.close().await?;
    }
}

async fn a_socket_comes_back(nodes: Nodes) -> Result<()> {
    let identifier = frames::public("a");
    let mut before = Cable::open(&nodes.first).await?;
    before.subscribe(&identifier).await?;
    nodes.first.publish("a", &json!(1)).await?;
    let seen = before.frame().await?;
    assert_eq!(seen["message"], 1);
    let sid = before.sid().to_owned();
    // Without a word.
    drop(before);
    let (mut after, welcome) = come_back(nodes.next(), &sid, PROTOCOLS).await?;
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["restored"], true);
    assert_eq!(welcome["restored_ids"], json!([identifier]));
    assert_ne!(welcome["sid"], sid.as_str());
    nodes.first.publish("a", &json!(2)).await?;
    nodes.first.publish("a", &json!(3)).await?;
    // It asks for what it missed; what came live meanwhile comes once, behind it.
    let position = json!({"offset": seen["offset"], "epoch": seen["epoch"]});
    let request = frames::history(&identifier, &json!({"streams": {"a": position}}));
    after.say(&request).await?;
    let mut said = Vec::new();
    for _ in 0..3 {
        let frame = after.frame().await?;
        said.push(match frames::kind(&frame) {
            "message" => frame["message"].clone(),
            kind => json!(kind),
        });
    }
    nodes.first.publish("a", &json!(4)).await?;
    said.push(after.frame().await?["message"].clone());
    assert_eq!(
        said,
        [json!(2), json!(3), json!("confirm_history"), json!(4)]
    );
    Ok(())
}

#[tokio::test]
async fn a_socket_comes_back_to_its_node() -> Result<()> {
    Box::pin(a_socket_comes_back(Nodes::one(&[]).await?)).await
}

#[tokio::test]
async fn a_socket_comes_back_to_another_node() -> Result<()> {
    Box::pin(a_socket_comes_back(Nodes::two(&[]).await?)).await
}

/// Opens a poll session by `sid`, as soon as it can be restored.
async fn poll_again(node: &Node, sid: &str) -> Result<(Poller, Vec<Value>)> {
    let deadline = tokio::time::Instant::now() + pollux_testkit::PATIENCE;
    loop {
        let open = Request::post(&format!("/lp?sid={sid}"));
        let response = node.ask(&open).await?;
        let said = response.frames()?;
        if said[0]["restored"] == true || tokio::time::Instant::now() > deadline {
            let poller = Poller::from_open(node.address(), &response)?;
            return Ok((poller, said));
        }
    }
}

async fn a_poller_comes_back(nodes: Nodes) -> Result<()> {
    let identifier = frames::public("a");
    let before = Poller::subscribed(&nodes.first, &["a"]).await?;
    let (mut after, said) = poll_again(nodes.next(), before.sid()).await?;
    assert_eq!(said[0]["restored_ids"], json!([identifier]));
    nodes.first.publish("a", &json!(1)).await?;
    // Base clients don't know that they were restored, and subscribe again.
    let mut got = frames::messages(&after.subscribe(&identifier).await?);
    if got.is_empty() {
        got = after.messages(1).await?;
    }
    assert_eq!(got, [json!(1)]);
    Ok(())
}

#[tokio::test]
async fn a_poller_comes_back_to_its_node() -> Result<()> {
    Box::pin(a_poller_comes_back(Nodes::one(&[]).await?)).await
}

#[tokio::test]
async fn a_poller_comes_back_to_another_node() -> Result<()> {
    Box::pin(a_poller_comes_back(Nodes::two(&[]).await?)).await
}

#[tokio::test]
async fn a_base_client_gets_its_confirmation_once() -> Result<()> {
    let node = builder(&[]).spawn().await?;
    let identifier = frames::public("a");
    let mut before = Cable::open(&node).await?;
    before.subscribe(&identifier).await?;
    let sid = before.sid().to_owned();
    drop(before);
    let (mut after, _) = come_back(&node, &sid, "actioncable-v1-json").await?;
    node.publish("a", &json!(1)).await?;
    after.say(&frames::subscribe(&identifier)).await?;
    let confirmed = after.frame().await?;
    assert_eq!(frames::kind(&confirmed), "confirm_subscription");
    assert_eq!(after.frame().await?["message"], 1);
    // Rails' client repeats itself.
    after.say(&frames::subscribe(&identifier)).await?;
    assert!(after.is_quiet(Duration::from_millis(300)).await?);
    Ok(())
}

#[tokio::test]
async fn who_asks_for_nothing_gets_what_comes_live() -> Result<()> {
    let node = builder(&[]).spawn().await?;
    let mut before = Cable::open(&node).await?;
    before.subscribe(&frames::public("a")).await?;
    let sid = before.sid().to_owned();
    drop(before);
    let (mut after, _) = come_back(&node, &sid, PROTOCOLS).await?;
    node.publish("a", &json!(1)).await?;
    // It is held back for those who ask, but not for ever.
    assert_eq!(after.messages(1).await?, [json!(1)]);
    Ok(())
}

#[tokio::test]
async fn a_stale_poll_tells_who_can_come_back_nothing() -> Result<()> {
    let node = builder(&[("poll_keepalive_timeout", "300ms")])
        .spawn()
        .await?;
    let poller = Poller::subscribed(&node, &["a"]).await?;
    assert_eventually!(
        node.metric("expired_sessions_total").await? == 1.0,
        pollux_testkit::PATIENCE
    );
    let poll = |target: &str| Request::post(target).header("X-Anycable-Poll-ID", poller.poll_id());
    let path = format!("/lp?x=1&sid={}", poller.sid());
    let resumable = node.ask(&poll(&path)).await?;
    assert_eq!((resumable.status, resumable.body.len()), (401, 0));
    for path in ["/lp", "/lp?sid="] {
        let other = node.ask(&poll(path)).await?;
        assert_eq!(other.status, 401);
        assert_eq!(other.frames()?[0]["reason"], "session_expired");
    }
    let (_, said) = poll_again(&node, poller.sid()).await?;
    assert_eq!(said[0]["restored_ids"], json!([frames::public("a")]));
    Ok(())
}

#[tokio::test]
async fn unknown_ids_and_forbidden_streams_are_not_restored() -> Result<()> {
    let node = builder(&[]).spawn().await?;
    for sid in [
        "0123456789abcdef0123",
        "",
        "x",
        "%00%ff%00%ff%00%ff%00%ff%00%ff",
    ] {
        let response = node.ask(&Request::post(&format!("/lp?sid={sid}"))).await?;
        assert_eq!(response.status, 200, "{sid}");
        let welcome = &response.frames()?[0];
        assert_eq!(welcome["restored"], Value::Null, "{sid}");
    }
    let off = builder(&[("sessions_ttl", "0")]).spawn().await?;
    let poller = Poller::subscribed(&off, &["a"]).await?;
    let target = format!("/lp?sid={}", poller.sid());
    let response = Connection::once(off.address(), &Request::post(&target)).await?;
    assert_eq!(response.frames()?[0]["restored"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn who_was_sent_away_does_not_come_back() -> Result<()> {
    let node = builder(&[]).spawn().await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("a")).await?;
    let sid = cable.sid().to_owned();
    drop(come_back(&node, &sid, PROTOCOLS).await?);
    let identifiers = json!({ "sid": sid }).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(false));
    assert_eq!(node.broadcast(&command).await?.status, 201);
    let (_, code, _) = cable.ending().await?;
    assert_eq!(code, 1000);
    assert_eventually!(
        {
            let open = Request::post(&format!("/lp?sid={sid}"));
            node.ask(&open).await?.frames()?[0]["restored"] == Value::Null
        },
        pollux_testkit::PATIENCE
    );
    Ok(())
}
