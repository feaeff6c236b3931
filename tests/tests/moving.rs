//! Poll sessions that go on at another node.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Node, NodeBuilder, PATIENCE, Poller, Redis, Request, assert_eventually, frames,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

const STREAM: &str = "news";

/// Messages of a test under load.
const MANY: u64 = 300;

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "2")
        .flag("poll_flush_interval", "0")
        .flag("poll_keepalive_timeout", "60")
        .flag("history_limit", "1000")
        .redis(redis)
}

async fn two_nodes() -> Result<(Redis, [Node; 2])> {
    let redis = Redis::spawn().await?;
    let one = builder(&redis).spawn_ready().await?;
    let two = builder(&redis).spawn_ready().await?;
    Ok((redis, [one, two]))
}

async fn subscribed(node: &Node) -> Result<Poller> {
    let mut poller = Poller::open(node).await?;
    poller.subscribe(&frames::public(STREAM)).await?;
    Ok(poller)
}

/// Polls until the message `last` has come. The next poll goes to `address`.
async fn read_to(
    poller: &mut Poller,
    last: u64,
    mut turn: impl FnMut(&mut Poller),
) -> Result<Vec<u64>> {
    let deadline = Instant::now() + PATIENCE;
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        ensure!(Instant::now() < deadline, "only {numbers:?}");
        turn(poller);
        let answer = poller.poll().await?;
        ensure!(!answer.gap(), "a gap after {numbers:?}");
        numbers.extend(answer.messages().iter().filter_map(Value::as_u64));
    }
    Ok(numbers)
}

fn one_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

/// Publishes the numbers from 1, one after the other, by turns at both nodes.
async fn publish(nodes: &[Node; 2], last: u64) -> Result<()> {
    for number in 1..=last {
        let node = &nodes[usize::from(number % 2 == 0)];
        node.publish(STREAM, &json!(number)).await?;
    }
    Ok(())
}

async fn every_poll_comes_to_another_node(mut poller: Poller, nodes: [Node; 2]) -> Result<()> {
    let addresses = [nodes[0].address(), nodes[1].address()];
    let mut polls = 0;
    let read = read_to(&mut poller, MANY, |poller| {
        polls += 1;
        poller.turn_to(addresses[polls % 2]);
    });
    let (numbers, published) = tokio::join!(read, publish(&nodes, MANY));
    published?;
    assert_eq!(numbers?, one_to(MANY));
    let moved = nodes[0].metric("moved_sessions_total").await?;
    assert!(moved >= 2.0, "{moved} times from the first node");
    for node in &nodes {
        assert_eq!(node.metric("long_poll_stale_requests_total").await?, 0.0);
        assert_eq!(node.metric("gaps_total").await?, 0.0);
    }
    Ok(())
}

#[tokio::test]
async fn a_session_follows_its_polls_from_node_to_node() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let poller = subscribed(&nodes[0]).await?;
    Box::pin(every_poll_comes_to_another_node(poller, nodes)).await
}

#[tokio::test]
async fn so_does_that_of_a_client_with_a_cursor() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let poller = subscribed(&nodes[0]).await?.with_cursor();
    Box::pin(every_poll_comes_to_another_node(poller, nodes)).await
}

#[tokio::test]
async fn a_poll_that_waits_is_sent_home() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let mut poller = subscribed(&nodes[0]).await?;
    let mut waiting = poller.park().await?;
    assert_eventually!(nodes[0].metric("parked_polls").await? == 1.0, PATIENCE);
    poller.turn_to(nodes[1].address());
    let elsewhere = poller.park().await?;
    assert_eq!(waiting.answer().await?.status, 204);
    assert_eventually!(nodes[1].metric("parked_polls").await? == 1.0, PATIENCE);
    assert_eq!(nodes[0].metric("sessions").await?, 0.0);
    nodes[0].publish(STREAM, &json!("here")).await?;
    let mut elsewhere = elsewhere;
    let answer = poller.understand(elsewhere.answer().await?)?;
    assert_eq!(answer.messages(), [json!("here")]);
    Ok(())
}

