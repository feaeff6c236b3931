//! Publishing over HTTP.

use anyhow::Result;
use pollux_testkit::{Connection, Node, Poller, Request, frames};
use serde_json::{Value, json};

/// `qwerty`, the phrase `broadcast-cable`: the reference's own vector.
const DERIVED_KEY: &str = "42923a28b760e667fc92f7c6123bb07a282822b329dd2ef48e7aee7830d98485";

async fn node() -> Result<Node> {
    Node::builder().flag("poll_interval", "0.3").spawn().await
}

fn post(body: &str) -> Request {
    Request::post("/_broadcast").body(body)
}

fn bearer(key: &str) -> Request {
    post(&frames::publication("a", &json!(1))).header("Authorization", &format!("Bearer {key}"))
}

#[tokio::test]
async fn a_publication_is_accepted_and_delivered() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let response = node
        .broadcast(&frames::publication("a", &json!({"text": "Hi"})))
        .await?;
    assert_eq!((response.status, response.body.len()), (201, 0));
    assert_eq!(poller.messages(1).await?, [json!({"text": "Hi"})]);
    assert_eq!(node.metric("publications_total").await?, 1.0);
    assert_eq!(node.metric("broadcast_msg_total").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn an_array_is_delivered_in_order() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a", "b"]).await?;
    let batch: Vec<Value> = (0..100)
        .map(|number| {
            let stream = if number % 3 == 0 { "b" } else { "a" };
            json!({"stream": stream, "data": number.to_string()})
        })
        .collect();
    assert_eq!(
        node.broadcast(&Value::from(batch).to_string())
            .await?
            .status,
        201
    );
    let expected: Vec<Value> = (0..100).map(Value::from).collect();
    assert_eq!(poller.messages(100).await?, expected);
    Ok(())
}

