//! Publications to a category.

use super::*;

const MISSING: &str =
    "{\"error\": \"Invalid or missing 'category' arg, must be 1-1024 characters long.\"}";
const NO_DATA: &str = "{\"error\": \"Invalid or missing 'data' arg, must be non-nil.\"}";
const NOT_JSON: &str = "{\"error\": \"Invalid POST body json.\"}";

with_both_brokers! {
    mistakes_have_golongpolls_status_and_words,
    data_is_any_json_but_null,
    events_come_in_the_order_they_were_published,
}

async fn mistakes_have_golongpolls_status_and_words(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let node = &nodes.publisher;
    let too_long = json!({"category": "x".repeat(1_025), "data": 1}).to_string();
    for (body, status, expected) in [
        ("", 400, NOT_JSON),
        ("category=a&data=1", 400, NOT_JSON),
        ("[]", 400, NOT_JSON),
        (r#"{"category":1,"data":1}"#, 400, NOT_JSON),
        (r#"{"category":"a","data":1"#, 400, NOT_JSON),
        ("null", 400, MISSING),
        ("{}", 400, MISSING),
        (r#"{"data":1}"#, 400, MISSING),
        (r#"{"category":"","data":1}"#, 400, MISSING),
        (r#"{"category":null,"data":1}"#, 400, MISSING),
        (&too_long, 400, MISSING),
        (r#"{"category":"a"}"#, 400, NO_DATA),
        (r#"{"category":"a","data":null}"#, 400, NO_DATA),
        (r#"{"category":"a","data":1}"#, 200, "{\"success\": true}"),
        (
            r#" {"CATEGORY":"a","Data":2,"x":[]} and more"#,
            200,
            "{\"success\": true}",
        ),
    ] {
        let answer = node.ask(&Request::post(PUBLISH).body(body)).await?;
        assert_eq!(
            (answer.status, answer.text()?),
            (status, expected),
            "{body}"
        );
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !matches!(*name, "date" | "content-length"))
            .collect();
        let expected = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
        ];
        assert_eq!(headers, expected, "{body}");
    }
    for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
        let answer = node.ask(&Request::new(method, PUBLISH)).await?;
        let expected = "{\"error\": \"Invalid HTTP Method. Only POST allowed.\"}";
        assert_eq!((answer.status, answer.text()?), (405, expected), "{method}");
        assert_eq!(answer.header("allow"), None);
    }
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&read), [&json!(1), &json!(2)]);
    Ok(())
}

async fn data_is_any_json_but_null(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let values = [
        json!("text \"<é>&\u{2028}\u{1f600}"),
        json!(0),
        json!(-1.5),
        json!(false),
        json!(""),
        json!([]),
        json!({}),
        json!([1, [2, {"a": null}]]),
        json!({"b": 1, "a": {"c": "d"}}),
    ];
    for value in &values {
        nodes.publish("a", value).await?;
    }
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&read), values.iter().collect::<Vec<_>>());
    // What golongpoll's numbers can't hold comes through whole.
    let body = r#"{"category":"big","data":{"z":12345678901234567890, "a":1.0}}"#;
    nodes
        .publisher
        .ask(&Request::post(PUBLISH).body(body))
        .await?;
    let answer = nodes.poll("timeout=5&category=big&since_time=0").await?;
    assert!(
        answer
            .text()?
            .contains(r#""data":{"z":12345678901234567890,"a":1.0},"id""#)
    );
    Ok(())
}

async fn events_come_in_the_order_they_were_published(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let numbers: Vec<_> = (1..=60).map(Value::from).collect();
    for number in &numbers {
        nodes.publish("a", number).await?;
    }
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&read), numbers.iter().collect::<Vec<_>>());
    assert!(read.is_sorted_by_key(timestamp));
    let mut ids: Vec<_> = read.iter().map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 60);
    Ok(())
}

#[tokio::test]
async fn a_body_has_a_limit() -> Result<()> {
    let node = Node::builder()
        .flag("max_publication_size", "1000")
        .spawn()
        .await?;
    let data = Value::from("x".repeat(1_000));
    let answer = node.ask(&publish_request("a", &data)).await?;
    assert_eq!(answer.status, 413);
    assert!(answer.text()?.starts_with("{\"error\": \""));
    publish(&node, "a", &Value::from("x".repeat(900))).await
}
