//! How backends publish without a node.

use crate::{
    cases::queue,
    node::{offsets, texts},
    world::Alone,
};
use anyhow::Result;
use pollux_broker::Group;
use pollux_protocol::RemoteDisconnect;
use pollux_testkit::{CommandError, PATIENCE, assert_eventually};
use serde_json::json;

const KEY: &str = "pollux:{a}";
const INTAKE: &str = "__anycable__";
const ASIDE: &str = "pollux:{__anycable__}:aside";

async fn fcall(world: &impl Alone, arguments: &[&str]) -> Result<Option<i64>> {
    let command = [&["FCALL", "pollux_publish", "1", KEY], arguments].concat();
    Ok(world.command(KEY, &command).await?.integer())
}

async fn add(world: &impl Alone, payload: &str) -> Result<()> {
    let command = ["XADD", INTAKE, "*", "payload", payload];
    world.command(INTAKE, &command).await.map(drop)
}

async fn length(world: &impl Alone, key: &str) -> Result<Option<i64>> {
    Ok(world.command(key, &["XLEN", key]).await?.integer())
}

fn message(stream: &str, number: u64) -> String {
    json!({"stream": stream, "data": number.to_string()}).to_string()
}

pub(crate) async fn any_client_publishes_with_fcall(world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    assert_eq!(fcall(&world, &[r#"{"n":1.10}"#]).await?, Some(1));
    assert_eq!(fcall(&world, &["plain \"text\"\n"]).await?, Some(2));
    let meta = r#"{"broadcast_type":"x","exclude_socket":"s1"}"#;
    assert_eq!(fcall(&world, &["3", meta]).await?, Some(3));
    let transient = r#"{"transient":true}"#;
    assert_eq!(fcall(&world, &["4", transient]).await?, Some(0));
    assert_eq!(fcall(&world, &["5"]).await?, Some(4));
    let heard = node.hears("a", 5).await;
    assert_eq!(offsets(&heard), [1, 2, 3, 0, 4]);
    let expected = [r#"{"n":1.10}"#, r#""plain \"text\"\n""#, "3", "4", "5"];
    assert_eq!(texts(&heard), expected);
    let meta = &heard[2].publication.meta;
    assert_eq!(meta.broadcast_type.as_deref(), Some("x"));
    assert_eq!(meta.exclude_socket.as_deref(), Some("s1"));
    // Nodes and backends share one numbering.
    assert_eq!(node.publish("a", "6").await?.offset.get(), 5);
    Ok(())
}

pub(crate) async fn what_enters_by_any_door_is_taken(world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let take = queue::take(Group::Room, 9);
    assert_eq!(fcall(&world, &["1"]).await?, Some(1));
    add(&world, &message("a", 2)).await?;
    assert_eventually!(node.backlog("a", Group::Room).await? == 2, PATIENCE);
    node.publish("a", "3").await?;
    // What has no position has no place to wait at.
    fcall(&world, &["4", r#"{"transient":true}"#]).await?;
    let taken = node.take("a", &take).await?.entries;
    assert_eq!(queue::texts(&taken), ["1", "2", "3"]);
    // What was delivered says the same.
    node.hears("a", 4).await;
    let times: Vec<u64> = taken.iter().map(|entry| entry.time).collect();
    assert_eq!(node.times("a"), [times, vec![0]].concat());
    // What is no publication is taken, and that is it.
    let log = format!("{KEY}:log");
    let strange = ["XADD", &log, "4-0", "time", "1", "nothing", "of value"];
    world.command(KEY, &strange).await?;
    world.command(KEY, &["HSET", KEY, "offset", "4"]).await?;
    node.publish("a", "5").await?;
    let taken = node.take("a", &take).await?.entries;
    assert_eq!(queue::texts(&taken), ["5"]);
    Ok(())
}

pub(crate) async fn fcall_refuses_what_it_does_not_understand(world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let wrong: [&[&str]; 9] = [
        &["1", KEY],
        &["0", "1"],
        &["2", KEY, KEY, "1"],
        &["1", "a", "1"],
        &["1", "other:{a}", "1"],
        &["1", "pollux:{}", "1"],
        &["1", KEY, "1", "not JSON"],
        &["1", KEY, "1", "[]"],
        &["1", KEY, "1", "{}", "more"],
    ];
    for arguments in wrong {
        let command = [&["FCALL", "pollux_publish"], arguments].concat();
        let refused = world.command(KEY, &command).await;
        let error = refused.map(drop).unwrap_err_or(arguments)?;
        let is_refusal = matches!(
            error.downcast_ref(),
            Some(CommandError::Refused(words)) if words.starts_with("ERR")
        );
        assert!(is_refusal, "{arguments:?}: {error:#}");
    }
    assert_eq!(fcall(&world, &["1", "{}"]).await?, Some(1));
    assert_eq!(texts(&node.hears("a", 1).await), ["1"]);
    Ok(())
}

/// An error that must be there.
trait UnwrapErrOr {
    fn unwrap_err_or(self, what: &[&str]) -> Result<anyhow::Error>;
}

impl UnwrapErrOr for Result<()> {
    fn unwrap_err_or(self, what: &[&str]) -> Result<anyhow::Error> {
        match self {
            Ok(()) => anyhow::bail!("{what:?} was accepted"),
            Err(error) => Ok(error),
        }
    }
}

pub(crate) async fn entries_become_publications_in_their_order(world: impl Alone) -> Result<()> {
    // Some are there before there is a node.
    for number in 1..=20 {
        add(&world, &message("a", number)).await?;
    }
    let nodes = [world.node().await?, world.node().await?];
    for node in &nodes {
        node.subscribe("a").await?;
    }
    for number in 21..=60 {
        add(&world, &message("a", number)).await?;
    }
    for node in &nodes {
        let start = node.subscribe("a").await?;
        assert!(start.is_some());
        assert_eventually!(
            texts(&node.deliveries("a")).last() == Some(&"60"),
            PATIENCE,
            "{:?}",
            texts(&node.deliveries("a"))
        );
        let heard = node.deliveries("a");
        assert_eq!(
            texts(&heard),
            &crate::node::numbers(1, 60)[60 - heard.len()..]
        );
    }
    let kept = nodes[0].entries("a", pollux_broker::Since::Time(0)).await?;
    assert_eq!(offsets(&kept), (1..=60).collect::<Vec<_>>());
    assert_eq!(texts(&kept), crate::node::numbers(1, 60));
    assert_eventually!(length(&world, INTAKE).await? == Some(0), PATIENCE);
    let leaders = nodes
        .iter()
        .filter(|node| node.broker.stats().intake_leader);
    assert_eq!(leaders.count(), 1);
    let taken: u64 = nodes
        .iter()
        .map(|node| node.broker.stats().intake_entries)
        .sum();
    assert_eq!(taken, 60);
    Ok(())
}

pub(crate) async fn a_batch_in_an_entry_is_published_in_its_order(world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    for stream in ["a", "b"] {
        node.subscribe(stream).await?;
    }
    let batch = json!([
        {"stream": "a", "data": "1"},
        {"stream": "b", "data": "2"},
        {"stream": "a", "data": "3", "meta": {"transient": true}},
        {"stream": "a", "data": "4"},
    ]);
    add(&world, &batch.to_string()).await?;
    let command = json!({"command": "disconnect", "payload": {"identifier": "x"}});
    add(&world, &command.to_string()).await?;
    let heard = node.hears("a", 3).await;
    assert_eq!(
        (offsets(&heard), texts(&heard)),
        (vec![1, 0, 2], vec!["1", "3", "4"])
    );
    assert_eq!(texts(&node.hears("b", 1).await), ["2"]);
    let expected = RemoteDisconnect {
        identifier: "x".to_owned(),
        reconnect: false,
    };
    assert_eventually!(!node.disconnects().is_empty(), PATIENCE);
    assert_eq!(node.disconnects(), [expected]);
    assert_eventually!(length(&world, INTAKE).await? == Some(0), PATIENCE);
    Ok(())
}

pub(crate) async fn what_a_dead_node_read_is_published_once(world: impl Alone) -> Result<()> {
    let group = ["XGROUP", "CREATE", INTAKE, "bx", "0", "MKSTREAM"];
    world.command(INTAKE, &group).await?;
    for number in 1..=10 {
        add(&world, &message("a", number)).await?;
    }
    // Somebody read some of them and never came back.
    let read = [
        "XREADGROUP",
        "GROUP",
        "bx",
        "dead",
        "COUNT",
        "4",
        "STREAMS",
        INTAKE,
        ">",
    ];
    world.command(INTAKE, &read).await?;
    let node = world.node().await?;
    assert_eventually!(
        length(&world, INTAKE).await? == Some(0),
        2 * PATIENCE,
        "entries are left"
    );
    let kept = node.entries("a", pollux_broker::Since::Time(0)).await?;
    assert_eq!(texts(&kept), crate::node::numbers(1, 10));
    let consumers = ["XINFO", "CONSUMERS", INTAKE, "bx"];
    assert_eventually!(
        {
            let consumers = world.command(INTAKE, &consumers).await?;
            let names = consumers.items().iter();
            let mut names = names.filter_map(|consumer| consumer.items().get(1)?.text());
            !names.any(|name| name == "dead")
        },
        2 * PATIENCE,
        "the dead consumer is still there"
    );
    Ok(())
}

/// A node that was cut off, and whose last read reaches Redis when others read already, takes an
/// entry out of the others' sight.
pub(crate) async fn what_came_too_late_to_a_dead_node_is_not_lost(world: impl Alone) -> Result<()> {
    const READ_LATE: &str = "
        redis.call('XADD', KEYS[1], '*', 'payload', ARGV[1])
        return redis.call('XREADGROUP', 'GROUP', 'bx', 'dead', 'STREAMS', KEYS[1], '>')";
    let node = world.node().await?;
    node.subscribe("a").await?;
    add(&world, &message("a", 1)).await?;
    node.hears("a", 1).await;
    // In one step, so that the node does not get it first.
    let late = ["EVAL", READ_LATE, "1", INTAKE, &message("a", 2)];
    world.command(INTAKE, &late).await?;
    add(&world, &message("a", 3)).await?;
    node.hears("a", 2).await;
    node.broker.stop().await;

    let successor = world.node().await?;
    assert_eventually!(length(&world, INTAKE).await? == Some(0), 2 * PATIENCE);
    let kept = successor
        .entries("a", pollux_broker::Since::Time(0))
        .await?;
    let mut kept = texts(&kept);
    kept.sort_unstable();
    assert_eq!(kept, ["1", "2", "3"], "late is better than never");
    Ok(())
}

pub(crate) async fn poison_is_set_aside(world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let poison = [
        "",
        "not JSON",
        "[]",
        "{}",
        r#"[{"stream":"a","data":"9"},{}]"#,
    ];
    for payload in poison {
        add(&world, payload).await?;
    }
    let nameless = ["XADD", INTAKE, "*", "something", "else"];
    world.command(INTAKE, &nameless).await?;
    add(&world, &message("a", 1)).await?;
    let heard = node.hears("a", 1).await;
    assert_eq!((offsets(&heard), texts(&heard)), (vec![1], vec!["1"]));
    let count = poison.len() + 1;
    assert_eventually!(length(&world, INTAKE).await? == Some(0), PATIENCE);
    assert_eq!(length(&world, ASIDE).await?, Some(i64::try_from(count)?));
    assert_eq!(node.broker.stats().intake_poison, count as u64);
    Ok(())
}

pub(crate) async fn a_plain_publish_is_delivered_live(world: impl Alone) -> Result<()> {
    let nodes = [world.node().await?, world.node().await?];
    for node in &nodes {
        node.subscribe("a").await?;
    }
    for number in 1..=5 {
        let command = ["PUBLISH", INTAKE, &message("a", number)];
        world.command(INTAKE, &command).await?;
    }
    world
        .command(INTAKE, &["PUBLISH", INTAKE, "not JSON"])
        .await?;
    for node in &nodes {
        let heard = node.hears("a", 5).await;
        assert_eq!(offsets(&heard), [0; 5]);
        assert_eq!(texts(&heard), crate::node::numbers(1, 5));
        assert_eventually!(node.malformed() == 1, PATIENCE);
    }
    Ok(())
}
