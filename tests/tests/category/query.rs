//! What a poll may ask, and how it is told that it may not.

use super::*;

const CATEGORY: &str = "Invalid subscription category, must be 1-1024 characters long.";

fn error(text: &str) -> String {
    format!("{{\"error\": \"{text}\"}}")
}

#[tokio::test]
async fn mistakes_are_answered_with_200_and_golongpolls_words() -> Result<()> {
    let node = Node::builder()
        .flag("category_max_timeout", "60")
        .spawn()
        .await?;
    let timeout = error("Invalid or missing 'timeout' arg.  Must be 1-60.");
    let category = error(CATEGORY);
    let since = error("Invalid 'since_time' arg.");
    let alone = error("Must provide 'since_time' arg when providing 'last_id'.");
    let last = error("Param 'last_id' was not a valid UUID.");
    let too_long = "x".repeat(1_025);
    let too_wide = "%C3%A9".repeat(513);
    for (query, expected) in [
        ("", &timeout),
        ("category=a", &timeout),
        ("timeout=0&category=a", &timeout),
        ("timeout=61&category=a", &timeout),
        ("timeout=abc&category=a", &timeout),
        ("timeout=1.5&category=a", &timeout),
        ("timeout=5;x&category=a", &timeout),
        ("timeout=5", &category),
        ("timeout=5&category=", &category),
        ("timeout=5&category=%zz&since_time=x", &category),
        (&format!("timeout=5&category={too_long}"), &category),
        (&format!("timeout=5&category={too_wide}"), &category),
        ("timeout=5&category=a&since_time=1e3&last_id=x", &since),
        (
            "timeout=5&category=a&since_time=9223372036854775808",
            &since,
        ),
        ("timeout=5&category=a&last_id=x", &alone),
        ("timeout=5&category=a&since_time=&last_id=x", &alone),
        ("timeout=5&category=a&since_time=1&last_id=x", &last),
    ] {
        let answer = poll(&node, query).await?;
        assert_eq!(
            (answer.status, answer.text()?),
            (200, expected.as_str()),
            "{query}"
        );
    }
    let bare = node.get(EVENTS).await?;
    assert_eq!(bare.text()?, timeout);
    let default = Node::builder().spawn().await?;
    let answer = poll(&default, "timeout=111&category=a").await?;
    assert_eq!(
        answer.text()?,
        error("Invalid or missing 'timeout' arg.  Must be 1-110.")
    );
    Ok(())
}

#[tokio::test]
async fn the_bounds_themselves_are_fine() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let long = "x".repeat(1_024);
    let wide = "é".repeat(512);
    publish(&node, &long, &json!(1)).await?;
    publish(&node, &wide, &json!(2)).await?;
    for (query, expected) in [
        (format!("timeout=110&category={long}&since_time=0"), 1),
        (
            format!("timeout=01&category={}&since_time=-1", escaped(&wide)),
            2,
        ),
        (
            format!("timeout=%2B1&category={long}&since_time=%2B0&last_id="),
            1,
        ),
        // The first one counts.
        (
            format!("timeout=1&timeout=x&category={long}&since_time=0&since_time=y"),
            1,
        ),
    ] {
        assert_eq!(
            data(&events(&poll(&node, &query).await?)?),
            [&json!(expected)],
            "{query}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_has_the_same_headers_and_none_of_cors() -> Result<()> {
    let node = Node::builder()
        .flag("allowed_origins", "app.example")
        .spawn()
        .await?;
    publish(&node, "a", &json!(1)).await?;
    for query in [
        "",
        "timeout=1&category=a&since_time=0",
        "timeout=1&category=b",
    ] {
        // Pages of any origin get what golongpoll gives them.
        let answer = node
            .ask(&poll_request(query).header("Origin", "https://evil.example"))
            .await?;
        assert_eq!(answer.status, 200);
        let expected = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
            ("expires", "0"),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value), "{query}");
        }
        let others = answer.headers.iter().map(|(name, _)| name.as_str());
        let others: Vec<_> = others
            .filter(|name| expected.iter().all(|(known, _)| known != name))
            .collect();
        assert_eq!(others, ["content-length", "date"], "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn any_method_polls() -> Result<()> {
    let node = Node::builder().spawn().await?;
    publish(&node, "a", &json!(1)).await?;
    let target = format!("{EVENTS}?timeout=1&category=a&since_time=0");
    for method in ["GET", "POST", "PUT", "OPTIONS", "DELETE"] {
        // A body says nothing.
        let request = Request::new(method, &target).body("timeout=x");
        let answer = node.ask(&request).await?;
        assert_eq!(data(&events(&answer)?), [&json!(1)], "{method}");
    }
    let mut head = Connection::open(node.address()).await?;
    head.send(&Request::new("HEAD", &target)).await?;
    assert_eq!(head.bytes(15).await?, b"HTTP/1.1 200 OK");
    // As a browser asks before it asks.
    let preflight = node.ask(&Request::new("OPTIONS", EVENTS)).await?;
    assert_eq!(preflight.status, 200);
    assert!(preflight.text()?.starts_with("{\"error\": "));
    Ok(())
}
