//! `pollux health`, which is what a container's health check runs.

use anyhow::Result;
use pollux_testkit::{Node, PATIENCE, Redis, assert_eventually, free_port, run};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Output,
    thread,
};

/// `EX_USAGE`.
const USAGE: i32 = 64;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `pollux … health …`, without a file of the machine.
fn health(before: &[&str], after: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    run(
        &[&["--ignore_config_path"], before, &["health"], after].concat(),
        variables,
    )
}

/// It must say this line, on standard output if all is well and else on standard error, and
/// nothing more.
fn says(output: &Output, code: i32, line: &str) {
    let (said, silent) = match code {
        0 => (stdout(output), stderr(output)),
        _ => (stderr(output), stdout(output)),
    };
    assert_eq!((said.trim_end(), silent.as_str()), (line, ""));
    assert_eq!(output.status.code(), Some(code), "{line}");
}

/// A server that sends this to whoever asks, and closes or keeps the connection.
fn stranger(answer: &'static [u8], closes: bool) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        let mut request = [0; 1024];
        // The health check may have given up; what it says then is what counts.
        let _asked = stream.read(&mut request);
        let _answered = stream.write_all(answer);
        if !closes {
            // Until the other side has gone.
            let _rest = stream.read(&mut request);
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_node_that_lives_is_found_by_the_options_it_was_started_with() -> Result<()> {
    let node = Node::builder()
        .flag("health_path", "/alive")
        .flag("ready_path", "/willing")
        .spawn()
        .await?;
    let port = node.address().port().to_string();
    let variables = [
        ("POLLUX_PORT", port.as_str()),
        ("POLLUX_HEALTH_PATH", "/alive"),
        ("ANYCABLE_READY_PATH", "/willing"),
    ];
    let line = |path: &str, word: &str| format!("http://127.0.0.1:{port}{path}: 200 OK, {word}");
    says(&health(&[], &[], &variables)?, 0, &line("/alive", "ok"));
    let ready = health(&[], &["--ready"], &variables)?;
    says(&ready, 0, &line("/willing", "ready"));
    // What the node was told by flags is no business of who asks.
    let everywhere = [&variables[..], &[("POLLUX_HOST", "0.0.0.0")]].concat();
    says(&health(&[], &[], &everywhere)?, 0, &line("/alive", "ok"));
    let flags = [&*format!("--port={port}"), "--health-path=/alive"];
    says(&health(&flags, &[], &[])?, 0, &line("/alive", "ok"));
    let url = format!("--url={}/willing", node.url());
    says(&health(&[], &[&url], &[])?, 0, &line("/willing", "ready"));
    let missing = format!("--url={}/nowhere", node.url());
    let output = health(&[], &[&missing], &[])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere: 404"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn alive_and_ready_are_two_questions() -> Result<()> {
    let mut redis = Redis::spawn().await?;
    let node = Node::builder().redis(&redis).spawn().await?;
    let port = node.address().port().to_string();
    let variables = [("POLLUX_PORT", port.as_str())];
    assert_eventually!(node.get("/ready").await?.status == 200, PATIENCE);
    redis.stop();
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    let unready = format!(
        "http://127.0.0.1:{port}/ready: 503 Service Unavailable, the broker can't be reached"
    );
    says(&health(&[], &["--ready"], &variables)?, 1, &unready);
    let alive = format!("http://127.0.0.1:{port}/health: 200 OK, ok");
    says(&health(&[], &[], &variables)?, 0, &alive);
    Ok(())
}

#[test]
fn whoever_is_not_there_is_not_well() -> Result<()> {
    let port = free_port()?.to_string();
    let output = health(&[], &[], &[("PORT", &port)])?;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let start = format!("http://127.0.0.1:{port}/health: ");
    assert!(
        said.starts_with(&start) && said.lines().count() == 1,
        "{said}"
    );
    assert!(said.contains("refused"), "{said}");
    Ok(())
}

#[test]
fn silence_ends_with_the_timeout() -> Result<()> {
    for answer in [
        b"".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    ] {
        let url = format!("http://{}/health", stranger(answer, false)?);
        let output = health(&[], &["--url", &url, "--timeout=0.2"], &[])?;
        says(&output, 1, &format!("{url}: no answer within 0.2 s"));
    }
    Ok(())
}

#[test]
fn strangers_are_not_taken_for_a_node() -> Result<()> {
    static ENDLESS: [u8; 100_000] = [b'x'; 100_000];
    for (answer, complaint) in [
        (b"".as_slice(), "closed before"),
        (b"HTTP/1.1 200 O", "closed before"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (&ENDLESS, "does not speak HTTP"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "302 Found"),
    ] {
        let url = format!("http://{}/health", stranger(answer, true)?);
        let output = health(&[], &["--url", &url], &[])?;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(complaint), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    Ok(())
}

#[test]
fn asking_wrongly_is_told_apart_from_a_bad_answer() -> Result<()> {
    for (before, after, variables, word) in [
        (vec![], vec!["--urll=x"], vec![], "--url?"),
        (vec![], vec!["--url=127.0.0.1:8080"], vec![], "--url"),
        (vec![], vec!["--url=https://a/health"], vec![], "TLS"),
        (vec![], vec!["--timeout=soon"], vec![], "--timeout"),
        (vec![], vec!["--timeout=0"], vec![], "more than 0"),
        (vec![], vec!["now"], vec![], "argument"),
        (vec!["--port=0"], vec![], vec![], "--url"),
        (vec![], vec![], vec![("POLLUX_PORT", "x")], "POLLUX_PORT"),
        (vec![], vec![], vec![("POLLUX_HOTS", "x")], "POLLUX_HOST"),
    ] {
        let output = health(&before, &after, &variables)?;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(USAGE), "{after:?}: {said}");
        assert!(said.contains(word), "{after:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    Ok(())
}

#[test]
fn help_teaches_it() -> Result<()> {
    let help = run(&["--help"], &[])?;
    assert!(stdout(&help).contains("pollux health"), "{help:?}");
    let help = health(&[], &["--help"], &[])?;
    assert_eq!(help.status.code(), Some(0));
    for word in ["--url", "--ready", "--timeout", "exits with 0"] {
        assert!(stdout(&help).contains(word), "no {word} in {help:?}");
    }
    Ok(())
}
