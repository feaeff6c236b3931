//! Who is present, over sockets and polls, on one node and on two.

use anyhow::Result;
use pollux_testkit::{Cable, Node, PATIENCE, Poller, Redis, Request, assert_eventually, frames};
use serde_json::{Value, json};
use std::time::Duration;

struct Nodes {
    one: Node,
    /// `None` if there is only one.
    two: Option<Node>,
    _redis: Option<Redis>,
}

impl Nodes {
    async fn memory() -> Result<Self> {
        Ok(Self {
            one: builder().spawn().await?,
            two: None,
            _redis: None,
        })
    }

    async fn redis() -> Result<Self> {
        let redis = Redis::spawn().await?;
        Ok(Self {
            one: builder().redis(&redis).spawn_ready().await?,
            two: Some(builder().redis(&redis).spawn_ready().await?),
            _redis: Some(redis),
        })
    }

    fn two(&self) -> &Node {
        self.two.as_ref().unwrap_or(&self.one)
    }
}

fn builder() -> pollux_testkit::NodeBuilder {
    Node::builder()
        .flag("poll_flush_interval", "0")
        .flag("presence_ttl", "1s")
}

fn join(identifier: &str, id: &str, info: &Value) -> String {
    let presence = json!({"id": id, "info": info});
    json!({"command": "join", "identifier": identifier, "presence": presence}).to_string()
}

fn about(command: &str, identifier: &str) -> String {
    json!({"command": command, "identifier": identifier}).to_string()
}

/// The next presence message a socket gets.
async fn told(cable: &mut Cable) -> Result<Value> {
    let frame = cable.frame().await?;
    anyhow::ensure!(frames::kind(&frame) == "presence", "not presence: {frame}");
    Ok(frame["message"].clone())
}

async fn they_come_and_go(nodes: Nodes) -> Result<()> {
    let identifier = frames::public("a");
    let mut watcher = Cable::open(nodes.two()).await?;
    watcher.subscribe(&identifier).await?;
    let mut vova = Cable::open(&nodes.one).await?;
    vova.subscribe(&identifier).await?;
    let info = json!({"name": "Vova"});
    vova.say(&join(&identifier, "42", &info)).await?;
    let joined = json!({"id": "42", "info": info, "type": "join"});
    assert_eq!(told(&mut vova).await?, joined);
    assert_eq!(told(&mut watcher).await?, joined);

    // A second session of the same person is no news, but what it says is.
    let mut again = Cable::open(nodes.two()).await?;
    let presence = json!({"id": "42", "info": {"name": "V."}});
    let along = json!({"command": "subscribe", "identifier": identifier, "presence": presence});
    again.say(&along.to_string()).await?;
    assert_eq!(frames::kind(&again.frame().await?), "confirm_subscription");
    watcher.say(&about("presence", &identifier)).await?;
    let record = json!({"info": {"name": "V."}, "id": "42"});
    let all = json!({"type": "info", "total": 1, "records": [record]});
    assert_eq!(told(&mut watcher).await?, all);

    let users = nodes.two().get("/api/presence/a/users").await?;
    assert_eq!(users.status, 200);
    assert_eq!(serde_json::from_str::<Value>(users.text()?)?, all);

    vova.say(&about("leave", &identifier)).await?;
    again.say(&frames::unsubscribe(&identifier)).await?;
    let left = json!({"id": "42", "type": "leave"});
    assert_eq!(told(&mut watcher).await?, left);
    let count = json!({"command": "presence", "identifier": identifier,
        "data": {"return_records": false}});
    watcher.say(&count.to_string()).await?;
    assert_eq!(
        told(&mut watcher).await?,
        json!({"type": "info", "total": 0})
    );
    Ok(())
}

#[tokio::test]
async fn they_come_and_go_on_one_node() -> Result<()> {
    Box::pin(they_come_and_go(Nodes::memory().await?)).await
}

#[tokio::test]
async fn they_come_and_go_on_two_nodes() -> Result<()> {
    Box::pin(they_come_and_go(Nodes::redis().await?)).await
}

