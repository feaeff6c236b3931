//! Which events a poll is answered with.

use super::*;

with_both_brokers! {
    events_of_one_millisecond_are_told_apart_by_id,
    a_poll_without_a_time_gets_nothing_of_the_past,
    a_time_to_come_hides_the_past_but_not_what_happens,
    every_spelling_of_an_id_is_an_id,
    a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice,
}

async fn events_of_one_millisecond_are_told_apart_by_id(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let (category, three) = nodes.three_at_once().await?;
    let t = timestamp(&three[0]);
    let ids: Vec<_> = three.iter().map(id).collect();
    let unknown = "7c17587a-3437-4861-bef7-8f29905589e4";
    let zero = "00000000-0000-0000-0000-000000000000";
    let category = escaped(&category);
    for (since, last, expected) in [
        (t, ids[0], "bc"),
        (t, ids[1], "c"),
        (t, unknown, "abc"),
        (t, zero, "abc"),
        (t - 1, ids[2], "abc"),
        (t - 1, "", "abc"),
        (0, "", "abc"),
        (-7, "", "abc"),
        (0, ids[1], "abc"),
    ] {
        let query = format!("timeout=1&category={category}&since_time={since}&last_id={last}");
        let read = nodes.events(&query).await?;
        let names: String = data(&read)
            .iter()
            .filter_map(|data| data.as_str())
            .collect();
        assert_eq!(names, expected, "{query}");
    }
    for (since, last) in [(t, ""), (t, ids[2]), (t + 1, ids[0])] {
        let query = format!("timeout=1&category={category}&since_time={since}&last_id={last}");
        nothing(&nodes.poll(&query).await?)?;
    }
    Ok(())
}

async fn a_poll_without_a_time_gets_nothing_of_the_past(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    nodes.publish("a", &json!("before")).await?;
    // The next millisecond, for a clock that two processes share.
    let before = now();
    assert_eventually!(now() > before + 1, PATIENCE);
    let mut parked = nodes.park(&["timeout=20&category=a"]).await?;
    nodes.publish("a", &json!("after")).await?;
    let answer = parked.remove(0).response().await?;
    assert_eq!(data(&events(&answer)?), [&json!("after")]);
    Ok(())
}

async fn a_time_to_come_hides_the_past_but_not_what_happens(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    nodes.publish("a", &json!("before")).await?;
    let ahead = (now() + 3_600_000).to_string();
    // The second would be negative in nanoseconds.
    for since in [ahead.as_str(), "9223372036855", "9223372036854775807"] {
        let query = format!("timeout=20&category=a&since_time={since}");
        let mut parked = nodes.park(&[&query]).await?;
        nodes.publish("a", &json!(since)).await?;
        let answer = parked.remove(0).response().await?;
        assert_eq!(data(&events(&answer)?), [&json!(since)]);
    }
    Ok(())
}

async fn every_spelling_of_an_id_is_an_id(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    for number in 1..=2 {
        nodes.publish("a", &json!(number)).await?;
    }
    let first = nodes
        .events("timeout=1&category=a&since_time=0")
        .await?
        .remove(0);
    let (t, id) = (timestamp(&first), id(&first));
    assert_eq!(id, id.to_lowercase());
    let plain = id.replace('-', "");
    for spelling in [
        id.to_uppercase(),
        plain.clone(),
        format!("%7B{id}%7D"),
        format!("%7b{plain}%7d"),
        format!("urn:uuid:{id}"),
    ] {
        let query = format!("timeout=1&category=a&since_time={t}&last_id={spelling}");
        assert_eq!(
            data(&nodes.events(&query).await?),
            [&json!(2)],
            "{spelling}"
        );
    }
    Ok(())
}

/// More than is read at once, and with pauses of every kind.
async fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(
    broker: Broker,
) -> Result<()> {
    let nodes = broker.start(&[("history_limit", "250")]).await?;
    let mut cursor = String::from("since_time=0");
    let mut published = 0;
    for burst in [1, 3, 40, 2, 20, 1] {
        for _ in 0..burst {
            published += 1;
            nodes.publish("a", &json!(published)).await?;
        }
        let read = nodes
            .events(&format!("timeout=5&category=a&{cursor}"))
            .await?;
        let expected: Vec<_> = (published - burst + 1..=published).collect();
        let numbers: Vec<_> = read
            .iter()
            .filter_map(|event| event["data"].as_i64())
            .collect();
        assert_eq!(numbers, expected);
        let last = read.last().context("no events")?;
        cursor = format!("since_time={}&last_id={}", timestamp(last), id(last));
    }
    nothing(
        &nodes
            .poll(&format!("timeout=1&category=a&{cursor}"))
            .await?,
    )?;
    Ok(())
}