#[tokio::test]
async fn of_many_polls_at_once_one_fetches_the_session() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let mut poller = subscribed(&nodes[0]).await?;
    nodes[0].publish(STREAM, &json!(1)).await?;
    poller.turn_to(nodes[1].address());
    let polls = (0..6).map(|_| poller.park());
    let mut polls = futures_util::future::try_join_all(polls).await?;
    let mut messages = Vec::new();
    for poll in &mut polls {
        let answer = poller.understand(poll.answer().await?)?;
        messages.extend(answer.messages());
    }
    assert_eq!(messages, [json!(1)]);
    assert_eq!(nodes[1].metric("adopted_sessions_total").await?, 1.0);
    assert_eq!(nodes[1].metric("sessions").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn of_polls_at_two_nodes_at_once_none_is_told_that_the_session_is_gone() -> Result<()> {
    let (redis, [one, two]) = two_nodes().await?;
    let three = builder(&redis).spawn_ready().await?;
    let mut poller = subscribed(&one).await?;
    for round in 1..=10 {
        one.publish(STREAM, &json!(round)).await?;
        let mut polls = Vec::new();
        for node in [&two, &three, &one] {
            poller.turn_to(node.address());
            polls.push(poller.park().await?);
        }
        let mut messages = Vec::new();
        for poll in &mut polls {
            messages.extend(poller.understand(poll.answer().await?)?.messages());
        }
        assert_eq!(messages, [json!(round)]);
    }
    Ok(())
}

#[tokio::test]
async fn what_was_not_fetched_and_what_is_asked_for_come_along() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let mut poller = subscribed(&nodes[0]).await?;
    for number in 1..=5 {
        nodes[1].publish(STREAM, &json!(number)).await?;
    }
    nodes[0].fanned_out(5).await?;
    poller.turn_to(nodes[1].address());
    let commands = frames::subscribe(&frames::public("more"));
    let mut seen = poller.poll_with(&commands).await?.frames;
    while seen.len() < 6 {
        seen.extend(poller.poll().await?.frames);
    }
    assert_eq!(
        frames::messages(&seen),
        (1..=5).map(Value::from).collect::<Vec<_>>()
    );
    let confirmed = |frame: &&Value| frame["type"] == "confirm_subscription";
    assert_eq!(seen.iter().filter(confirmed).count(), 1);
    nodes[0].publish("more", &json!("of it")).await?;
    assert_eq!(poller.messages(1).await?, [json!("of it")]);
    // And the one it had goes on.
    nodes[0].publish(STREAM, &json!(6)).await?;
    assert_eq!(poller.messages(1).await?, [json!(6)]);
    Ok(())
}

/// What a balancer does: who can't be reached is left out.
async fn read_behind_a_balancer(
    mut poller: Poller,
    addresses: [SocketAddr; 2],
    last: u64,
) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut at = 0;
    while numbers.last() != Some(&last) {
        ensure!(Instant::now() < deadline, "only {numbers:?}");
        match poller.poll().await {
            Ok(answer) => {
                ensure!(!answer.gap(), "a gap after {numbers:?}");
                numbers.extend(answer.messages().iter().filter_map(Value::as_u64));
            }
            Err(error) if error.to_string().starts_with("poll: ") => return Err(error),
            Err(_) => {
                at += 1;
                poller.turn_to(addresses[at % 2]);
            }
        }
    }
    Ok(numbers)
}

