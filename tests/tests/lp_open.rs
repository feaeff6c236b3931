//! Opening a poll session.

use anyhow::{Context, Result};
use pollux_testkit::{Connection, Node, Poller, Request, Response, frames};
use std::collections::BTreeSet;

fn poll_id(response: &Response) -> Result<&str> {
    response.header("x-anycable-poll-id").context("no poll id")
}

#[tokio::test]
async fn an_open_is_welcomed() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let response = node.ask(&Request::post("/lp")).await?;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/jsonl"));
    assert_eq!(response.cursor()?, Some(1));
    assert!(response.header("pollux-gap").is_none());
    let welcome = &response.frames()?[0];
    let sid = welcome["sid"].as_str().context("no sid")?;
    // The field order is the one that stock clients were tested with.
    let expected = format!("{{\"type\":\"welcome\",\"sid\":\"{sid}\"}}\n");
    assert_eq!(response.text()?, expected);
    Ok(())
}

#[tokio::test]
async fn poll_ids_are_a_route_and_a_secret_and_never_alike() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut ids = BTreeSet::new();
    let mut sids = BTreeSet::new();
    for _ in 0..20 {
        let response = node.ask(&Request::post("/lp")).await?;
        let id = poll_id(&response)?;
        let (route, secret) = id.split_once('.').context("no dot in the poll id")?;
        assert!(!route.is_empty());
        // 128 bits take at least 22 characters of base64.
        assert!(secret.len() >= 22, "{id}");
        let poller = Poller::from_open(node.address(), &response)?;
        assert!(
            !id.contains(poller.sid()),
            "the public id gives the secret away"
        );
        ids.insert(id.to_owned());
        sids.insert(poller.sid().to_owned());
    }
    assert_eq!((ids.len(), sids.len()), (20, 20));
    Ok(())
}

#[tokio::test]
async fn commands_in_an_open_are_answered_after_the_welcome() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let body = frames::subscribe(&frames::public("a")) + &frames::subscribe(&frames::public("b"));
    let response = node.ask(&Request::post("/lp").body(body)).await?;
    let frames = response.frames()?;
    let expected = ["welcome", "confirm_subscription", "confirm_subscription"];
    assert_eq!(frames::kinds(&frames), expected);
    assert_eq!(frames[1]["identifier"], frames::public("a"));
    assert_eq!(frames[2]["identifier"], frames::public("b"));
    assert_eq!(response.cursor()?, Some(3));

    let mut poller = Poller::from_open(node.address(), &response)?;
    node.publish("b", &1.into()).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn the_last_newline_of_the_commands_may_be_missing() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let body = frames::subscribe(&frames::public("a"));
    let response = node
        .ask(&Request::post("/lp").body(body.trim_end()))
        .await?;
    assert_eq!(
        frames::kinds(&response.frames()?),
        ["welcome", "confirm_subscription"]
    );
    Ok(())
}

#[tokio::test]
async fn a_sid_that_is_empty_or_unknown_opens_a_fresh_session() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for query in ["?sid=", "?sid=nobody-has-this", "?a=%zz&sid", "?"] {
        let response = node.ask(&Request::post(&format!("/lp{query}"))).await?;
        let poller = Poller::from_open(node.address(), &response)?;
        assert_ne!(poller.sid(), "nobody-has-this");
        assert!(response.frames()?[0].get("restored").is_none());
    }
    Ok(())
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut connection = Connection::open(node.address()).await?;
    let request = Request::post("/lp").body(frames::subscribe(&frames::public("a")));
    for byte in request.to_bytes() {
        connection.send_bytes(&[byte]).await?;
        tokio::task::yield_now().await;
    }
    let frames = connection.response().await?.frames()?;
    assert_eq!(frames::kinds(&frames), ["welcome", "confirm_subscription"]);
    Ok(())
}

#[tokio::test]
async fn a_body_may_come_in_chunks() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let line = frames::subscribe(&frames::public("a"));
    let (first, second) = line.split_at(10);
    let body = format!(
        "{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    let request = Request::post("/lp")
        .header("Transfer-Encoding", "chunked")
        .body(body);
    let frames = node.ask(&request).await?.frames()?;
    assert_eq!(frames::kinds(&frames), ["welcome", "confirm_subscription"]);
    Ok(())
}

#[tokio::test]
async fn pipelined_opens_are_two_sessions() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut connection = Connection::open(node.address()).await?;
    let one = Request::post("/lp").body(frames::subscribe(&frames::public("a")));
    let two = Request::post("/lp");
    let bytes = [one.to_bytes(), two.to_bytes()].concat();
    connection.send_bytes(&bytes).await?;
    let (one, two) = (connection.response().await?, connection.response().await?);
    assert_eq!(
        frames::kinds(&one.frames()?),
        ["welcome", "confirm_subscription"]
    );
    assert_eq!(frames::kinds(&two.frames()?), ["welcome"]);
    assert_ne!(poll_id(&one)?, poll_id(&two)?);
    Ok(())
}
