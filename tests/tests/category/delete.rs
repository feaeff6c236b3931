//! Events that are gone when somebody has had them.

use super::*;

with_both_brokers! {
    what_was_read_is_gone_and_what_was_not_stays,
    all_who_wait_get_an_event_and_who_comes_later_does_not,
    an_event_whose_poller_vanished_is_there_for_the_next,
    who_waits_gets_what_came_back,
    of_several_categories_the_first_is_meant,
}

const DELETE: [(&str, &str); 1] = [("category_delete_after_retrieval", "true")];
const ALL: &str = "timeout=1&category=a&since_time=0";

async fn what_was_read_is_gone_and_what_was_not_stays(broker: Broker) -> Result<()> {
    let nodes = broker.start(&DELETE).await?;
    for number in 1..=3 {
        nodes.publish("a", &json!(number)).await?;
        let published = now();
        assert_eventually!(now() > published, PATIENCE);
    }
    let mut connection = Connection::open(nodes.polled().address()).await?;
    let all = events(&connection.ask(&poll_request(ALL)).await?)?;
    assert_eq!(data(&all), [&json!(1), &json!(2), &json!(3)]);
    nothing(&connection.ask(&poll_request(ALL)).await?)?;

    for number in 4..=5 {
        nodes.publish("a", &json!(number)).await?;
        let published = now();
        assert_eventually!(now() > published, PATIENCE);
    }
    let between = now();
    assert_eventually!(now() > between, PATIENCE);
    nodes.publish("a", &json!(6)).await?;
    // Older events than the poll asks for stay.
    let since = format!("timeout=1&category=a&since_time={between}");
    let read = events(&connection.ask(&poll_request(&since)).await?)?;
    assert_eq!(data(&read), [&json!(6)]);
    let read = events(&connection.ask(&poll_request(ALL)).await?)?;
    assert_eq!(data(&read), [&json!(4), &json!(5)]);
    Ok(())
}

async fn all_who_wait_get_an_event_and_who_comes_later_does_not(broker: Broker) -> Result<()> {
    let nodes = broker.start(&DELETE).await?;
    let query = "timeout=20&category=a";
    let mut parked = nodes.park(&[query, query]).await?;
    nodes.publish("a", &json!("pushed")).await?;
    for connection in &mut parked {
        assert_eq!(
            data(&events(&connection.response().await?)?),
            [&json!("pushed")]
        );
    }
    nothing(&nodes.poll(ALL).await?)?;
    Ok(())
}

/// golongpoll loses it.
async fn an_event_whose_poller_vanished_is_there_for_the_next(broker: Broker) -> Result<()> {
    let nodes = broker.start(&DELETE).await?;
    let large = Value::from("x".repeat(1_000_000));
    for number in 1..=8 {
        let data = json!([number, large]);
        nodes.publish("a", &data).await?;
    }
    let mut vanishing = Connection::open(nodes.polled().address()).await?;
    vanishing.shrink_receive_buffer(4_096)?;
    vanishing.send(&poll_request(ALL)).await?;
    // It has begun to read, and there is far more than sockets hold.
    vanishing.bytes(100).await?;
    nothing(&nodes.poll(ALL).await?)?;
    vanishing.reset()?;
    let read = nodes.events("timeout=20&category=a&since_time=0").await?;
    assert_eq!(read.len(), 8);
    Ok(())
}

async fn who_waits_gets_what_came_back(broker: Broker) -> Result<()> {
    let nodes = broker.start(&DELETE).await?;
    let large = Value::from("x".repeat(1_000_000));
    for _ in 0..8 {
        nodes.publish("a", &large).await?;
    }
    let mut vanishing = Connection::open(nodes.polled().address()).await?;
    vanishing.shrink_receive_buffer(4_096)?;
    vanishing.send(&poll_request(ALL)).await?;
    vanishing.bytes(100).await?;
    let mut parked = nodes.park(&["timeout=30&category=a&since_time=0"]).await?;
    vanishing.reset()?;
    assert_eq!(events(&parked[0].response().await?)?.len(), 8);
    Ok(())
}

async fn of_several_categories_the_first_is_meant(broker: Broker) -> Result<()> {
    let nodes = broker.start(&DELETE).await?;
    nodes.publish("a", &json!("a")).await?;
    nodes.publish("b", &json!("b")).await?;
    let read = nodes
        .events("timeout=1&category=b&category=a&since_time=0")
        .await?;
    assert_eq!(data(&read), [&json!("b")]);
    assert_eq!(data(&nodes.events(ALL).await?), [&json!("a")]);
    Ok(())
}
