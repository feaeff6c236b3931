//! What is added to the intake with `XADD` is published once, whoever reads it and whatever it is.

use anyhow::{Context, Result};
use pollux_testkit::{
    Node, NodeBuilder, PATIENCE, Poller, Redis, RedisClient, Reply, assert_eventually, frames,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const INTAKE: &str = "__anycable__";
const GROUP: &str = "bx";
const ASIDE: &str = "pollux:{__anycable__}:aside";
/// A leader that is asked to stop hands over at once.
const HAND_OVER: Duration = Duration::from_millis(1_500);
/// The lease of one that was killed runs out.
const TAKE_OVER: Duration = Duration::from_secs(6);

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis(redis)
}

async fn leads(node: &Node) -> Result<bool> {
    Ok(node.metric("intake_leader").await? == 1.0)
}

/// Adds an entry to the intake. Returns its id.
async fn add(client: &mut RedisClient, id: &str, payload: &str) -> Result<String> {
    let answer = client
        .command(&["XADD", INTAKE, id, "payload", payload])
        .await?;
    Ok(answer.text().context("XADD returned no id")?.to_owned())
}

async fn add_number(client: &mut RedisClient, number: u64) -> Result<String> {
    add(client, "*", &frames::publication("a", &number.into())).await
}

async fn number(client: &mut RedisClient, command: &[&str]) -> Result<i64> {
    let answer = client.command(command).await?;
    answer.integer().context("Redis returned no number")
}

/// Nothing is in the intake, and nothing was read and not acknowledged.
async fn is_empty(client: &mut RedisClient) -> Result<bool> {
    let length = number(client, &["XLEN", INTAKE]).await?;
    let pending = client.command(&["XPENDING", INTAKE, GROUP]).await?;
    let pending = pending.items().first().and_then(Reply::integer);
    Ok(length == 0 && pending == Some(0))
}

async fn consumers(client: &mut RedisClient) -> Result<usize> {
    let answer = client
        .command(&["XINFO", "CONSUMERS", INTAKE, GROUP])
        .await?;
    Ok(answer.items().len())
}

fn up_to(last: u64) -> Vec<Value> {
    (1..=last).map(Value::from).collect()
}

#[tokio::test]
async fn entries_from_before_the_first_node_are_in_history() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut client = RedisClient::connect(&redis).await?;
    // More than one reading takes.
    for number in 1..=150 {
        add_number(&mut client, number).await?;
    }
    let node = builder(&redis)
        .flag("history_limit", "1000")
        .spawn_ready()
        .await?;
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    assert_eq!(node.metric("intake_entries_total").await?, 150.0);
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&frames::public("a"), &json!({"since": 0}));
    let mut seen = poller.poll_with(&line).await?.messages();
    while seen.len() < 150 {
        seen.extend(poller.poll().await?.messages());
    }
    assert_eq!(seen, up_to(150));
    Ok(())
}