#[tokio::test]
async fn a_node_that_stops_gives_its_sessions_away() -> Result<()> {
    let (_redis, [mut one, two]) = two_nodes().await?;
    let addresses = [one.address(), two.address()];
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut poller = subscribed(&one).await?;
        if number % 2 == 0 {
            poller = poller.with_cursor();
        }
        readers.spawn(read_behind_a_balancer(poller, addresses, MANY));
    }
    let publishing = async {
        for number in 1..=MANY {
            two.publish(STREAM, &json!(number)).await?;
        }
        anyhow::Ok(())
    };
    let stopping = async {
        one.fanned_out(MANY / 3).await?;
        one.terminate(PATIENCE).await
    };
    let (published, stopped) = tokio::join!(publishing, stopping);
    published?;
    assert!(stopped?.success());
    while let Some(numbers) = readers.join_next().await {
        assert_eq!(numbers??, one_to(MANY));
    }
    assert_eq!(two.metric("adopted_sessions_total").await?, 20.0);
    assert_eq!(two.metric("long_poll_stale_requests_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_session_outlives_the_restart_of_its_only_node() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut node = builder(&redis).spawn_ready().await?;
    let mut poller = subscribed(&node).await?;
    node.publish(STREAM, &json!(1)).await?;
    node.fanned_out(1).await?;
    let address = node.address();
    assert!(node.terminate(PATIENCE).await?.success());
    poller.hang_up();
    redis
        .cli(&["FCALL", "pollux_publish", "1", "pollux:{news}", "2"])
        .await?;
    let node = builder(&redis).port(address.port()).spawn_ready().await?;
    assert_eq!(poller.messages(2).await?, [json!(1), json!(2)]);
    node.publish(STREAM, &json!(3)).await?;
    assert_eq!(poller.messages(1).await?, [json!(3)]);
    Ok(())
}

#[tokio::test]
async fn what_history_has_forgotten_meanwhile_is_a_gap() -> Result<()> {
    let redis = Redis::spawn().await?;
    let short = || builder(&redis).flag("history_limit", "2");
    let mut one = short().spawn_ready().await?;
    let two = short().spawn_ready().await?;
    let mut poller = subscribed(&one).await?;
    two.publish(STREAM, &json!(1)).await?;
    assert_eq!(poller.messages(1).await?, [json!(1)]);
    poller.hang_up();
    assert!(one.terminate(PATIENCE).await?.success());
    for number in 2..=9 {
        two.publish(STREAM, &json!(number)).await?;
    }
    poller.turn_to(two.address());
    let waiting = poller.park().await?;
    assert_eventually!(two.metric("adopted_sessions_total").await? == 1.0, PATIENCE);
    two.publish(STREAM, &json!("now")).await?;
    let mut waiting = waiting;
    let answer = poller.understand(waiting.answer().await?)?;
    assert!(answer.gap(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn without_redis_clients_are_asked_to_come_again() -> Result<()> {
    let (mut redis, [mut one, _two]) = two_nodes().await?;
    let poller = subscribed(&one).await?;
    let mut waiting = poller.park().await?;
    assert_eventually!(one.metric("parked_polls").await? == 1.0, PATIENCE);
    redis.stop();
    assert_eventually!(one.metric("broker_up").await? == 0.0, PATIENCE);
    one.ask_to_stop()?;
    let answer = waiting.answer().await?;
    let farewell = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
    assert_eq!(answer.frames()?, [farewell]);
    assert!(one.wait(PATIENCE).await?.success());
    Ok(())
}

#[tokio::test]
async fn nobody_has_a_session_that_is_made_up() -> Result<()> {
    let (_redis, nodes) = two_nodes().await?;
    let poller = subscribed(&nodes[0]).await?;
    let (route, secret) = poller.poll_id().rsplit_once('.').context("no secret")?;
    let other: String = secret.chars().rev().collect();
    for id in [format!("{route}.{other}"), format!("{route}."), other] {
        let poll = Request::post("/lp").header("x-anycable-poll-id", &id);
        let answer = nodes[1].ask(&poll).await?;
        assert_eq!(answer.status, 401, "{id}");
    }
    assert_eq!(nodes[0].metric("sessions").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn who_is_present_stays_present() -> Result<()> {
    let redis = Redis::spawn().await?;
    let brief = || builder(&redis).flag("presence_ttl", "2");
    let nodes = [brief().spawn_ready().await?, brief().spawn_ready().await?];
    let mut watcher = subscribed(&nodes[1]).await?;
    let mut poller = subscribed(&nodes[0]).await?;
    let news = frames::public(STREAM);
    let join = json!({"command": "join", "identifier": news, "presence": {"id": "ann"}});
    poller.poll_with(&join.to_string()).await?;
    let joined = watcher.poll().await?.frames;
    assert_eq!(joined[0]["message"]["type"], "join", "{joined:?}");
    poller.turn_to(nodes[1].address());
    let ask = json!({"command": "presence", "identifier": news}).to_string();
    // Longer than whoever is not there any more is kept.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        poller.poll().await?;
    }
    let said = watcher.poll_with(&ask).await?.frames;
    let info = said.iter().find(|frame| frame["message"]["type"] == "info");
    assert_eq!(info.context("no info")?["message"]["total"], 1, "{said:?}");
    let left = |frame: &Value| frame["message"]["type"] == "leave";
    assert!(!said.iter().any(left), "{said:?}");
    Ok(())
}
