//! `pollux nodes`, `pollux streams` and `pollux sessions`.

use anyhow::{Context as _, Result, ensure};
use pollux_testkit::{Node, PATIENCE, Poller, Redis, Request, assert_eventually, derived_key, run};
use serde_json::{Value, json};
use std::{process::Output, time::Duration};

/// A report is sent each 5 s, and a node is silent after three of them.
const SILENT_WITHIN: Duration = Duration::from_secs(40);

fn look(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    run(&[&["--ignore_config_path"], arguments].concat(), variables)
}

/// The lines it prints, each JSON.
fn rows(output: &Output) -> Result<Vec<Value>> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let text = std::str::from_utf8(&output.stdout)?;
    ensure!(!text.contains('\x1b'), "colours where there is no terminal");
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn row<'a>(rows: &'a [Value], field: &str, value: &str) -> Option<&'a Value> {
    rows.iter().find(|row| row[field] == value)
}

#[tokio::test]
async fn nodes_of_a_cluster_are_seen_and_missed() -> Result<()> {
    let redis = Redis::spawn().await?;
    let start = |name: &str| {
        // A session that nobody polls any more is not waited for.
        let node = Node::builder().redis(&redis).flag("shutdown_timeout", "1s");
        let node = node.flag("node_id", name);
        node.flag("poll_keepalive_timeout", "60s").spawn_ready()
    };
    let mut one = start("one").await?;
    let mut two = start("two").await?;
    let three = start("three").await?;
    let url = redis.url();
    let variables = [("POLLUX_REDIS_URL", url.as_str())];
    let nodes = || rows(&look(&["nodes"], &variables)?);

    let poller = Poller::subscribed(&one, &["chat/1"]).await?;
    assert_eventually!(nodes()?.len() == 3, PATIENCE);
    let seen = nodes()?;
    let of_one = row(&seen, "id", "one").context("no node one")?;
    assert_eq!(of_one["address"], one.address().to_string());
    assert!(of_one["version"].is_string() && of_one["uptime_seconds"].is_u64());
    let sessions = || -> Result<Value> {
        let rows = rows(&look(&["sessions"], &variables)?)?;
        Ok(row(&rows, "node", "one").context("no node one")?["sessions"].clone())
    };
    // Said with the next report.
    assert_eventually!(sessions()? == 1, SILENT_WITHIN);
    drop(poller);

    // One that is stopped says so; one that is killed falls silent.
    one.terminate(PATIENCE).await?;
    assert_eventually!(row(&nodes()?, "id", "one").is_none(), PATIENCE);
    two.kill()?;
    assert_eventually!(
        row(&nodes()?, "id", "two").is_some_and(|two| two["state"] == "silent"),
        SILENT_WITHIN
    );
    let seen = nodes()?;
    let of_two = row(&seen, "id", "two").context("no node two")?;
    assert!(of_two["seen_seconds_ago"].as_u64() >= Some(15), "{of_two}");
    let of_three = row(&seen, "id", "three").context("no node three")?;
    assert_eq!(of_three["state"], "ready");
    drop(three);
    Ok(())
}

#[tokio::test]
async fn streams_of_redis_are_listed_in_pieces() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder().redis(&redis).spawn_ready().await?;
    for stream in ["chat/1", "chat/1", "chat/2", "chat*", "other"] {
        let body = json!({"stream": stream, "data": "x"}).to_string();
        ensure!(node.broadcast(&body).await?.status == 201);
    }
    let _poller = Poller::subscribed(&node, &["chat/1"]).await?;
    let url = redis.url();
    let variables = [("POLLUX_REDIS_URL", url.as_str())];
    let all = rows(&look(&["streams"], &variables)?)?;
    assert_eq!(all.len(), 4, "{all:?}");
    let chat = row(&all, "stream", "chat/1").context("no chat/1")?;
    let expected = json!({"stream": "chat/1", "offset": 2, "history": 2, "nodes": 1});
    assert_eq!(*chat, expected);
    let some = rows(&look(&["streams", "--prefix", "chat/"], &variables)?)?;
    assert_eq!(some.len(), 2, "{some:?}");
    // What means something in Redis's patterns means nothing here.
    let star = rows(&look(&["streams", "--prefix", "chat*"], &variables)?)?;
    assert_eq!(star.len(), 1, "{star:?}");
    let output = look(&["streams", "--limit", "2"], &variables)?;
    assert_eq!(rows(&output)?.len(), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("more"));
    Ok(())
}

