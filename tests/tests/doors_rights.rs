//! The rights that docs/operate.md gives to users of Redis are enough, on one server and on a
//! cluster.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Node, PATIENCE, Poller, Redis, RedisClient, RedisCluster, Reply, assert_eventually, frames,
};
use serde_json::json;
use std::{net::SocketAddr, process::Command};

const INTAKE: &str = "__anycable__";
const PASSWORD: &str = "s3Krit";

/// The documented commands: for every server, and for those of a cluster.
fn documented() -> Result<[String; 2]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate.md");
    let page = std::fs::read_to_string(path)?;
    let (_, section) = page
        .split_once("\n### Users of Redis\n")
        .context("no section about users")?;
    let mut blocks = section
        .split("\n```")
        .filter_map(|block| block.strip_prefix("sh\n"));
    let mut next = || blocks.next().map(str::to_owned).context("no commands");
    Ok([next()?, next()?])
}

/// Runs shell commands in which `redis-cli` means this server.
fn run(commands: &str, server: SocketAddr) -> Result<()> {
    let here = format!("redis-cli -e -p {} ", server.port());
    let script = format!("set -e\n{}", commands.replace("redis-cli ", &here));
    let output = Command::new("sh").args(["-c", &script]).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

async fn client(server: SocketAddr, user: &str) -> Result<RedisClient> {
    let mut client = RedisClient::open(server).await?;
    client.command(&["AUTH", user, PASSWORD]).await?;
    Ok(client)
}

/// Everything a node and its backends do at these servers, of which the first given has the stream
/// `a` and the second the intake.
async fn all_doors_are_open(
    urls: &str,
    servers: &[SocketAddr],
    [of_stream, of_intake]: [SocketAddr; 2],
) -> Result<()> {
    let urls = urls.replace("redis://", &format!("redis://pollux:{PASSWORD}@"));
    let node = Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("redis_linger", "0.1")
        .flag("redis_check_interval", "0.2")
        .redis_url(&urls)
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut backend = client(of_stream, "backend").await?;
    let call = ["FCALL", "pollux_publish", "1", "pollux:{a}", "1"];
    assert_eq!(backend.command(&call).await?.integer(), Some(1));
    let transient = [&call[..4], &["2", r#"{"transient":true}"#]].concat();
    assert_eq!(backend.command(&transient).await?.integer(), Some(0));
    node.publish("a", &json!(3)).await?;
    assert_eq!(poller.messages(3).await?, [1, 2, 3]);

    let mut adder = client(of_intake, "adder").await?;
    for payload in ["poison", &frames::publication("a", &json!(4))] {
        adder
            .command(&["XADD", INTAKE, "*", "payload", payload])
            .await?;
    }
    assert_eq!(poller.messages(1).await?, [4]);
    assert_eventually!(node.metric("intake_poison_total").await? == 1.0, PATIENCE);
    let mut plain = client(of_stream, "plain").await?;
    let message = frames::publication("a", &json!(5));
    plain.command(&["PUBLISH", INTAKE, &message]).await?;
    assert_eq!(poller.messages(1).await?, [5]);

    let line = frames::history(&frames::public("a"), &json!({"since": 0}));
    let mut replayed = poller.poll_with(&line).await?.messages();
    while replayed.len() < 3 {
        replayed.extend(poller.poll().await?.messages());
    }
    assert_eq!(replayed, [1, 3, 4]);
    let _parked = poller
        .park_with(&frames::unsubscribe(&frames::public("a")))
        .await?;
    assert_eventually!(node.metric("redis_streams").await? == 0.0, PATIENCE);

    for user in [&mut backend, &mut adder, &mut plain] {
        assert!(user.command(&["GET", "pollux:{a}"]).await.is_err());
    }
    for server in servers {
        let mut admin = RedisClient::open(*server).await?;
        for entry in admin.command(&["ACL", "LOG"]).await?.items() {
            // Only what was tried just now.
            let is_get = |word: &Reply| word.text() == Some("get");
            assert!(entry.items().iter().any(is_get), "{entry:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn documented_rights_are_enough_for_one_server() -> Result<()> {
    let redis = Redis::spawn().await?;
    let [everywhere, _] = documented()?;
    run(&everywhere, redis.address())?;
    let server = redis.address();
    all_doors_are_open(&redis.url(), &[server], [server, server]).await
}

#[tokio::test]
async fn documented_rights_are_enough_for_a_cluster() -> Result<()> {
    let cluster = RedisCluster::spawn(3).await?;
    let servers = cluster.addresses();
    for commands in documented()? {
        for server in &servers {
            run(&commands, *server)?;
        }
    }
    let mut owners = [servers[0]; 2];
    for (owner, key) in owners.iter_mut().zip(["pollux:{a}", INTAKE]) {
        let slot = cluster.slot_of(key).await?;
        *owner = servers[cluster.owner(slot).await?];
    }
    all_doors_are_open(&cluster.urls(), &servers, owners).await
}
