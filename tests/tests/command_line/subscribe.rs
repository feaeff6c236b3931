//! `pollux subscribe`.

use anyhow::{Context as _, Result, ensure};
use pollux_testkit::{
    Certificates, Node, PATIENCE, Redis, Tool, assert_eventually, free_port, signed_stream, token,
};
use serde_json::{Value, json};

const TRANSPORTS: [&str; 3] = ["lp", "ws", "sse"];

fn numbers(tool: &Tool) -> Vec<u64> {
    let lines = tool.printed().lines();
    let numbers = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["message"]["n"].as_u64()
    });
    numbers.collect()
}

async fn subscribed(node: &Node, number: f64) -> Result<()> {
    assert_eventually!(node.metric("subscriptions").await? >= number, PATIENCE);
    Ok(())
}

/// Publishes `{"n":number}`.
async fn publish(node: &Node, stream: &str, number: u64) -> Result<()> {
    let data = json!({"n": number}).to_string();
    let body = json!({"stream": stream, "data": data}).to_string();
    let answer = node.broadcast(&body).await?;
    ensure!(answer.status == 201, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn messages_come_over_each_transport() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let url = node.url();
    let mut tools = Vec::new();
    for transport in TRANSPORTS {
        tools.push(Tool::spawn(&[
            "subscribe",
            "--url",
            &url,
            "--transport",
            transport,
            "--count",
            "2",
            "--timeout",
            "30s",
            "chat/1",
            "chat/2",
        ])?);
    }
    subscribed(&node, 6.0).await?;
    publish(&node, "chat/1", 1).await?;
    publish(&node, "chat/2", 2).await?;
    for (tool, transport) in tools.iter_mut().zip(TRANSPORTS) {
        let status = tool.wait(PATIENCE).await?;
        assert_eq!(status.code(), Some(0), "{transport}");
        let printed = tool.printed().lines();
        let line: Value = serde_json::from_str(printed.first().context("nothing")?)?;
        assert_eq!(line["stream"], "chat/1", "{transport}");
        assert_eq!(line["message"], json!({"n": 1}), "{transport}");
        assert_eq!(line["offset"], 1, "{transport}");
        assert!(line["epoch"].is_string(), "{transport}");
        assert_eq!(numbers(tool), [1, 2], "{transport}");
        assert_eq!(tool.complaints().text(), "", "{transport}");
    }
    Ok(())
}

/// A node is killed, and later another one comes up in its place. What was published before,
/// meanwhile and after is printed once and in order, whichever way it comes.
#[tokio::test]
async fn a_restart_of_the_node_loses_nothing_and_doubles_nothing() -> Result<()> {
    let redis = Redis::spawn().await?;
    let port = free_port()?;
    let start = || Node::builder().redis(&redis).port(port).spawn_ready();
    let mut node = start().await?;
    let other = Node::builder().redis(&redis).spawn_ready().await?;
    let url = node.url();
    let mut tools = Vec::new();
    for transport in TRANSPORTS {
        let arguments = [
            "subscribe",
            "--url",
            &url,
            "--transport",
            transport,
            "chat/1",
        ];
        tools.push(Tool::spawn(&arguments)?);
    }
    subscribed(&node, 3.0).await?;
    let mut expected = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            let number = round * 100 + number;
            publish(&other, "chat/1", number).await?;
            expected.push(number);
            // In the middle of it, so that answers are on their way: killed once, stopped once.
            if number == 110 {
                node.kill()?;
            } else if number == 210 {
                node.ask_to_stop()?;
            }
        }
        if round > 0 {
            node.wait(PATIENCE).await?;
            node = start().await?;
        }
    }
    for (tool, transport) in tools.iter().zip(TRANSPORTS) {
        assert_eventually!(numbers(tool).len() >= expected.len(), PATIENCE);
        assert_eq!(numbers(tool), expected, "{transport}");
        let said = tool.complaints().text();
        assert!(said.contains("trying again"), "{transport}: {said}");
    }
    // They go on live, and none was told anything twice behind our back.
    publish(&other, "chat/1", 999).await?;
    expected.push(999);
    for (tool, transport) in tools.iter().zip(TRANSPORTS) {
        assert_eventually!(numbers(tool).last() == Some(&999), PATIENCE);
        assert_eq!(numbers(tool), expected, "{transport}");
    }
    Ok(())
}

