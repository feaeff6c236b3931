//! Polls that wait.

use super::*;
use std::time::Duration;
use tokio::time::Instant;

with_both_brokers! {
    a_poll_that_waits_gets_the_next_event_and_only_that,
    categories_have_nothing_to_do_with_each_other,
    everybody_who_waits_gets_the_event,
    nothing_is_said_when_the_time_is_over,
    the_time_of_silence_is_one_to_go_on_from,
    what_is_not_kept_is_heard_by_those_who_wait,
    one_poll_may_wait_for_several_categories,
    publications_of_every_door_are_events,
}

async fn a_poll_that_waits_gets_the_next_event_and_only_that(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut parked = nodes.park(&["timeout=20&category=a"]).await?;
    let started = Instant::now();
    for number in 1..=3 {
        nodes.publish("a", &json!(number)).await?;
    }
    let answer = parked[0].response().await?;
    // The busiest machine has it long before the next look of anything.
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    let first = events(&answer)?;
    assert_eq!(data(&first), [&json!(1)]);
    let (t, id) = (timestamp(&first[0]), id(&first[0]));
    assert!((now() - t).abs() < 5_000, "{t}");
    let text = format!(r#"{{"events":[{{"timestamp":{t},"category":"a","data":1,"id":"{id}"}}]}}"#);
    assert_eq!(answer.text()?, text);
    // The other two come together.
    let rest = format!("timeout=5&category=a&since_time={t}&last_id={id}");
    let mut read = nodes.events(&rest).await?;
    if read.len() == 1 {
        let rest = format!(
            "timeout=5&category=a&since_time={}&last_id={}",
            timestamp(&read[0]),
            super::id(&read[0])
        );
        read.extend(nodes.events(&rest).await?);
    }
    assert_eq!(data(&read), [&json!(2), &json!(3)]);
    Ok(())
}

async fn categories_have_nothing_to_do_with_each_other(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut parked = nodes.park(&["timeout=1&category=A&since_time=0"]).await?;
    nodes.publish("a", &json!(1)).await?;
    nodes.publish("A ", &json!(1)).await?;
    nothing(&parked[0].response().await?)?;
    Ok(())
}

async fn everybody_who_waits_gets_the_event(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut parked = nodes.park(&["timeout=30&category=a"; 50]).await?;
    nodes.publish("a", &json!("all")).await?;
    let mut ids = Vec::new();
    for connection in &mut parked {
        let read = events(&connection.response().await?)?;
        assert_eq!(data(&read), [&json!("all")]);
        ids.push(id(&read[0]).to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    waiting(nodes.polled(), 0).await
}

async fn nothing_is_said_when_the_time_is_over(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let started = Instant::now();
    let answer = nodes.poll("timeout=1&category=a").await?;
    let waited = started.elapsed();
    let range = Duration::from_secs(1)..Duration::from_secs(3);
    assert!(range.contains(&waited), "{waited:?}");
    // A little earlier than now, so that whoever goes on from there misses nothing.
    let told = now() - nothing(&answer)?;
    assert!((0..1_500).contains(&told), "{told} ms ago");
    Ok(())
}

async fn the_time_of_silence_is_one_to_go_on_from(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    nodes.publish("a", &json!("before")).await?;
    let before = nodes.events("timeout=1&category=a&since_time=0").await?;
    let old = id(&before[0]);
    let quiet = format!("timeout=1&category=a&since_time={}", timestamp(&before[0]));
    let since = nothing(&nodes.poll(&quiet).await?)?;
    nodes.publish("a", &json!("between")).await?;
    // The Go client sends the old event's id with the new time.
    for last in [old, ""] {
        let query = format!("timeout=5&category=a&since_time={since}&last_id={last}");
        assert_eq!(data(&nodes.events(&query).await?), [&json!("between")]);
    }
    Ok(())
}

async fn what_is_not_kept_is_heard_by_those_who_wait(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    nodes.publish("a", &json!("kept")).await?;
    let kept = nodes.events("timeout=1&category=a&since_time=0").await?;
    let (t, last) = (timestamp(&kept[0]), id(&kept[0]));
    let query = format!("timeout=20&category=a&since_time={t}&last_id={last}");
    let mut parked = nodes.park(&[&query, &query]).await?;
    let transient = json!({"stream": "a", "data": "\"gone\"", "meta": {"transient": true}});
    assert_eq!(
        nodes
            .publisher
            .broadcast(&transient.to_string())
            .await?
            .status,
        201
    );
    let mut heard = Vec::new();
    for connection in &mut parked {
        heard.extend(events(&connection.response().await?)?);
    }
    assert_eq!(data(&heard), [&json!("gone"), &json!("gone")]);
    assert_eq!(heard[0]["id"], heard[1]["id"]);
    assert!(timestamp(&heard[0]) > t);
    // Who goes on from it gets what follows, and nothing again.
    nodes.publish("a", &json!("next")).await?;
    let query = format!(
        "timeout=5&category=a&since_time={}&last_id={}",
        timestamp(&heard[0]),
        id(&heard[0])
    );
    assert_eq!(data(&nodes.events(&query).await?), [&json!("next")]);
    let all = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&all), [&json!("kept"), &json!("next")]);
    Ok(())
}

/// Our extension: golongpoll takes the first.
async fn one_poll_may_wait_for_several_categories(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    for number in 0..6 {
        nodes
            .publish(["a", "b", "c"][number % 3], &json!(number))
            .await?;
    }
    let all = "timeout=5&category=a&category=b&category=c";
    let read = nodes.events(&format!("{all}&since_time=0")).await?;
    assert_eq!(
        data(&read),
        [0, 1, 2, 3, 4, 5]
            .map(Value::from)
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(read[4]["category"], "b");
    let two = nodes
        .events("timeout=5&category=c&category=a&since_time=0")
        .await?;
    assert_eq!(
        data(&two),
        [0, 2, 3, 5].map(Value::from).iter().collect::<Vec<_>>()
    );
    // In the middle, whichever category that is of.
    let after = format!(
        "since_time={}&last_id={}",
        timestamp(&read[2]),
        id(&read[2])
    );
    let rest = nodes.events(&format!("{all}&{after}")).await?;
    assert_eq!(
        data(&rest),
        [3, 4, 5].map(Value::from).iter().collect::<Vec<_>>()
    );

    let after = format!(
        "since_time={}&last_id={}",
        timestamp(&read[5]),
        id(&read[5])
    );
    let mut parked = nodes
        .park(&[&format!("{all}&{after}").replace("=5&", "=20&")])
        .await?;
    nodes.publish("b", &json!("b")).await?;
    assert_eq!(data(&events(&parked[0].response().await?)?), [&json!("b")]);
    Ok(())
}

async fn publications_of_every_door_are_events(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut parked = nodes.park(&["timeout=20&category=chat/1"]).await?;
    nodes.publisher.publish("chat/1", &json!({"n": 1})).await?;
    let live = events(&parked[0].response().await?)?;
    assert_eq!(data(&live), [&json!({"n": 1})]);
    let read = nodes
        .events("timeout=1&category=chat%2F1&since_time=0")
        .await?;
    assert_eq!(read, live);
    // What a door of another language calls text is text here.
    nodes
        .publisher
        .broadcast(r#"{"stream":"text","data":"not JSON"}"#)
        .await?;
    let read = nodes.events("timeout=5&category=text&since_time=0").await?;
    assert_eq!(data(&read), [&json!("not JSON")]);
    Ok(())
}
