//! Whatever is published, and wherever: it arrives as it was, or is counted, and nothing is stuck.

use anyhow::{Context, Result};
use pollux_testkit::{Node, PATIENCE, Poller, Redis, RedisClient, assert_eventually, frames};
use serde_json::{Value, json};

const KEY: &str = "pollux:{a}";

async fn spawn(redis: &Redis) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis(redis)
        .spawn_ready()
        .await
}

async fn publish(client: &mut RedisClient, key: &str, arguments: &[&[u8]]) -> Result<i64> {
    let mut command: Vec<&[u8]> = vec![b"FCALL", b"pollux_publish", b"1", key.as_bytes()];
    command.extend(arguments);
    let answer = client.command(&command).await?;
    answer.integer().context("FCALL returned no number")
}

/// A `history` line for everything, and all frames of its answer.
async fn replay(poller: &mut Poller, stream: &str) -> Result<Vec<Value>> {
    let line = frames::history(&frames::public(stream), &json!({"since": 0}));
    let mut frames = poller.poll_with(&line).await?.frames;
    while !frames
        .iter()
        .any(|frame| frames::kind(frame).ends_with("_history"))
    {
        frames.extend(poller.poll().await?.frames);
    }
    Ok(frames)
}

#[tokio::test]
async fn data_arrives_as_it_was() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = spawn(&redis).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    // What is published, and the JSON that clients get.
    let cases = [
        ("plain text", r#""plain text""#),
        ("", r#""""#),
        ("null", r#""null""#),
        ("true", "true"),
        ("1.10", "1.10"),
        ("12345678901234567890123", "12345678901234567890123"),
        (r#"{"b":1,"a":[null]}"#, r#"{"b":1,"a":[null]}"#),
        (r#"say "hi" \o/"#, r#""say \"hi\" \\o/""#),
        (r#""quoted""#, r#""quoted""#),
        (
            "two\nlines\r\n\tand\0more",
            r#""two\nlines\r\n\tand\u0000more""#,
        ),
        ("ü 😀 \u{2028}", "\"ü 😀 \u{2028}\""),
        ("</script>", r#""</script>""#),
        (r#"{"open": "#, r#""{\"open\": ""#),
    ];
    for (at, (data, expected)) in cases.iter().enumerate() {
        let offset = publish(&mut client, KEY, &[data.as_bytes()]).await?;
        assert_eq!(usize::try_from(offset)?, at + 1);
        let response = poller.exchange("").await?;
        let body = response.text()?.to_owned();
        let wanted = format!(r#""message":{expected},"#);
        assert!(body.contains(&wanted), "{data:?} came as {body}");
        poller.understand(response)?;
    }
    let replayed = replay(&mut poller, "a").await?;
    assert_eq!(replayed.len(), cases.len() + 1);
    assert_eq!(node.metric("failed_broadcast_msg_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_mebibyte_passes_every_recorded_door() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut poller = Poller::subscribed(&nodes[1], &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    // A JSON string of exactly 1 MiB, in its quotes; what is around it in a request leaves less.
    let large = json!("x".repeat((1 << 20) - 2));
    assert_eq!(
        publish(&mut client, KEY, &[large.to_string().as_bytes()]).await?,
        1
    );
    assert_eq!(poller.messages(1).await?, std::slice::from_ref(&large));
    let entry = frames::publication("a", &large);
    client
        .command(&["XADD", "__anycable__", "*", "payload", &entry])
        .await?;
    assert_eq!(poller.messages(1).await?, [large]);
    let smaller = json!("x".repeat((1 << 20) - 100));
    nodes[0].publish("a", &smaller).await?;
    assert_eq!(poller.messages(1).await?, [smaller]);
    Ok(())
}

#[tokio::test]
async fn what_no_client_could_read_is_counted_and_nothing_is_stuck() -> Result<()> {
    let redis = Redis::spawn().await?;
    // No silence is long enough for a check: a gap that is seen late would be one.
    let node = Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("redis_check_interval", "60")
        .redis(&redis)
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    let wrong: [&[&[u8]]; 6] = [
        &[b"\xff\xfe binary"],
        &[b"\x80"],
        &[b"half a letter \xc3"],
        // Lua's JSON is more lenient than JSON.
        &[b"1", br#"{"a":nan}"#],
        &[b"1", br#"{"a":0x10}"#],
        &[b"1", br#"{"exclude_socket":5}"#],
    ];
    for (at, arguments) in wrong.iter().enumerate() {
        publish(&mut client, KEY, arguments).await?;
        let number = i64::try_from(at)?;
        publish(&mut client, KEY, &[number.to_string().as_bytes()]).await?;
        assert_eq!(poller.messages(1).await?, [number], "{arguments:?}");
    }
    // Each is counted when it comes, and again in the log, which the node reads when the next one
    // shows a jump.
    let failed = node.metric("failed_broadcast_msg_total").await?;
    assert!(failed >= wrong.len() as f64, "{failed}");
    assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
    // Neither is a replay stuck, nor does it repeat what nobody can read.
    let replayed = replay(&mut poller, "a").await?;
    let last = replayed.last().context("no answer")?;
    assert_eq!(frames::kind(last), "confirm_history");
    assert_eq!(
        frames::messages(&replayed),
        (0..6).map(Value::from).collect::<Vec<_>>()
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_must_read_from_the_log_steps_over_what_nobody_can_read() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut node = spawn(&redis).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    publish(&mut client, KEY, &[b"1"]).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    node.pause()?;
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    publish(&mut client, KEY, &[b"2"]).await?;
    publish(&mut client, KEY, &[b"\xff"]).await?;
    publish(&mut client, KEY, &[b"4"]).await?;
    node.resume()?;
    assert_eq!(poller.messages(2).await?, [2, 4]);
    assert_eventually!(
        node.metric("failed_broadcast_msg_total").await? == 1.0,
        PATIENCE
    );
    publish(&mut client, KEY, &[b"5"]).await?;
    assert_eq!(poller.messages(1).await?, [5]);
    Ok(())
}

#[tokio::test]
async fn streams_may_have_odd_names() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut client = RedisClient::connect(&redis).await?;
    let long = "n".repeat(2_048);
    let names = [
        "a}b",
        "{x}",
        "}",
        "{",
        "}{",
        "ü/😀",
        "with space",
        " ",
        "a:{b}:log",
        "%d.+",
        "a\"b",
        "a\nb",
        &long,
    ];
    for name in names {
        let mut poller = Poller::subscribed(&nodes[1], &[name]).await?;
        let offset = publish(&mut client, &format!("pollux:{{{name}}}"), &[b"1"]).await?;
        assert_eq!(offset, 1, "{name:?} shares its key with another stream");
        let seen = poller
            .messages(1)
            .await
            .with_context(|| format!("{name:?} by FCALL"))?;
        assert_eq!(seen, [1]);
        nodes[0].publish(name, &json!(2)).await?;
        let seen = poller
            .messages(1)
            .await
            .with_context(|| format!("{name:?} by HTTP"))?;
        assert_eq!(seen, [2]);
        let entry = frames::publication(name, &json!(3));
        client
            .command(&["XADD", "__anycable__", "*", "payload", &entry])
            .await?;
        let seen = poller
            .messages(1)
            .await
            .with_context(|| format!("{name:?} by XADD"))?;
        assert_eq!(seen, [3]);
        let replayed = replay(&mut poller, name).await?;
        assert_eq!(frames::messages(&replayed), [1, 2, 3], "{name:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_left_out_and_counted() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("max_publication_size", "100")
        .redis(&redis)
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    publish(&mut client, KEY, &["x".repeat(200).as_bytes()]).await?;
    publish(&mut client, KEY, &[b"2"]).await?;
    assert_eq!(poller.messages(1).await?, [2]);
    assert!(node.metric("failed_broadcast_msg_total").await? >= 1.0);
    Ok(())
}
