//! Answers and event streams in gzip, for those who ask for it.

use anyhow::{Context, Result};
use flate2::{Decompress, FlushDecompress, read::GzDecoder};
use pollux_testkit::{Http2, Node, Poller, Request, Response};
use serde_json::{Value, json};
use std::{io::Read as _, process::Command};

fn long() -> Value {
    json!("long ".repeat(1_000))
}

/// One poll that gets this, with this header.
async fn polled(node: &Node, data: &Value, encodings: &str) -> Result<Response> {
    let poller = Poller::subscribed(node, &["a"]).await?.with_cursor();
    node.publish("a", data).await?;
    let request = poller.request("").header("Accept-Encoding", encodings);
    node.ask(&request).await
}

fn unpacked(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for encodings in ["gzip", "gzip, deflate, br, zstd", "br, *;q=0.1"] {
        let answer = polled(&node, &long(), encodings).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-encoding"),
            Some("gzip"),
            "{encodings}"
        );
        assert!(answer.lists("vary", "accept-encoding") && answer.lists("vary", "origin"));
        assert!(answer.body.len() < 500);
        let text = unpacked(&answer.body)?;
        let frame: Value = serde_json::from_str(text.trim_end())?;
        assert_eq!(frame["message"], long());
    }
    for encodings in ["identity", "gzip;q=0", "br", "gzip;q=0.5, identity"] {
        let answer = polled(&node, &long(), encodings).await?;
        assert_eq!(answer.header("content-encoding"), None, "{encodings}");
        assert!(answer.lists("vary", "accept-encoding"));
        assert_eq!(answer.frames()?[0]["message"], long());
    }
    let answer = polled(&node, &json!("short"), "gzip").await?;
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.lists("vary", "accept-encoding"));
    Ok(())
}

#[tokio::test]
async fn whoever_could_lose_what_it_unpacks_gets_it_plain() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let poller = Poller::subscribed(&node, &["a"]).await?;
    node.publish("a", &long()).await?;
    let request = poller.request("").header("Accept-Encoding", "gzip");
    let answer = node.ask(&request).await?;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.frames()?[0]["message"], long());
    Ok(())
}

#[tokio::test]
async fn the_size_is_an_option_and_zero_is_never() -> Result<()> {
    let size = "poll_compress_min_size";
    let always = Node::builder().flag(size, "1").spawn().await?;
    let text = json!("a".repeat(200));
    let answer = polled(&always, &text, "gzip").await?;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    // What gets no smaller stays as it is.
    let answer = polled(&always, &json!(1), "gzip").await?;
    assert_eq!(answer.status, 200);
    let never = Node::builder().flag(size, "0").spawn().await?;
    let answer = polled(&never, &long(), "gzip").await?;
    assert_eq!(answer.header("content-encoding"), None);
    assert!(!answer.lists("vary", "accept-encoding"));
    Ok(())
}

#[tokio::test]
async fn other_connections_get_the_same() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut client = Http2::open(node.address()).await?;
    let id = client.subscribed(&["a"]).await?;
    node.publish("a", &long()).await?;
    let headers = [
        ("x-anycable-poll-id", id.as_str()),
        ("accept-encoding", "gzip"),
        ("pollux-cursor", "2"),
    ];
    let poll = client.send("POST", "/lp", &headers, "").await?;
    let (_, head, body) = poll.answer().await?;
    assert_eq!(head["content-encoding"], "gzip");
    assert_eq!(head["content-length"], body.len().to_string());
    assert!(unpacked(&body)?.contains("long long"));

    // Several frames, and curl's way to ask.
    let poller = Poller::subscribed(&node, &["a"]).await?;
    for _ in 0..2 {
        node.publish("a", &long()).await?;
    }
    node.fanned_out(3).await?;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--compressed", "--data", ""])
        .args([
            "--header",
            &format!("X-Anycable-Poll-ID: {}", poller.poll_id()),
            "--header",
            &format!("Pollux-Cursor: {}", poller.cursor()),
        ])
        .arg(format!("{}/lp", node.url()));
    let output = tokio::task::spawn_blocking(move || curl.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text.lines().count(), 2, "{text}");
    Ok(())
}

/// Bytes of a stream, unpacked as they come.
struct Unpacking(Decompress);

impl Unpacking {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<String> {
        let mut out = Vec::new();
        loop {
            out.reserve(4_096);
            let before = self.0.total_in();
            self.0
                .decompress_vec(bytes, &mut out, FlushDecompress::Sync)?;
            let taken = usize::try_from(self.0.total_in() - before)?;
            bytes = bytes.get(taken..).context("more than all was taken")?;
            if bytes.is_empty() && out.len() < out.capacity() {
                return Ok(String::from_utf8(out)?);
            }
        }
    }
}

#[tokio::test]
async fn every_event_can_be_read_at_once() -> Result<()> {
    let mut node = Node::builder()
        .flag("sse_compress", "true")
        .flag("ping_interval", "1")
        .spawn()
        .await?;
    let mut client = Http2::open(node.address()).await?;
    let headers = [("accept-encoding", "gzip, deflate, br")];
    let mut events = client.send("GET", "/events?stream=a", &headers, "").await?;
    let (_, head) = events.head().await?;
    assert_eq!(head["content-encoding"], "gzip");
    assert_eq!(head["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(head["vary"], "Origin, Accept-Encoding");
    let mut unpacking = Unpacking(Decompress::new_gzip(15));
    let mut seen = String::new();
    let mut wait_for = async |what: &str| {
        while !seen.contains(what) {
            let bytes = events.bytes().await?.context("the stream ended")?;
            seen.push_str(&unpacking.feed(&bytes)?);
        }
        seen.clear();
        anyhow::Ok(())
    };
    wait_for("event: confirm_subscription").await?;
    for number in 0..20 {
        node.publish("a", &json!({ "number": number })).await?;
        wait_for(&format!("data: {{\"number\":{number}}}\n")).await?;
    }
    wait_for("event: ping").await?;
    let large = "0123456789abcdef".repeat(20_000);
    node.publish("a", &json!(large)).await?;
    wait_for("cdef\n").await?;
    node.ask_to_stop()?;
    wait_for("server_restart").await?;
    while let Some(bytes) = events.bytes().await? {
        unpacking.feed(&bytes)?;
    }
    Ok(())
}

#[tokio::test]
async fn event_streams_are_plain_unless_both_want_it() -> Result<()> {
    for (option, encodings) in [("false", "gzip"), ("true", "br"), ("true", "")] {
        let node = Node::builder().flag("sse_compress", option).spawn().await?;
        let mut client = Http2::open(node.address()).await?;
        let headers = [("accept-encoding", encodings)];
        let mut events = client.send("GET", "/events?stream=a", &headers, "").await?;
        let (_, head) = events.head().await?;
        assert!(
            !head.contains_key("content-encoding"),
            "{option} {encodings}"
        );
        let first = events.bytes().await?.context("no event")?;
        assert!(first.starts_with(b"retry: "));
    }
    let node = Node::builder().flag("sse_compress", "true").spawn().await?;
    let refused = Request::get("/events").header("Accept-Encoding", "gzip");
    let refused = node.ask(&refused).await?;
    assert_eq!(
        (refused.status, refused.header("content-encoding")),
        (400, None)
    );
    Ok(())
}
