//! What is kept of sessions.

use crate::world::World;
use anyhow::Result;
use bytes::Bytes;
use pollux_broker::{BrokerError, Word};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(300);

pub(crate) async fn a_snapshot_is_found_by_every_node(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0].broker, &nodes[nodes.len() - 1].broker);
    assert_eq!(two.load_session("s1").await?, None);
    let contents: [Bytes; 4] = [
        Bytes::from_static(b"first"),
        Bytes::from_static(b"\0\r\n\xff"),
        Bytes::new(),
        vec![7; 100_000].into(),
    ];
    for content in contents {
        one.save_session("s1", content.clone(), LONG).await?;
        assert_eq!(two.load_session("s1").await?, Some(content.clone()));
        assert_eq!(two.load_session("s1").await?, Some(content), "it stays");
    }
    for id in ["", "é\"{}", "}{", "s 1\r\n"] {
        let content = Bytes::copy_from_slice(id.as_bytes());
        one.save_session(id, content.clone(), LONG).await?;
        assert_eq!(two.load_session(id).await?, Some(content));
    }
    Ok(())
}

pub(crate) async fn a_snapshot_is_forgotten(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0].broker, &nodes[nodes.len() - 1].broker);
    let content = Bytes::from_static(b"content");
    one.save_session("s1", content.clone(), LONG).await?;
    one.save_session("s2", content.clone(), LONG).await?;
    one.save_session("s1", Bytes::new(), Duration::ZERO).await?;
    one.save_session("none", Bytes::new(), Duration::ZERO)
        .await?;
    assert_eq!(two.load_session("s1").await?, None);
    assert_eq!(two.load_session("none").await?, None);
    // The last save says how long.
    let short = Duration::from_millis(200);
    one.save_session("s2", content.clone(), short).await?;
    assert_eventually!(two.load_session("s2").await?.is_none(), PATIENCE);
    // A time below what the server can count is not no time at all.
    let moment = Duration::from_nanos(1);
    one.save_session("s3", content.clone(), moment).await?;
    assert_eventually!(two.load_session("s3").await?.is_none(), PATIENCE);
    one.save_session("s4", content.clone(), short).await?;
    one.save_session("s4", content.clone(), LONG).await?;
    one.save_session("s5", content.clone(), short).await?;
    assert_eventually!(two.load_session("s5").await?.is_none(), PATIENCE);
    assert_eq!(two.load_session("s4").await?, Some(content));
    Ok(())
}

pub(crate) async fn of_several_takers_one_gets_a_snapshot(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0].broker, &nodes[nodes.len() - 1].broker);
    let content = Bytes::from_static(b"content");
    one.save_session("s1", content.clone(), LONG).await?;
    let takes = [one, two, one, two].map(|broker| broker.take_session("s1"));
    let taken = futures_util::future::try_join_all(takes).await?;
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(taken, [content]);
    assert_eq!(two.load_session("s1").await?, None);
    Ok(())
}

/// What a node says to all reaches those that there may be.
pub(crate) async fn nodes_hear_each_other(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let word = Word::Want("s1".to_owned());
    let said = nodes[0].broker.tell_nodes(word.clone()).await;
    if !nodes[0].broker.has_others() {
        assert!(matches!(said, Err(BrokerError::Unsupported)));
        return Ok(());
    }
    said?;
    for node in &nodes {
        assert_eventually!(node.words() == [word.clone()], PATIENCE);
    }
    Ok(())
}