#[tokio::test]
async fn entries_keep_their_order_and_are_taken_out() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [
        builder(&redis).spawn_ready().await?,
        builder(&redis).spawn_ready().await?,
    ];
    let mut one = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut two = Poller::subscribed(&nodes[1], &["a", "b"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    for number in 1..=100 {
        add_number(&mut client, number).await?;
    }
    let batch = json!([
        {"stream": "a", "data": "101"}, {"stream": "b", "data": "\"b\""}, {"stream": "a", "data": "102"},
    ]);
    add(&mut client, "*", &batch.to_string()).await?;
    // Publishers may have fields of their own.
    let entry = frames::publication("a", &json!(103));
    let command = [
        "XADD", INTAKE, "*", "sender", "x", "payload", &entry, "z", "",
    ];
    client.command(&command).await?;
    assert_eq!(one.messages(103).await?, up_to(103));
    let mut seen = two.messages(104).await?;
    let at = seen.iter().position(|message| message == "b");
    seen.remove(at.context("nothing came to the stream b")?);
    assert_eq!(seen, up_to(103));
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    let leaders = [leads(&nodes[0]).await?, leads(&nodes[1]).await?];
    assert_ne!(leaders[0], leaders[1]);
    assert_eq!(number(&mut client, &["EXISTS", ASIDE]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_disconnect_command_reaches_every_node() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(builder(&redis).spawn_ready().await?);
    }
    let mut client = RedisClient::connect(&redis).await?;
    for node in &nodes {
        let mut poller = Poller::open(node).await?;
        let identifiers = json!({"sid": poller.sid()}).to_string();
        let command = frames::remote_disconnect(&identifiers, Some(true));
        add(&mut client, "*", &command).await?;
        let expected = json!({"type": "disconnect", "reason": "remote", "reconnect": true});
        assert_eq!(poller.poll().await?.frames, [expected]);
    }
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn poison_is_set_aside_and_the_rest_flows() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = builder(&redis)
        .flag("max_publication_size", "100")
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    let large = frames::publication("a", &json!("x".repeat(200)));
    let poison: [&[u8]; 8] = [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        br#"{"stream":"a"}"#,
        br#"[{"stream":"a","data":"9"},{"stream":"","data":"9"}]"#,
        b"{\"stream\":\"a\",\"data\":\"\xff\"}",
        large.as_bytes(),
    ];
    let mut ids = Vec::new();
    for (at, payload) in poison.iter().enumerate() {
        let command: [&[u8]; 5] = [b"XADD", INTAKE.as_bytes(), b"*", b"payload", payload];
        let id = client.command(&command).await?;
        ids.push((id.text().context("no id")?.to_owned(), *payload));
        add_number(&mut client, u64::try_from(at)? + 1).await?;
    }
    let without_payload = client.command(&["XADD", INTAKE, "*", "x", "y"]).await?;
    let id = without_payload.text().context("no id")?;
    ids.push((id.to_owned(), b""));
    // The head of this stream is something else.
    client.command(&["SET", "pollux:{taken}", "x"]).await?;
    let taken = frames::publication("taken", &json!(1));
    let id = add(&mut client, "*", &taken).await?;
    ids.push((id, taken.as_bytes()));
    add_number(&mut client, 9).await?;
    assert_eq!(poller.messages(9).await?, up_to(9));
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);

    assert_eq!(node.metric("intake_poison_total").await?, ids.len() as f64);
    let aside = client.command(&["XRANGE", ASIDE, "-", "+"]).await?;
    assert_eq!(aside.items().len(), ids.len());
    for entry in aside.items() {
        let fields = entry.items().get(1).context("no fields")?.items();
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find(|pair| pair[0].text() == Some(name))
        };
        let id = field("id").context("no id")?[1].text();
        let (_, payload) = ids
            .iter()
            .find(|(poisoned, _)| Some(poisoned.as_str()) == id)
            .with_context(|| format!("{id:?} is no poison"))?;
        let kept = &field("payload").context("no payload")?[1];
        assert_eq!(kept, &Reply::Bytes(payload.to_vec()));
        let reason = field("reason").context("no reason")?[1].text();
        assert!(reason.is_some_and(|reason| !reason.is_empty()));
        assert!(node.log().text().contains(id.unwrap_or_default()));
    }
    Ok(())
}

#[tokio::test]
async fn the_intake_may_have_another_name_or_none() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut client = RedisClient::connect(&redis).await?;
    let node = builder(&redis)
        .flag("redisx_stream", "mine")
        .flag("redisx_group", "ours")
        .spawn_ready()
        .await?;
    let without = builder(&redis)
        .flag("redisx_stream", "")
        .spawn_ready()
        .await?;
    assert_eventually!(leads(&node).await?, PATIENCE);
    assert!(!leads(&without).await?);
    let mut poller = Poller::subscribed(&without, &["a"]).await?;
    add_number(&mut client, 9).await?;
    let entry = frames::publication("a", &json!(1));
    client
        .command(&["XADD", "mine", "*", "payload", &entry])
        .await?;
    assert_eq!(poller.messages(1).await?, [1]);
    let pending = client.command(&["XPENDING", "mine", "ours"]).await?;
    assert!(!pending.items().is_empty());
    assert_eq!(number(&mut client, &["XLEN", INTAKE]).await?, 1);
    Ok(())
}

