//! Who is present.

use crate::{
    node::{Node, name},
    world::World,
};
use anyhow::Result;
use pollux_broker::{Entered, Member};
use pollux_protocol::{Payload, PresenceRequest};
use pollux_testkit::{PATIENCE, assert_eventually};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(400);

fn request(id: &str, info: &str) -> PresenceRequest {
    let info = match info {
        "null" => Payload::null(),
        info => Payload::from_text(info),
    };
    let id = id.to_owned();
    PresenceRequest { id, info }
}

impl Node {
    async fn enter(&self, session: &str, id: &str, info: &str, ttl: Duration) -> Result<Entered> {
        let member = Member {
            session: session.to_owned(),
            present: request(id, info),
        };
        Ok(self.broker.enter(&name("a")?, member, ttl).await?)
    }

    async fn exit(&self, session: &str) -> Result<()> {
        Ok(self.broker.exit(&name("a")?, session).await?)
    }

    async fn touch(&self, sessions: &[&str], ttl: Duration) -> Result<Vec<String>> {
        let sessions = sessions.iter().map(|&session| session.to_owned()).collect();
        Ok(self.broker.touch(&name("a")?, sessions, ttl).await?)
    }

    async fn ids(&self) -> Result<Vec<String>> {
        let present = self.broker.present(&name("a")?).await?;
        Ok(present.into_iter().map(|one| one.id).collect())
    }

    /// What was told of presence, after everything that was sent has come.
    async fn told(&self, marker: &str) -> Result<Vec<Value>> {
        let position = self.publish("a", marker).await?;
        let mut told = Vec::new();
        for heard in self.hears_of("a", &position).await {
            if heard.position.is_none() {
                let meta = &heard.publication.meta;
                assert_eq!(meta.broadcast_type.as_deref(), Some("presence"));
                assert!(meta.transient);
                told.push(serde_json::from_str(heard.publication.data.as_str())?);
            }
        }
        Ok(told)
    }
}

async fn listening(world: &impl World) -> Result<Vec<Node>> {
    let nodes = world.nodes().await?;
    for node in &nodes {
        node.subscribe("a").await?;
    }
    Ok(nodes)
}

fn join(id: &str, info: Value) -> Value {
    json!({"type": "join", "id": id, "info": info})
}

fn leave(id: &str) -> Value {
    json!({"type": "leave", "id": id})
}

pub(crate) async fn coming_and_going_is_told_once_to_everybody(world: impl World) -> Result<()> {
    let nodes = listening(&world).await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    assert_eq!(one.enter("s1", "u1", "1", LONG).await?, Entered::First);
    assert_eq!(two.enter("s1", "u1", "1", LONG).await?, Entered::Again);
    assert_eq!(two.enter("s2", "u1", "2", LONG).await?, Entered::Again);
    assert_eq!(one.enter("s2", "u2", "2", LONG).await?, Entered::Other);
    assert_eq!(two.enter("s3", "u2", "null", LONG).await?, Entered::First);
    // What is said last is what is known.
    let present = one.broker.present(&name("a")?).await?;
    assert_eq!(present, [request("u1", "2"), request("u2", "null")]);
    two.exit("s1").await?;
    two.exit("s1").await?;
    one.exit("nobody").await?;
    assert_eq!(one.ids().await?, ["u1", "u2"]);
    one.exit("s2").await?;
    assert_eq!(two.ids().await?, ["u2"]);
    assert_eq!(one.enter("s1", "u1", "3", LONG).await?, Entered::First);
    let expected = [
        join("u1", json!(1)),
        join("u2", json!(null)),
        leave("u1"),
        join("u1", json!(3)),
    ];
    for node in &nodes {
        assert_eq!(node.told("0").await?, expected);
    }
    // History knows nothing of it.
    let kept = one.entries("a", pollux_broker::Since::Time(0)).await?;
    assert_eq!(kept.len(), nodes.len());
    Ok(())
}

