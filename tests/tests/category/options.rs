//! What an operator may set.

use super::*;
use std::time::Duration;

with_both_brokers! {
    a_full_buffer_drops_the_oldest,
    a_buffer_has_250_events_unless_something_else_is_said,
    old_events_are_gone,
}

async fn a_full_buffer_drops_the_oldest(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[("category_buffer_size", "3")]).await?;
    for number in 1..=5 {
        nodes.publish("a", &json!(number)).await?;
    }
    nodes.publish("b", &json!("b")).await?;
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&read), [&json!(3), &json!(4), &json!(5)]);
    assert_eq!(
        nodes
            .events("timeout=1&category=b&since_time=0")
            .await?
            .len(),
        1
    );
    Ok(())
}

async fn a_buffer_has_250_events_unless_something_else_is_said(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut connection = Connection::open(nodes.publisher.address()).await?;
    for number in 1..=260 {
        let answer = connection
            .ask(&publish_request("a", &json!(number)))
            .await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    let expected: Vec<_> = (11..=260).map(Value::from).collect();
    assert_eq!(data(&read), expected.iter().collect::<Vec<_>>());
    Ok(())
}

async fn old_events_are_gone(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[("category_ttl", "2")]).await?;
    nodes.publish("a", &json!(1)).await?;
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    let published = timestamp(&read[0]);
    assert_eventually!(now() >= published + 1_000, PATIENCE);
    if let Ok(read) = nodes.events("timeout=1&category=a&since_time=0").await {
        assert_eq!(data(&read), [&json!(1)]);
    }
    assert_eventually!(now() >= published + 2_000, PATIENCE);
    nothing(&nodes.poll("timeout=1&category=a&since_time=0").await?)?;
    // Others, that came later, are there.
    nodes.publish("a", &json!(2)).await?;
    let read = nodes.events("timeout=1&category=a&since_time=0").await?;
    assert_eq!(data(&read), [&json!(2)]);
    Ok(())
}

#[tokio::test]
async fn paths_are_the_operators_and_so_is_whether_there_are_any() -> Result<()> {
    let node = Node::builder()
        .flag("category_path", "/sub")
        .flag("category_publish_path", "/pub")
        .spawn()
        .await?;
    let request = Request::post("/pub").body(r#"{"category":"a","data":1}"#);
    assert_eq!(node.ask(&request).await?.status, 200);
    let answer = node.get("/sub?timeout=1&category=a&since_time=0").await?;
    assert_eq!(events(&answer)?.len(), 1);
    assert_eq!(node.get(EVENTS).await?.status, 404);
    assert_eq!(node.get(PUBLISH).await?.status, 404);

    let off = Node::builder().flag("category", "off").spawn().await?;
    assert_eq!(off.get(EVENTS).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_may_use_the_doors_if_the_operator_says_so() -> Result<()> {
    let node = Node::builder()
        .switch("category_cors")
        .flag("allowed_origins", "app.example")
        .spawn()
        .await?;
    let page = "https://app.example";
    for (path, method) in [(EVENTS, "GET"), (PUBLISH, "POST")] {
        let preflight = Request::new("OPTIONS", path)
            .header("Origin", page)
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", "authorization,x-mine");
        let answer = node.ask(&preflight).await?;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some(page));
        assert!(answer.lists("access-control-allow-methods", method));
        assert!(answer.lists("access-control-allow-headers", "x-mine"));
        let foreign = Request::new(method, path).header("Origin", "https://evil.example");
        let answer = node.ask(&foreign).await?;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let request = publish_request("a", &json!(1)).header("Origin", page);
    let answer = node.ask(&request).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(page));
    let request = poll_request("timeout=1&category=a&since_time=0").header("Origin", page);
    let answer = node.ask(&request).await?;
    assert_eq!(events(&answer)?.len(), 1);
    assert_eq!(answer.header("access-control-allow-origin"), Some(page));
    let mistake = node.ask(&poll_request("").header("Origin", page)).await?;
    assert_eq!(mistake.header("access-control-allow-origin"), Some(page));
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_the_start() -> Result<()> {
    for flags in [
        ["--category_max_timeout=0.5", ""],
        ["--category_buffer_size=0", ""],
        ["--category_user=ann", ""],
        ["--category_password=x", ""],
        ["--category_user=a:b", "--category_password=x"],
        ["--category_file=x", "--redis_url=redis://127.0.0.1:1"],
        ["--category_path=/lp", ""],
        ["--category=perhaps", ""],
    ] {
        let mut arguments = vec!["--ignore_config_path", "--port=0"];
        arguments.extend(flags.into_iter().filter(|flag| !flag.is_empty()));
        let output = tokio::task::spawn_blocking({
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            move || {
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                pollux_testkit::run(&arguments, &[])
            }
        });
        let output = tokio::time::timeout(Duration::from_secs(20), output).await???;
        assert_eq!(output.status.code(), Some(64), "{flags:?}");
    }
    Ok(())
}
