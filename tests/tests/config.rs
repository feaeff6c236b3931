//! Starting with good and bad options.

use anyhow::Result;
use pollux_testkit::{Node, Poller, run};
use std::process::Output;

/// `EX_USAGE`.
const USAGE: i32 = 64;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs with `--ignore_config_path`, so that no file of the machine takes part.
fn pollux(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    run(&[&["--ignore_config_path"], arguments].concat(), variables)
}

/// The options must be refused, with every one of these words on standard error.
fn refused(arguments: &[&str], variables: &[(&str, &str)], words: &[&str]) -> Result<()> {
    let output = pollux(arguments, variables)?;
    let said = stderr(&output);
    assert_eq!(
        output.status.code(),
        Some(USAGE),
        "{arguments:?} {variables:?}: {said}"
    );
    for word in words {
        assert!(
            said.contains(word),
            "{arguments:?} {variables:?}: no {word:?} in {said}"
        );
    }
    assert!(output.stdout.is_empty(), "{}", stdout(&output));
    Ok(())
}

#[test]
fn unknown_flags_are_refused_with_a_suggestion() -> Result<()> {
    refused(
        &["--poll_intervall=5"],
        &[],
        &["poll_intervall", "poll_interval"],
    )?;
    refused(&["--redis-ulr=redis://x"], &[], &["ulr", "redis_url"])?;
    refused(&["server"], &[], &["argument"])
}

#[test]
fn unknown_variables_of_ours_are_refused_with_a_suggestion() -> Result<()> {
    refused(
        &[],
        &[("POLLUX_POL_PATH", "/x")],
        &["POLLUX_POL_PATH", "POLLUX_POLL_PATH"],
    )
}

#[test]
fn bad_values_name_their_place_and_what_was_expected() -> Result<()> {
    refused(&["--port=99999"], &[], &["--port", "99999", "65535"])?;
    refused(
        &["--poll_interval=soon"],
        &[],
        &["--poll_interval", "soon", "seconds"],
    )?;
    refused(&[], &[("POLLUX_PORT", "x")], &["POLLUX_PORT", "x"])?;
    refused(
        &[],
        &[("ANYCABLE_POLL_INTERVAL", "-1")],
        &["ANYCABLE_POLL_INTERVAL"],
    )?;
    refused(
        &["--poll_overflow=explode"],
        &[],
        &["expire", "drop_oldest"],
    )?;
    refused(&["--poll_interval=0"], &[], &["poll_interval"])
}

#[test]
fn all_mistakes_are_told_at_once() -> Result<()> {
    refused(
        &["--port=x", "--poll_interval=y"],
        &[("POLLUX_HISTORY_LIMIT", "z")],
        &["--port", "--poll_interval", "POLLUX_HISTORY_LIMIT"],
    )
}

#[test]
fn beyond_this_machine_it_wants_to_know_who_may_come_in() -> Result<()> {
    refused(
        &["--host=0.0.0.0", "--port=0"],
        &[],
        &["host", "public", "secret"],
    )
}

#[test]
fn kubernetes_variables_are_not_options() -> Result<()> {
    let output = pollux(
        &["--print-config"],
        &[
            ("POLLUX_PORT", "tcp://10.0.0.1:8080"),
            ("POLLUX_SERVICE_HOST", "10.0.0.1"),
            ("POLLUX_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ],
    )?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("port = 8080"),
        "{}",
        stdout(&output)
    );
    Ok(())
}

#[test]
fn print_config_tells_every_value_and_its_origin_but_no_secret() -> Result<()> {
    let output = pollux(
        &["--print-config", "--poll-path=/polls", "--secret=hush"],
        &[
            ("ANYCABLE_POLL_INTERVAL", "7"),
            ("POLLUX_HISTORY_LIMIT", "5"),
            ("PORT", "81"),
        ],
    )?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let line = |name: &str| {
        let start = format!("{name} = ");
        text.lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line("poll_path").contains("\"/polls\""), "{text}");
    assert!(line("poll_path").contains("flag"), "{text}");
    assert!(
        line("poll_interval").contains("ANYCABLE_POLL_INTERVAL"),
        "{text}"
    );
    assert!(
        line("history_limit").contains("POLLUX_HISTORY_LIMIT"),
        "{text}"
    );
    assert!(
        line("port").contains("81") && line("port").contains("PORT"),
        "{text}"
    );
    assert!(line("history_ttl").contains("default"), "{text}");
    assert!(text.contains("secret") && !text.contains("hush"), "{text}");
    Ok(())
}

#[test]
fn help_and_version_are_for_people() -> Result<()> {
    let output = pollux(&["--help"], &[])?;
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    let words = [
        "--poll_interval",
        "POLLUX_POLL_INTERVAL",
        "15",
        "Long polling",
        "--redis_url",
    ];
    for word in words {
        assert!(help.contains(word), "no {word} in {help}");
    }
    let output = pollux(&["--version"], &[])?;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).starts_with("pollux "),
        "{}",
        stdout(&output)
    );
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_told() -> Result<()> {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = taken.local_addr()?.port().to_string();
    let output = pollux(&[&*format!("--port={port}")], &[])?;
    assert_eq!(
        output.status.code(),
        Some(1),
        "this is no mistake in the options"
    );
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains(&port), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_environment_configures_a_node() -> Result<()> {
    let node = Node::builder()
        .variable("ANYCABLE_POLL_PATH", "/anycable")
        .variable("POLLUX_POLL_PATH", "/ours")
        .variable("ANYCABLE_SOMETHING_NEW", "1")
        .spawn()
        .await?;
    let open = pollux_testkit::Request::post("/ours");
    let response = node.ask(&open).await?;
    Poller::from_open(node.address(), &response)?;
    assert_eq!(
        node.ask(&pollux_testkit::Request::post("/lp"))
            .await?
            .status,
        404
    );
    assert!(
        node.log().contains("ANYCABLE_SOMETHING_NEW"),
        "{}",
        node.log().text()
    );
    Ok(())
}

#[tokio::test]
async fn without_polls_there_is_no_poll_route() -> Result<()> {
    let node = Node::builder().flag("poll", "false").spawn().await?;
    let response = node.ask(&pollux_testkit::Request::post("/lp")).await?;
    assert_eq!(response.status, 404);
    Ok(())
}