pub(crate) async fn the_present_are_sorted_and_each_stream_has_its_own(
    world: impl World,
) -> Result<()> {
    let node = world.node().await?;
    assert!(node.ids().await?.is_empty());
    let mut ids = ["b", "B", "a", "é", "e", "Z", "_", "10", "9", "a b", "a-b"];
    for id in ids {
        node.enter(&format!("session of {id}"), id, "{}", LONG)
            .await?;
    }
    ids.sort_unstable();
    assert_eq!(node.ids().await?, ids);
    assert!(node.broker.present(&name("b")?).await?.is_empty());
    assert_eq!(node.touch(&["session of a"], LONG).await?, [""; 0]);
    let elsewhere = name("b")?;
    let elsewhere = node
        .broker
        .touch(&elsewhere, vec!["session of a".to_owned()], LONG);
    assert_eq!(elsewhere.await?, ["session of a"]);
    Ok(())
}

pub(crate) async fn strange_ids_are_ids(world: impl World) -> Result<()> {
    let nodes = listening(&world).await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    let ids = [
        "é\"{}",
        "a\\/\n\u{7f}\u{1}",
        "null",
        "{\"id\":1}",
        " ",
        "🦀",
    ];
    let infos = [
        "null",
        "\"null\"",
        "{\"a\":[1.10,\"é\\\"{}\"]}",
        "[]",
        "0",
        "\"\"",
    ];
    for (id, info) in ids.into_iter().zip(infos) {
        let session = format!("s:{id}");
        assert_eq!(one.enter(&session, id, info, LONG).await?, Entered::First);
        let present = two.broker.present(&name("a")?).await?;
        assert_eq!(present, [request(id, info)]);
        two.exit(&session).await?;
    }
    let mut expected = Vec::new();
    for (id, info) in ids.into_iter().zip(infos) {
        expected.push(join(id, serde_json::from_str(info)?));
        expected.push(leave(id));
    }
    for node in &nodes {
        assert_eq!(node.told("0").await?, expected);
    }
    // Names that look like each other's parts.
    assert_eq!(one.enter("a", "i:b", "1", LONG).await?, Entered::First);
    assert_eq!(one.enter("i:b", "a", "2", LONG).await?, Entered::First);
    assert_eq!(one.enter("s:a", "n:a", "3", LONG).await?, Entered::First);
    assert_eq!(two.ids().await?, ["a", "i:b", "n:a"]);
    Ok(())
}

pub(crate) async fn who_is_not_touched_is_gone(world: impl World) -> Result<()> {
    let nodes = listening(&world).await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    one.enter("s1", "u1", "1", LONG).await?;
    one.enter("s2", "u1", "1", SHORT).await?;
    two.enter("s3", "u3", "3", SHORT).await?;
    two.enter("s4", "u4", "4", SHORT).await?;
    assert_eq!(two.touch(&["s4", "s5", "s1"], LONG).await?, ["s5"]);
    // Gone for whoever asks, even before anybody has noticed.
    assert_eventually!(one.ids().await? == ["u1", "u4"], PATIENCE);
    assert_eventually!(
        {
            one.touch(&["s1"], LONG).await?;
            two.touch(&[], LONG).await?;
            two.touch(&["s2"], LONG).await? == ["s2"]
        },
        PATIENCE
    );
    assert_eq!(one.touch(&["s3", "s4", "s1"], LONG).await?, ["s3"]);
    let expected = [
        join("u1", json!(1)),
        join("u3", json!(3)),
        join("u4", json!(4)),
        leave("u3"),
    ];
    for node in &nodes {
        assert_eq!(node.told("0").await?, expected);
    }
    assert_eq!(two.enter("s3", "u3", "5", LONG).await?, Entered::First);
    assert_eq!(one.ids().await?, ["u1", "u3", "u4"]);
    Ok(())
}

pub(crate) async fn who_is_touched_stays(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let ttl = Duration::from_secs(2);
    node.enter("s1", "u1", "1", ttl).await?;
    let start = Instant::now();
    assert_eventually!(
        {
            assert_eq!(node.touch(&["s1"], ttl).await?, [""; 0]);
            start.elapsed() > ttl + ttl / 2
        },
        PATIENCE
    );
    assert_eq!(node.ids().await?, ["u1"]);
    Ok(())
}
