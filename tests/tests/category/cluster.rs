//! Several nodes, one order.

use super::*;

#[tokio::test]
async fn an_event_is_the_same_on_every_node_and_so_is_a_cursor() -> Result<()> {
    let nodes = Broker::Redis.start(&[]).await?;
    let (one, two) = (&nodes.publisher, nodes.polled());
    let mut parked = park(two, &["timeout=20&category=a"]).await?;
    publish(one, "a", &json!(1)).await?;
    let heard = events(&parked[0].response().await?)?;
    for number in 2..=6 {
        publish(if number % 2 == 0 { one } else { two }, "a", &json!(number)).await?;
    }
    let query = "timeout=5&category=a&since_time=0";
    let (here, there) = (
        events(&poll(one, query).await?)?,
        events(&poll(two, query).await?)?,
    );
    assert_eq!(here, there);
    assert_eq!(here[0], heard[0]);
    assert_eq!(
        data(&here),
        (1..=6)
            .map(Value::from)
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>()
    );
    // Read on one, go on at the other.
    for event in &here[..5] {
        let query = format!(
            "timeout=5&category=a&since_time={}&last_id={}",
            timestamp(event),
            id(event)
        );
        let (here, there) = (
            events(&poll(one, &query).await?)?,
            events(&poll(two, &query).await?)?,
        );
        assert_eq!(here, there);
        assert_eq!(here[0]["data"], event["data"].as_i64().unwrap_or(0) + 1);
    }
    Ok(())
}

#[tokio::test]
async fn events_survive_the_nodes() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut node = Node::builder().redis(&redis).spawn_ready().await?;
    publish(&node, "a", &json!(1)).await?;
    let query = "timeout=5&category=a&since_time=1";
    let before = events(&poll(&node, query).await?)?;
    node.kill()?;
    let node = Node::builder().redis(&redis).spawn_ready().await?;
    assert_eq!(events(&poll(&node, query).await?)?, before);
    Ok(())
}