#[tokio::test]
async fn data_is_json_in_a_string_or_json_or_text() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let cases = [
        (json!("{\"a\":1}"), json!({"a": 1})),
        (json!("\"text\""), json!("text")),
        (json!("not JSON"), json!("not JSON")),
        (json!(""), json!("")),
        (
            json!("<b>&\u{2028}\u{1F980}\n</b>"),
            json!("<b>&\u{2028}\u{1F980}\n</b>"),
        ),
        (json!({"a": 1}), json!({"a": 1})),
        (json!([1, "x"]), json!([1, "x"])),
        (json!(5), json!(5)),
        (json!(true), json!(true)),
    ];
    for (data, message) in cases {
        let body = json!({"stream": "a", "data": data}).to_string();
        assert_eq!(node.broadcast(&body).await?.status, 201, "{body}");
        assert_eq!(poller.messages(1).await?, [message], "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn numbers_and_key_order_come_through_as_they_were() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let data = r#"{"z":12345678901234567890123,"a":1.10,"m":1e400}"#;
    let body = json!({"stream": "a", "data": data}).to_string();
    assert_eq!(node.broadcast(&body).await?.status, 201);
    let response = poller.exchange("").await?;
    assert!(response.text()?.contains(data), "{}", response.text()?);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let cases = [
        ("", None, true),
        ("{\"stream\":\"a\",\n\"data\":}", None, true),
        ("5", None, false),
        ("[]", None, false),
        ("{}", Some("stream"), false),
        (r#"{"stream":"a"}"#, Some("data"), false),
        (r#"{"stream":5,"data":"1"}"#, Some("stream"), false),
        (r#"{"stream":"","data":"1"}"#, Some("stream"), false),
        (
            r#"[{"stream":"a","data":"1"},{"stream":"a"}]"#,
            Some("[1].data"),
            false,
        ),
        (r#"[{"stream":"a","data":"1"},7]"#, Some("[1]"), false),
        (
            r#"[{"stream":"a","data":"1"},{"command":"disconnect"}]"#,
            Some("[1].command"),
            false,
        ),
        (r#"{"command":"explode"}"#, Some("command"), false),
        (r#"{"command":"disconnect"}"#, Some("payload"), false),
        (
            r#"{"command":"disconnect","payload":{}}"#,
            Some("payload.identifier"),
            false,
        ),
    ];
    for (body, place, has_line) in cases {
        let response = node.broadcast(body).await?;
        assert_eq!(response.status, 422, "{body}");
        let problem: Value = serde_json::from_slice(&response.body)?;
        assert!(problem["reason"].is_string(), "{body}: {problem}");
        assert_eq!(problem["at"].as_str(), place, "{body}: {problem}");
        assert_eq!(problem["line"].is_u64(), has_line, "{body}: {problem}");
        assert_eq!(problem["column"].is_u64(), has_line, "{body}: {problem}");
    }
    assert_eq!(node.metric("failed_broadcast_msg_total").await?, 14.0);
    // A bad element takes its whole array with it.
    assert_eq!(poller.exchange("").await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_publication_that_is_too_large_is_refused() -> Result<()> {
    let node = Node::builder()
        .flag("max_publication_size", "1000")
        .spawn()
        .await?;
    let response = node
        .broadcast(&frames::publication("a", &json!("x".repeat(1_000))))
        .await?;
    assert_eq!(response.status, 413);
    assert_eq!(
        node.broadcast(&frames::publication("a", &json!(1)))
            .await?
            .status,
        201
    );
    Ok(())
}

#[tokio::test]
async fn the_excluded_client_gets_nothing() -> Result<()> {
    let node = node().await?;
    let mut author = Poller::subscribed(&node, &["a"]).await?;
    let mut other = Poller::subscribed(&node, &["a"]).await?;
    let meta = json!({"exclude_socket": author.sid(), "unheard": "of"});
    let body = json!({"stream": "a", "data": "1", "meta": meta}).to_string();
    assert_eq!(node.broadcast(&body).await?.status, 201);
    assert_eq!(other.messages(1).await?, [1]);
    assert_eq!(author.exchange("").await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_broadcast_type_becomes_the_type_of_the_frame() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let meta = json!({"broadcast_type": "presence", "transient": true});
    let body = json!({"stream": "a", "data": "{\"id\":\"42\"}", "meta": meta}).to_string();
    assert_eq!(node.broadcast(&body).await?.status, 201);
    let expected = json!({
        "type": "presence", "identifier": frames::public("a"), "message": {"id": "42"},
    });
    assert_eq!(poller.poll().await?.frames, [expected]);
    Ok(())
}

#[tokio::test]
async fn with_a_key_the_main_port_takes_it_and_nothing_else() -> Result<()> {
    for (flag, key) in [("broadcast_key", "k"), ("secret", "qwerty")] {
        let node = Node::builder()
            .switch("noauth")
            .flag(flag, key)
            .spawn()
            .await?;
        let right = if flag == "secret" { DERIVED_KEY } else { key };
        assert_eq!(node.ask(&bearer(right)).await?.status, 201, "{flag}");
        let keyless = post(&frames::publication("a", &json!(1)));
        let basic = keyless
            .clone()
            .header("Authorization", &format!("Basic {right}"));
        let wrong = [
            keyless,
            basic,
            bearer("wrong"),
            bearer(""),
            bearer(&format!("{right}x")),
        ];
        for request in wrong {
            assert_eq!(node.ask(&request).await?.status, 401, "{flag}: {request:?}");
        }
        assert_eq!(node.metric("publications_total").await?, 1.0);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_key_a_secured_node_takes_publications_on_a_port_of_their_own() -> Result<()> {
    let node = Node::builder()
        .switch("noauth")
        .flag("streams_secret", "x")
        .switch("public_streams")
        .own_broadcast_port()
        .spawn()
        .await?;
    assert_ne!(node.broadcast_address(), node.address());
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let publication = frames::publication("a", &json!(1));
    assert_eq!(node.ask(&post(&publication)).await?.status, 404);
    assert_eq!(node.broadcast(&publication).await?.status, 201);
    assert_eq!(poller.messages(1).await?, [1]);
    let poll = Connection::once(node.broadcast_address(), &Request::post("/lp")).await?;
    assert_eq!(poll.status, 404, "the port is for publishing only");
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_publish_without_a_key() -> Result<()> {
    // A development node listens on the machine of somebody who visits web pages.
    let node = node().await?;
    let body = frames::publication("a", &json!(1));
    let foreign = post(&body).header("Origin", "https://evil.example");
    let response = node.ask(&foreign).await?;
    assert_eq!(response.status, 403);
    assert_eq!(node.metric("publications_total").await?, 0.0);
    Ok(())
}