#[tokio::test]
async fn one_node_tells_what_it_holds_to_whoever_has_the_key() -> Result<()> {
    let node = Node::builder()
        .flag("secret", "s3Krit")
        .switch("noauth")
        .switch("public_streams")
        .spawn()
        .await?;
    let url = node.url();
    let poller = Poller::subscribed(&node, &["chat/1"]).await?;
    let key = derived_key("s3Krit", "api-cable");
    let secret = [("POLLUX_SECRET", "s3Krit")];
    let ask = |subject: &str| look(&[subject, "--url", &url], &secret);

    let nodes = rows(&ask("nodes")?)?;
    assert_eq!(nodes.len(), 1);
    assert_eq!(
        (&nodes[0]["sessions"], &nodes[0]["streams"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(nodes[0]["address"], node.address().to_string());
    let output = ask("sessions")?;
    let sessions = rows(&output)?;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0]["transport"], "lp");
    assert_eq!(sessions[0]["subscriptions"], 1);
    // With what is shown nobody can take a session over.
    let shown = String::from_utf8(output.stdout)?;
    assert!(!shown.contains(poller.sid()), "{shown}");
    assert!(!shown.contains(poller.poll_id()), "{shown}");
    let streams = rows(&ask("streams")?)?;
    assert_eq!(streams, [json!({"stream": "chat/1", "subscriptions": 1})]);
    let none = look(&["streams", "--url", &url, "--prefix", "x"], &secret)?;
    assert!(rows(&none)?.is_empty());
    let by_key = look(&["nodes", "--url", &url, "--key", &key], &[])?;
    assert_eq!(rows(&by_key)?.len(), 1);

    for (more, word) in [(&[][..], "api_secret"), (&["--key", "wr0ng"], "401")] {
        let arguments = [&["nodes", "--url", &url], more].concat();
        let output = look(&arguments, &[])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(word) && !said.contains("wr0ng"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_key_only_development_tells_and_only_this_machine() -> Result<()> {
    let public = Node::builder().switch("public").spawn().await?;
    let development = Node::builder().spawn().await?;
    for path in ["/admin/node", "/admin/sessions", "/admin/streams"] {
        assert_eq!(public.get(path).await?.status, 404, "{path}");
        assert_eq!(development.get(path).await?.status, 200, "{path}");
        // A page whose name was made to point here, and one of another origin.
        for (name, value) in [("Host", "evil.example"), ("Origin", "http://evil.example")] {
            let request = Request::get(path).header(name, value);
            assert_eq!(
                development.ask(&request).await?.status,
                403,
                "{path} {name}"
            );
        }
    }
    assert_eq!(development.get("/admin/nothing").await?.status, 404);
    assert_eq!(
        development.get("/admin/sessions?limit=x").await?.status,
        400
    );
    let post = Request::post("/admin/node");
    assert_eq!(development.ask(&post).await?.status, 405);
    Ok(())
}

#[test]
fn nobody_to_ask_is_a_failure() -> Result<()> {
    let port = pollux_testkit::free_port()?.to_string();
    for subject in ["nodes", "streams", "sessions"] {
        let output = look(&[subject], &[("POLLUX_PORT", &port)])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("refused"), "{said}");
        let redis = format!("redis://127.0.0.1:{port}");
        let output = look(&[subject], &[("POLLUX_REDIS_URL", &redis)])?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    Ok(())
}