/// Whoever loses the connection is present for a while, and then is not; and a
/// client that polls is present for as long as it polls.
async fn the_lost_are_missed(nodes: Nodes) -> Result<()> {
    let identifier = frames::public("a");
    let mut watcher = Cable::open(nodes.two()).await?;
    watcher.subscribe(&identifier).await?;
    let mut poller = Poller::subscribed(&nodes.one, &["a"]).await?;
    poller.poll_with(&join(&identifier, "p", &json!(1))).await?;
    assert_eq!(told(&mut watcher).await?["id"], "p");
    let mut lost = Cable::open(&nodes.one).await?;
    lost.subscribe(&identifier).await?;
    lost.say(&join(&identifier, "l", &json!(2))).await?;
    assert_eq!(told(&mut watcher).await?["id"], "l");
    drop(lost);
    assert_eq!(
        told(&mut watcher).await?,
        json!({"id": "l", "type": "leave"})
    );
    // Twice as long as somebody without a sign of life stays.
    let parked = poller.park().await?;
    assert!(watcher.is_quiet(Duration::from_secs(2)).await?);
    drop(parked);
    Ok(())
}

#[tokio::test]
async fn the_lost_are_missed_on_one_node() -> Result<()> {
    Box::pin(the_lost_are_missed(Nodes::memory().await?)).await
}

#[tokio::test]
async fn the_lost_are_missed_on_two_nodes() -> Result<()> {
    Box::pin(the_lost_are_missed(Nodes::redis().await?)).await
}

#[tokio::test]
async fn the_other_node_dies_and_its_people_leave() -> Result<()> {
    let mut nodes = Nodes::redis().await?;
    let identifier = frames::public("a");
    let mut watcher = Cable::open(&nodes.one).await?;
    watcher.subscribe(&identifier).await?;
    let two = nodes.two.as_mut().unwrap();
    let mut gone = Cable::open(two).await?;
    gone.subscribe(&identifier).await?;
    gone.say(&join(&identifier, "g", &Value::Null)).await?;
    assert_eq!(told(&mut watcher).await?["type"], "join");
    two.kill()?;
    assert_eq!(
        told(&mut watcher).await?,
        json!({"id": "g", "type": "leave"})
    );
    Ok(())
}

#[tokio::test]
async fn who_may_not_is_told() -> Result<()> {
    let node = builder().spawn().await?;
    let mut cable = Cable::open(&node).await?;
    let identifier = frames::public("a");
    let error = json!({"type": "error", "total": 0});
    // Not subscribed.
    cable.say(&about("presence", &identifier)).await?;
    assert_eq!(told(&mut cable).await?, error);
    cable.say(&join(&identifier, "1", &json!({}))).await?;
    assert_eq!(told(&mut cable).await?, error);
    cable.subscribe(&identifier).await?;
    cable.say(&join(&identifier, "1", &json!({}))).await?;
    assert_eq!(told(&mut cable).await?["type"], "join");
    // Under a second id: it stays who it is.
    cable.say(&join(&identifier, "2", &json!({}))).await?;
    cable.say(&about("presence", &identifier)).await?;
    assert_eq!(told(&mut cable).await?["records"][0]["id"], "1");
    assert_eq!(node.metric("present_sessions").await?, 1.0);
    drop(cable);
    assert_eventually!(node.metric("present_sessions").await? == 0.0, PATIENCE);
    assert_eventually!(node.metric("presence_streams").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn the_api_asks_for_its_key() -> Result<()> {
    let node = Node::builder().flag("secret", "qwerty").spawn().await?;
    // From the secret, by the phrase that backends use.
    let key = "bdd0244b3664404d03b7d0c2f1b946dc4fc6c13fdcbfa2be62a4a28deb04d096";
    let bearer = format!("Bearer {key}");
    let users = "/api/presence/chat%2F1/users";
    assert_eq!(node.get(users).await?.status, 401);
    let asked = Request::get(users).header("Authorization", &bearer);
    let answer = node.ask(&asked).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text()?, r#"{"type":"info","total":0}"#);
    let publish = |bearer: &str| {
        Request::post("/api/publish")
            .header("Authorization", bearer)
            .body(frames::publication("a", &json!(1)))
    };
    assert_eq!(node.ask(&publish("Bearer wrong")).await?.status, 401);
    assert_eq!(node.ask(&publish(&bearer)).await?.status, 201);
    let post = Request::post(users).header("Authorization", &bearer);
    assert_eq!(node.ask(&post).await?.status, 422);
    for unknown in ["/api/presence/users", "/api/presence//users", "/api/x"] {
        let asked = Request::get(unknown).header("Authorization", &bearer);
        assert_eq!(node.ask(&asked).await?.status, 404, "{unknown}");
    }
    let without = Node::builder()
        .flag("streams_secret", "x")
        .own_broadcast_port()
        .spawn()
        .await?;
    assert_eq!(without.get(users).await?.status, 404);
    Ok(())
}