#[tokio::test]
async fn ids_that_go_back_are_published_all_the_same_and_once() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [
        builder(&redis).spawn_ready().await?,
        builder(&redis).spawn_ready().await?,
    ];
    let mut poller = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    add_number(&mut client, 1).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    // The second time even the same ids come again, for other publications.
    for numbers in [[2, 3, 4], [5, 6, 7]] {
        // The group is gone, too, until a node makes it again.
        client.command(&["DEL", INTAKE]).await?;
        for (id, number) in ["5-1", "5-2", "6-0"].into_iter().zip(numbers) {
            let publication = frames::publication("a", &json!(number));
            add(&mut client, id, &publication).await?;
        }
        assert_eq!(poller.messages(3).await?, numbers);
        assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    }
    add_number(&mut client, 8).await?;
    let last = poller.poll().await?.frames;
    assert_eq!(frames::messages(&last), [8]);
    assert_eq!(last[0]["offset"], 8, "something was published twice");
    Ok(())
}

#[tokio::test]
async fn consumers_that_are_gone_are_removed_and_what_they_had_is_published() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut client = RedisClient::connect(&redis).await?;
    add_number(&mut client, 1).await?;
    add_number(&mut client, 2).await?;
    client
        .command(&["XGROUP", "CREATE", INTAKE, GROUP, "0"])
        .await?;
    let read = |consumer| {
        [
            "XREADGROUP",
            "GROUP",
            GROUP,
            consumer,
            "COUNT",
            "1",
            "STREAMS",
            INTAKE,
            ">",
        ]
    };
    client.command(&read("dead with one")).await?;
    client.command(&read("dead with another")).await?;
    let create = ["XGROUP", "CREATECONSUMER", INTAKE, GROUP, "dead with none"];
    client.command(&create).await?;
    let node = builder(&redis).spawn_ready().await?;
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&frames::public("a"), &json!({"since": 0}));
    let mut seen = poller.poll_with(&line).await?.messages();
    add_number(&mut client, 3).await?;
    while seen.len() < 3 {
        seen.extend(poller.poll().await?.messages());
    }
    assert_eq!(seen, up_to(3));
    assert_eventually!(consumers(&mut client).await? == 1, PATIENCE);
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    Ok(())
}

/// Two nodes, of which the first reads the intake, and a client of the second.
async fn pair(redis: &Redis) -> Result<(Node, Node, Poller)> {
    let leader = builder(redis).spawn_ready().await?;
    assert_eventually!(leads(&leader).await?, PATIENCE);
    let other = builder(redis).spawn_ready().await?;
    let poller = Poller::subscribed(&other, &["a"]).await?;
    Ok((leader, other, poller))
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_at_once() -> Result<()> {
    let redis = Redis::spawn().await?;
    let (mut leader, other, mut poller) = pair(&redis).await?;
    let mut client = RedisClient::connect(&redis).await?;
    for number in 1..=20 {
        add_number(&mut client, number).await?;
    }
    leader.ask_to_stop()?;
    let asked = Instant::now();
    for number in 21..=40 {
        add_number(&mut client, number).await?;
    }
    assert_eventually!(leads(&other).await?, PATIENCE);
    assert!(asked.elapsed() < HAND_OVER, "{:?}", asked.elapsed());
    assert_eq!(poller.messages(40).await?, up_to(40));
    assert!(leader.wait(PATIENCE).await?.success());
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    add_number(&mut client, 41).await?;
    assert_eq!(poller.poll().await?.frames[0]["offset"], 41);
    assert_eventually!(consumers(&mut client).await? == 1, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn a_leader_that_dies_has_a_successor_soon() -> Result<()> {
    let redis = Redis::spawn().await?;
    let (mut leader, other, mut poller) = pair(&redis).await?;
    let mut client = RedisClient::connect(&redis).await?;
    for number in 1..=20 {
        add_number(&mut client, number).await?;
    }
    leader.kill()?;
    let killed = Instant::now();
    for number in 21..=40 {
        add_number(&mut client, number).await?;
    }
    assert_eventually!(leads(&other).await?, PATIENCE);
    eprintln!("taken over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < TAKE_OVER, "{:?}", killed.elapsed());
    assert_eq!(poller.messages(40).await?, up_to(40));
    assert_eventually!(is_empty(&mut client).await?, PATIENCE);
    add_number(&mut client, 41).await?;
    assert_eq!(poller.poll().await?.frames[0]["offset"], 41);
    assert_eventually!(consumers(&mut client).await? == 1, PATIENCE);
    Ok(())
}
