//! `pollux publish`.

use anyhow::Result;
use pollux_testkit::{
    Log, Node, PATIENCE, Redis, Tool, assert_eventually, derived_key, free_port, run,
};
use std::process::Output;

fn publish(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let arguments = [&["--ignore_config_path"], arguments].concat();
    run(&arguments, variables)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(log: &Log) -> Vec<String> {
    log.lines()
}

async fn subscriber(node: &Node, arguments: &[&str]) -> Result<Tool> {
    let url = node.url();
    let tool = Tool::spawn(&[&["subscribe", "--url", &url, "--raw"], arguments].concat())?;
    assert_eventually!(node.metric("subscriptions").await? >= 1.0, PATIENCE);
    Ok(tool)
}

#[tokio::test]
async fn what_is_published_arrives_and_nothing_is_printed() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let url = node.url();
    let tool = subscriber(&node, &["chat/1"]).await?;
    for data in [r#"{"a":1}"#, "plain text", "-5", "ü"] {
        let output = publish(&["publish", "--url", &url, "chat/1", data], &[])?;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    // After two dashes everything is text.
    publish(
        &["publish", "--url", &url, "chat/1", "--", "--with-dashes"],
        &[],
    )?;
    let expected = [r#"{"a":1}"#, "plain text", "-5", "ü", "--with-dashes"];
    assert_eventually!(lines(tool.printed()) == expected, PATIENCE);
    let verbose = publish(&["publish", "-v", "--url", &url, "chat/1", "x"], &[])?;
    assert!(said(&verbose).contains("201"), "{verbose:?}");
    Ok(())
}

#[tokio::test]
async fn lines_are_published_as_they_come() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let url = node.url();
    let listener = subscriber(&node, &["logs"]).await?;
    let mut publisher = Tool::spawn(&["publish", "--url", &url, "--lines", "logs"])?;
    publisher.say("one\n")?;
    assert_eventually!(lines(listener.printed()) == ["one"], PATIENCE);
    publisher.say("two\r\nthree")?;
    publisher.close_input();
    assert!(publisher.wait(PATIENCE).await?.success());
    assert_eventually!(
        lines(listener.printed()) == ["one", "two", "three"],
        PATIENCE
    );

    // Without --lines all of it is one message.
    let mut publisher = Tool::spawn(&["publish", "--url", &url, "logs"])?;
    publisher.say("[1,\n2]\n")?;
    publisher.close_input();
    assert!(publisher.wait(PATIENCE).await?.success());
    let all = ["one", "two", "three", "[1, 2]"];
    assert_eventually!(lines(listener.printed()) == all, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn the_key_follows_from_the_configuration_or_is_given() -> Result<()> {
    let node = Node::builder().flag("secret", "s3Krit").spawn().await?;
    let url = node.url();
    let at = |more: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["publish", "--url", &url], more, &["chat/1", "x"]].concat();
        publish(&arguments, variables)
    };
    let by_secret = at(&[], &[("POLLUX_SECRET", "s3Krit")])?;
    assert_eq!(by_secret.status.code(), Some(0), "{by_secret:?}");
    let key = derived_key("s3Krit", "broadcast-cable");
    let by_key = at(&["--key", &key], &[])?;
    assert_eq!(by_key.status.code(), Some(0), "{by_key:?}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n"))?;
    let file = file.to_string_lossy().into_owned();
    let by_file = at(&["--key-file", &file], &[])?;
    assert_eq!(by_file.status.code(), Some(0), "{by_file:?}");

    let without = at(&[], &[])?;
    assert_eq!(without.status.code(), Some(1));
    let message = said(&without);
    assert!(
        message.contains("401") && message.contains("broadcast_key"),
        "{message}"
    );
    let wrong = at(&["--key", "wr0ng"], &[])?;
    assert_eq!(wrong.status.code(), Some(1));
    let message = said(&wrong);
    assert!(message.contains("not that of the node"), "{message}");
    assert!(!message.contains("wr0ng"), "{message}");
    Ok(())
}

#[tokio::test]
async fn redis_takes_publications_of_whoever_has_the_nodes_configuration() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder().redis(&redis).spawn_ready().await?;
    let listener = subscriber(&node, &["chat/1"]).await?;
    let url = redis.url();
    let variables = [("POLLUX_REDIS_URL", url.as_str())];
    let output = publish(&["publish", "chat/1", "by XADD"], &variables)?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eventually!(lines(listener.printed()) == ["by XADD"], PATIENCE);

    let channel = [variables[0], ("POLLUX_REDISX_STREAM", "")];
    let output = publish(&["publish", "--redis", "chat/1", "by PUBLISH"], &channel)?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eventually!(
        lines(listener.printed()) == ["by XADD", "by PUBLISH"],
        PATIENCE
    );

    // Where nobody listens it is lost, and that is said.
    let nobody = [channel[0], channel[1], ("POLLUX_REDIS_CHANNEL", "nobody")];
    let output = publish(&["publish", "chat/1", "x"], &nobody)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("nobody listens"), "{output:?}");
    Ok(())
}

#[test]
fn what_does_not_work_is_said_with_an_exit_code() -> Result<()> {
    let nowhere = format!("http://127.0.0.1:{}", free_port()?);
    for (arguments, code, word) in [
        (&["publish", "--url", &nowhere, "a", "b"][..], 1, "refused"),
        (&["publish", "--redis", "a", "b"], 64, "redis_url"),
        (&["publish", "--url", "localhost:1", "a", "b"], 64, "--url"),
        (
            &["publish", "--url", "http://u:p@h", "a", "b"],
            64,
            "--header",
        ),
        (&["publish", "", "b"], 64, "name"),
        (&["publish"], 64, "STREAM"),
        (&["publish", "--lines", "a", "b"], 64, "--lines"),
        (&["publish", "--timeout=0", "a", "b"], 64, "more than 0"),
        (&["publish", "--header", "x", "a", "b"], 64, "NAME:VALUE"),
        (&["publish", "--keyfile=x", "a", "b"], 64, "--key_file?"),
        (&["--port=0", "publish", "a", "b"], 64, "--url"),
    ] {
        let output = publish(arguments, &[])?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    Ok(())
}
