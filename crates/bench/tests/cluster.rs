//! The binary against real nodes on a real Redis: its figures must be of what really happened.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use pollux_testkit::{Node, Redis, RedisBuilder};
use serde_json::{Value, json};

/// Some nodes on one Redis.
struct Cluster {
    redis: Redis,
    nodes: Vec<Node>,
}

impl Cluster {
    async fn start(nodes: usize, redis: RedisBuilder) -> Result<Self> {
        let redis = redis.spawn().await?;
        let mut started = Vec::new();
        for _ in 0..nodes {
            let node = Node::builder()
                .redis(&redis)
                .flag("poll_flush_interval", "0")
                .spawn_ready()
                .await?;
            started.push(node);
        }
        Ok(Self {
            redis,
            nodes: started,
        })
    }

    /// Runs a command against all nodes.
    fn bench(&self, command: &str, more: &[&str]) -> Result<Output> {
        let mut arguments = vec![command.to_owned(), "--json".to_owned()];
        for node in &self.nodes {
            arguments.extend(["--node".to_owned(), node.url()]);
        }
        arguments.extend(["--redis".to_owned(), self.redis.url()]);
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        bench(&arguments)
    }

    /// The same, for a run that must count.
    fn report(&self, command: &str, more: &[&str]) -> Result<Value> {
        let quick = ["--settle", "50ms", "--warmup", "3", "--timeout", "20s"];
        let output = self.bench(command, &[&quick, more].concat())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let report = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{}\n{errors}{report}",
            output.status
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn bench(arguments: &[String]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_pollux-bench"))
        .args(arguments)
        .output()?)
}

/// The values at a path in each element of an array.
fn each<'a>(array: &'a Value, pointer: &str) -> Vec<&'a Value> {
    let elements = array.as_array().into_iter().flatten();
    elements.filter_map(|one| one.pointer(pointer)).collect()
}

#[tokio::test]
async fn latency_through_every_door_to_every_node() -> Result<()> {
    // With a password, because a connection that has to log in counts its replies differently.
    let cluster = Cluster::start(2, Redis::builder().password("secret")).await?;
    let report = cluster.report("latency", &["--rounds", "5"])?;
    assert_eq!(report["complete"], true);
    let doors = &report["doors"];
    assert_eq!(
        each(doors, "/door"),
        ["http", "fcall", "xadd", "publish"],
        "{report}"
    );
    for door in doors.as_array().context("no doors")? {
        assert_eq!(door["arrivals"]["deliveries"], 10, "{door}");
        assert_eq!(door["arrivals"]["accepted"], 5, "{door}");
        assert_eq!(each(&door["nodes"], "/deliveries"), [5, 5], "{door}");
        for figure in ["p50", "p90", "p99", "max"] {
            let latency = &door["arrivals"]["latency_us"][figure];
            assert!(latency.as_f64() > Some(0.0), "{figure} of {door}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn with_streams_of_their_own_each_message_reaches_one_node() -> Result<()> {
    let cluster = Cluster::start(2, Redis::builder()).await?;
    let more = ["--rounds", "6", "--stream", "own", "--door", "fcall,http"];
    let report = cluster.report("latency", &more)?;
    for door in report["doors"].as_array().context("no doors")? {
        assert_eq!(door["arrivals"]["deliveries"], 6, "{door}");
        assert_eq!(each(&door["nodes"], "/deliveries"), [3, 3], "{door}");
    }
    Ok(())
}

#[tokio::test]
async fn throughput_counts_what_arrived_and_what_it_cost() -> Result<()> {
    let cluster = Cluster::start(2, Redis::builder()).await?;
    let more = ["-m", "200", "--streams", "4", "--in-flight", "8"];
    let report = cluster.report("throughput", &more)?;
    let doors = &report["flood"]["doors"];
    assert_eq!(each(doors, "/door"), ["http", "fcall", "xadd", "publish"]);
    for door in doors.as_array().context("no doors")? {
        assert_eq!(door["arrivals"]["deliveries"], 400, "{door}");
        assert_eq!(door["arrivals"]["duplicates"], 0, "{door}");
        assert_eq!(
            each(&door["nodes"], "/messages_from_redis"),
            [200, 200],
            "{door}"
        );
        assert!(door["publications_per_second"].as_f64() > Some(0.0));
        // Found by their ports.
        assert_eq!(
            each(&door["cpu"], "/name"),
            ["redis", "node1", "node2", "generator"]
        );
        let pids: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| json!([node.pid()]))
            .collect();
        let found = each(&door["cpu"], "/processes");
        assert_eq!(found[1..3], [&pids[0], &pids[1]], "{door}");
    }
    Ok(())
}

#[tokio::test]
async fn interest_shows_who_gets_what() -> Result<()> {
    let cluster = Cluster::start(3, Redis::builder()).await?;
    let pid = std::process::id();
    let own = format!("node3={pid}");
    let more = [
        "-m",
        "60",
        "--streams",
        "6",
        "--rate",
        "600",
        "--bystanders",
        "1",
        "--pid",
        &own,
    ];
    let report = cluster.report("interest", &more)?;
    let doors = &report["flood"]["doors"];
    assert_eq!(each(doors, "/door"), ["fcall", "publish"]);
    let [interest, firehose] = [&doors[0], &doors[1]];
    assert_eq!(
        each(&interest["nodes"], "/messages_from_redis"),
        [30, 30, 0]
    );
    assert_eq!(
        each(&firehose["nodes"], "/messages_from_redis"),
        [60, 60, 60]
    );
    for door in [interest, firehose] {
        assert_eq!(each(&door["nodes"], "/deliveries"), [30, 30, 0], "{door}");
        assert_eq!(each(&door["cpu"], "/processes")[3], &json!([pid]));
    }
    Ok(())
}

#[tokio::test]
async fn trouble_is_said_in_a_sentence() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder().spawn_ready().await?;
    let cluster = Cluster {
        redis,
        nodes: vec![node],
    };
    for (more, expected) in [
        // Nobody has loaded the function, because the node has another broker.
        (&["--door", "fcall"][..], "is one connected to this Redis?"),
        (
            &["--door", "xadd", "--dialect", "nchan"],
            "Nchan has no door",
        ),
        (
            &["--redis", "http://127.0.0.1:1"],
            "cannot be used multiple times",
        ),
        (
            &["--publish-at", "http://127.0.0.1:1"],
            "nothing listens at",
        ),
        // Accepted, but it reaches nobody.
        (&["--door", "publish", "--timeout", "300ms"], ""),
    ] {
        let output = cluster.bench("latency", &[&["--settle", "10ms"], more].concat())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let code = if expected.is_empty() { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{more:?}: {errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    let address = cluster.nodes[0].url();
    let arguments = ["latency", "--node", &address, "--door", "fcall"].map(str::to_owned);
    let errors = bench(&arguments)?.stderr;
    assert!(String::from_utf8_lossy(&errors).contains("needs --redis"));
    Ok(())
}