/// Its stream was quiet when the node went, so that there is no position to go on from.
#[tokio::test]
async fn what_comes_first_while_the_node_is_away_is_not_lost() -> Result<()> {
    let redis = Redis::spawn().await?;
    let port = free_port()?;
    let start = || Node::builder().redis(&redis).port(port).spawn_ready();
    let mut node = start().await?;
    let other = Node::builder().redis(&redis).spawn_ready().await?;
    let tool = Tool::spawn(&["subscribe", "--url", &node.url(), "chat/1", "chat/2"])?;
    subscribed(&node, 2.0).await?;
    // It was told that both are open.
    publish(&other, "chat/2", 2).await?;
    assert_eventually!(numbers(&tool) == [2], PATIENCE);
    node.kill()?;
    publish(&other, "chat/1", 1).await?;
    node = start().await?;
    subscribed(&node, 2.0).await?;
    assert_eventually!(numbers(&tool) == [2, 1], PATIENCE);
    Ok(())
}

#[tokio::test]
async fn a_loss_that_can_not_be_repaired_is_said() -> Result<()> {
    let port = free_port()?;
    let start = || Node::builder().port(port).spawn();
    let mut node = start().await?;
    let tool = Tool::spawn(&["subscribe", "--url", &node.url(), "chat/1"])?;
    subscribed(&node, 1.0).await?;
    publish(&node, "chat/1", 1).await?;
    assert_eventually!(numbers(&tool) == [1], PATIENCE);
    // The memory broker's history ends with its process.
    node.kill()?;
    node = start().await?;
    assert_eventually!(tool.complaints().contains("messages may be lost"), PATIENCE);
    publish(&node, "chat/1", 2).await?;
    assert_eventually!(numbers(&tool) == [1, 2], PATIENCE);
    Ok(())
}

