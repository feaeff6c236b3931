//! Every answer can be read by a page of another origin, or browsers would see network errors
//! where we meant to tell them something.

use anyhow::Result;
use pollux_testkit::{Node, Poller, Request, Response};

const ORIGIN: &str = "https://app.example";

fn assert_readable(response: &Response, what: &str) {
    let headers = &response.headers;
    let allowed = response.header("access-control-allow-origin");
    match response.header("access-control-allow-credentials") {
        // Browsers refuse the star together with credentials.
        Some(_) => assert_eq!(allowed, Some(ORIGIN), "{what}: {headers:?}"),
        None => assert!(matches!(allowed, Some(ORIGIN | "*")), "{what}: {headers:?}"),
    }
    assert_on_every_answer(response, what);
}

fn assert_on_every_answer(response: &Response, what: &str) {
    let headers = &response.headers;
    assert!(response.lists("vary", "Origin"), "{what}: {headers:?}");
    for name in ["X-Anycable-Poll-ID", "Pollux-Cursor", "Pollux-Gap"] {
        let exposed = response.lists("access-control-expose-headers", name);
        assert!(exposed, "{what} does not expose {name}: {headers:?}");
    }
}

/// One request for each kind of answer, with the status it must have.
fn every_kind(poller: &Poller) -> Vec<(&'static str, u16, Request)> {
    let stale = Request::post("/lp").header("X-Anycable-Poll-ID", "no.body");
    vec![
        ("open", 200, Request::post("/lp")),
        ("idle poll", 204, poller.request("")),
        ("stale id", 401, stale),
        (
            "too large",
            413,
            Request::post("/lp").body("x".repeat(70_000)),
        ),
        ("wrong method", 405, Request::get("/lp")),
    ]
}

async fn node() -> Result<Node> {
    Node::builder().flag("poll_interval", "0.2").spawn().await
}

#[tokio::test]
async fn every_kind_of_answer_can_be_read_across_origins() -> Result<()> {
    let node = node().await?;
    let poller = Poller::open(&node).await?;
    for (what, status, request) in every_kind(&poller) {
        let response = node.ask(&request.header("Origin", ORIGIN)).await?;
        assert_eq!(response.status, status, "{what}");
        assert_readable(&response, what);
    }
    Ok(())
}

#[tokio::test]
async fn without_an_origin_caches_are_still_told_what_depends_on_it() -> Result<()> {
    let node = node().await?;
    let poller = Poller::open(&node).await?;
    for (what, status, request) in every_kind(&poller) {
        let response = node.ask(&request).await?;
        assert_eq!(response.status, status, "{what}");
        assert_on_every_answer(&response, what);
    }
    Ok(())
}

#[tokio::test]
async fn an_unauthorized_open_can_be_read_too() -> Result<()> {
    let node = Node::builder()
        .flag("streams_secret", "x")
        .flag("broadcast_key", "k")
        .spawn()
        .await?;
    let request = Request::post("/lp").header("Origin", ORIGIN);
    let response = node.ask(&request).await?;
    assert_eq!(response.status, 401);
    assert_readable(&response, "unauthorized");
    Ok(())
}

#[tokio::test]
async fn a_preflight_allows_what_polls_send_and_is_kept_for_long() -> Result<()> {
    let node = node().await?;
    let names = [
        "x-anycable-poll-id",
        "x-anycable-poll-id,pollux-cursor,content-type",
    ];
    for name in names {
        let request = Request::new("OPTIONS", "/lp?jid=1&sid=2")
            .header("Origin", ORIGIN)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", name);
        let response = node.ask(&request).await?;
        assert!(matches!(response.status, 200 | 204), "{}", response.status);
        assert_readable(&response, "preflight");
        assert!(response.lists("access-control-allow-methods", "POST"));
        for header in ["X-Anycable-Poll-ID", "Content-Type", "Pollux-Cursor"] {
            assert!(
                response.lists("access-control-allow-headers", header),
                "{header}: {:?}",
                response.headers
            );
        }
        assert_eq!(response.header("access-control-max-age"), Some("7200"));
    }
    Ok(())
}

#[tokio::test]
async fn a_preflight_opens_no_session() -> Result<()> {
    let node = node().await?;
    let request = Request::new("OPTIONS", "/lp")
        .header("Origin", ORIGIN)
        .header("Access-Control-Request-Method", "POST");
    assert!(
        node.ask(&request)
            .await?
            .header("x-anycable-poll-id")
            .is_none()
    );
    assert_eq!(node.metric("sessions").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn origins_that_are_not_on_the_list_are_not_let_in() -> Result<()> {
    let node = Node::builder()
        .flag("allowed_origins", "app.example,*.good.example")
        .spawn()
        .await?;
    for origin in ["https://app.example", "https://a.good.example"] {
        let request = Request::post("/lp").header("Origin", origin);
        let response = node.ask(&request).await?;
        assert_eq!(response.status, 200, "{origin}");
        assert_eq!(response.header("access-control-allow-origin"), Some(origin));
    }
    for origin in ["https://evil.example", "https://app.example.evil", "null"] {
        let request = Request::post("/lp").header("Origin", origin);
        let response = node.ask(&request).await?;
        assert!(
            response.header("access-control-allow-origin").is_none(),
            "{origin}"
        );
        assert!(response.header("x-anycable-poll-id").is_none(), "{origin}");
        assert!(response.lists("vary", "Origin"), "{origin}");
    }
    Ok(())
}
