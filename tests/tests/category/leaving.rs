//! Clients that leave, nodes that stop, brokers that are away.

use super::*;
use std::time::Duration;

#[tokio::test]
async fn a_thousand_who_leave_are_forgotten() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let parked = park(&node, &["timeout=100&category=a"; 1_000]).await?;
    drop(parked);
    assert_eventually!(
        node.metric("category_waiting").await? == 0.0,
        Duration::from_secs(5)
    );
    assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
    assert_eventually!(node.metric("broadcast_streams_num").await? == 0.0, PATIENCE);
    publish(&node, "a", &json!(1)).await
}

/// golongpoll lets polls run into their timeout.
async fn a_node_that_stops_answers_who_waits(broker: Broker) -> Result<()> {
    let mut nodes = broker.start(&[]).await?;
    let mut parked = nodes.park(&["timeout=100&category=a"]).await?;
    let node = match &mut nodes.polled {
        Some(node) => node,
        None => &mut nodes.publisher,
    };
    node.ask_to_stop()?;
    let answer = parked[0].response().await?;
    nothing(&answer)?;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(node.wait(PATIENCE).await?.success());
    Ok(())
}

with_both_brokers! { a_node_that_stops_answers_who_waits }

/// golongpoll panics.
#[tokio::test]
async fn who_publishes_to_a_node_that_stops_is_sent_to_another() -> Result<()> {
    let mut node = Node::builder().spawn().await?;
    let request = publish_request("a", &json!("late")).to_bytes();
    let (first, rest) = request.split_at(request.len() - 5);
    let mut publisher = Connection::open(node.address()).await?;
    publisher.send_bytes(first).await?;
    let mut parked = park(&node, &["timeout=100&category=a"]).await?;
    node.ask_to_stop()?;
    nothing(&parked[0].response().await?)?;
    publisher.send_bytes(rest).await?;
    let refused = publisher.response().await?;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.text()?.starts_with("{\"error\": \""));
    assert!(node.wait(PATIENCE).await?.success());
    Ok(())
}

#[tokio::test]
async fn while_redis_is_away_polls_wait_and_publishers_are_told() -> Result<()> {
    let mut nodes = Broker::Redis.start(&[]).await?;
    let query = "timeout=60&category=a&since_time=0";
    let mut parked = nodes.park(&[query]).await?;
    let redis = nodes.redis.as_mut().context("no Redis")?;
    redis.stop();
    let (node, publisher) = (nodes.polled.as_ref().context("no node")?, &nodes.publisher);
    for node in [node, publisher] {
        assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    }
    let refused = publisher.ask(&publish_request("a", &json!(1))).await?;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.text()?.starts_with("{\"error\": \""));
    // One that comes now is told to ask again from where it was.
    let since = now() - 60_000;
    let query = format!("timeout=1&category=b&since_time={since}");
    assert_eq!(nothing(&poll(node, &query).await?)?, since);
    // And one that can wait does.
    let mut late = Connection::open(node.address()).await?;
    late.send(&poll_request("timeout=60&category=b&since_time=0"))
        .await?;
    redis.start().await?;
    publisher.ready().await?;
    publish(publisher, "a", &json!("back")).await?;
    publish(publisher, "b", &json!("late")).await?;
    assert_eq!(
        data(&events(&parked[0].response().await?)?),
        [&json!("back")]
    );
    assert_eq!(data(&events(&late.response().await?)?), [&json!("late")]);
    Ok(())
}