#[tokio::test]
async fn it_waits_for_a_node_that_is_yet_to_come() -> Result<()> {
    let port = free_port()?;
    let url = format!("http://127.0.0.1:{port}");
    let mut tool = Tool::spawn(&["subscribe", "--url", &url, "--count", "1", "--raw", "a"])?;
    assert_eventually!(tool.complaints().contains("trying again"), PATIENCE);
    let node = Node::builder().port(port).spawn().await?;
    subscribed(&node, 1.0).await?;
    node.broadcast(r#"{"stream":"a","data":"plain"}"#).await?;
    assert_eq!(tool.wait(PATIENCE).await?.code(), Some(0));
    assert_eq!(tool.printed().lines(), ["plain"]);
    Ok(())
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_or_nobody_reads() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let url = node.url();
    for signal in ["INT", "TERM"] {
        let mut tool = Tool::spawn(&["subscribe", "--url", &url, "chat/1"])?;
        subscribed(&node, 1.0).await?;
        tool.signal(signal)?;
        assert_eq!(tool.wait(PATIENCE).await?.code(), Some(0), "{signal}");
        assert_eventually!(node.metric("subscriptions").await? < 1.0, PATIENCE);
    }
    // Whoever reads has stopped to, and more waits than a pipe holds. Until the first message is
    // printed nobody asks for the second.
    let mut tool = Tool::spawn_unread(&["subscribe", "--url", &url, "chat/1"])?;
    subscribed(&node, 1.0).await?;
    let large = json!({"stream": "chat/1", "data": "x".repeat(200_000)}).to_string();
    ensure!(node.broadcast(&large).await?.status == 201);
    assert_eventually!(node.metric("data_sent_total").await? > 200_000.0, PATIENCE);
    publish(&node, "chat/1", 1).await?;
    assert_eventually!(node.metric("outbox_frames").await? >= 1.0, PATIENCE);
    tool.signal("TERM")?;
    assert_eq!(tool.wait(PATIENCE).await?.code(), Some(0));
    assert_eventually!(node.metric("subscriptions").await? < 1.0, PATIENCE);

    let mut tool = Tool::spawn_unread(&["subscribe", "--url", &url, "chat/1"])?;
    subscribed(&node, 1.0).await?;
    tool.stop_reading();
    publish(&node, "chat/1", 1).await?;
    assert_eq!(tool.wait(PATIENCE).await?.code(), Some(0));
    assert_eq!(tool.complaints().text(), "");
    Ok(())
}

#[tokio::test]
async fn out_of_time_is_told_apart_only_where_something_was_waited_for() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let url = node.url();
    let run = async |more: &[&str]| -> Result<Option<i32>> {
        let arguments = [&["subscribe", "--url", &url, "--timeout", "300ms"], more].concat();
        Ok(Tool::spawn(&arguments)?.wait(PATIENCE).await?.code())
    };
    assert_eq!(run(&["a", "--count", "1"]).await?, Some(2));
    assert_eq!(run(&["a"]).await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() -> Result<()> {
    let node = Node::builder().flag("secret", "s3Krit").spawn().await?;
    let url = node.url();
    let good = token("s3Krit", &json!({"ext": "{\"user\":1}"}));
    let bad = token("wrong", &json!({"ext": "{\"user\":1}"}));
    let gone = token("s3Krit", &json!({"ext": "{\"user\":1}", "exp": 1}));
    for transport in TRANSPORTS {
        for (more, words) in [
            (vec!["chat/1"], ["401", "--token"]),
            (vec!["--token", &bad, "chat/1"], ["401", "secret"]),
            (vec!["--token", &gone, "chat/1"], ["401", "time is over"]),
            (vec!["--token", &good, "chat/1"], ["", "--signed"]),
        ] {
            let arguments = [
                &["subscribe", "--url", &url, "--transport", transport],
                &*more,
            ]
            .concat();
            let mut tool = Tool::spawn(&arguments)?;
            let status = tool.wait(PATIENCE).await?;
            let said = tool.complaints().text();
            assert_eq!(status.code(), Some(1), "{transport} {more:?}: {said}");
            assert_eq!(tool.complaints().lines().len(), 1, "{said}");
            // A socket is told by a frame, without a status.
            let words = if transport == "ws" {
                &words[1..]
            } else {
                &words
            };
            for word in words {
                assert!(said.contains(word), "{transport} {more:?}: {said}");
            }
            assert!(!said.contains(&bad) && !said.contains(&good), "{said}");
        }
    }
    // With both it is let in.
    let name = signed_stream("s3Krit", "chat/1");
    let arguments = [
        "subscribe",
        "--url",
        &url,
        "--token",
        &good,
        "--signed",
        &name,
    ];
    let tool = Tool::spawn(&arguments)?;
    subscribed(&node, 1.0).await?;
    assert_eq!(tool.complaints().text(), "");
    Ok(())
}

#[tokio::test]
async fn certificates_are_looked_at() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let node = Node::builder()
        .flag(
            "ssl_cert",
            &certificates.server_certificate().to_string_lossy(),
        )
        .flag("ssl_key", &certificates.server_key().to_string_lossy())
        .spawn()
        .await?;
    let url = format!("https://localhost:{}", node.address().port());
    let authority = certificates.ca().to_string_lossy().into_owned();
    for transport in TRANSPORTS {
        let run = |more: &[&str]| {
            let start = ["subscribe", "--url", &url, "--transport", transport, "a"];
            let start = [&start[..], &["--timeout", "500ms"], more].concat();
            Tool::spawn(&start)
        };
        let mut stranger = run(&[])?;
        assert_eq!(
            stranger.wait(PATIENCE).await?.code(),
            Some(1),
            "{transport}"
        );
        assert!(stranger.complaints().contains("TLS failed"), "{transport}");
        for trust in [&["--insecure"][..], &["--ca", &authority]] {
            let mut friend = run(trust)?;
            assert_eq!(friend.wait(PATIENCE).await?.code(), Some(0), "{transport}");
            assert_eq!(friend.complaints().text(), "", "{transport}");
        }
    }
    Ok(())
}

#[test]
fn asking_wrongly_is_told() -> Result<()> {
    for (arguments, word) in [
        (&["subscribe"][..], "STREAM"),
        (&["subscribe", "--transport=ftp", "a"], "lp, ws, sse"),
        (&["subscribe", "--count=0", "a"], "more than 0"),
        (&["subscribe", "--identifier=x"], "JSON"),
        (&["subscribe", "--token_file=/none", "a"], "/none"),
        (
            &["subscribe", "--ca=/none", "--url=https://a", "a"],
            "/none",
        ),
        (&["subscribe", "--ca=x", "--insecure", "a"], "--insecure"),
    ] {
        let output = pollux_testkit::run(&[&["--ignore_config_path"], arguments].concat(), &[])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    Ok(())
}
