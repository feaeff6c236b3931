//! Prometheus asks two nodes, evaluates the alerts, and answers all that the dashboard wants to
//! know.

use super::{
    files::{json, read},
    observability::{ALERTS, DASHBOARD, expressions},
};
use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Cable, EventStream, Fault, Node, PATIENCE, Poller, Prometheus, Redis, Request,
    assert_eventually, frames, free_port,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Two nodes with the key `k` for publishers, and the Prometheus that asks them.
struct Cluster {
    redis: Redis,
    nodes: [Node; 2],
    prometheus: Prometheus,
}

/// What the nodes are called, as the shipped configuration makes it from their addresses: one
/// address has two names, so that there are two instances.
const INSTANCES: [&str; 2] = ["127.0.0.1", "localhost"];

/// As the variables are filled in by Grafana where all nodes are chosen, and where one is.
const CHOSEN: [&str; 2] = [r"(127\\.0\\.0\\.1|localhost)", "localhost"];

/// The alerts again, under other names and without their `for`.
const AT_ONCE: &str = "at-once.yml";

/// Replaces what must be there, once.
fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.matches(from).count() == 1, "{from:?} in {text}");
    Ok(text.replace(from, to))
}

/// The shipped configuration, for nodes and files of a test, and faster.
fn configuration(own: u16, [one, other]: &[Node; 2]) -> Result<String> {
    let [first, second] = INSTANCES;
    let targets = format!(
        r#"["{first}:{}", "{second}:{}"]"#,
        one.address().port(),
        other.address().port()
    );
    let mut text = read("deploy/prometheus/prometheus.yml")?;
    for (from, to) in [
        (r#"["node1:8080", "node2:8080", "node3:8080"]"#, &*targets),
        ("localhost:9090", &format!("127.0.0.1:{own}")),
        ("scrape_interval: 10s", "scrape_interval: 500ms"),
        ("evaluation_interval: 10s", "evaluation_interval: 500ms"),
        (
            "/etc/prometheus/alerts.yml",
            &format!("alerts.yml\n  - {AT_ONCE}"),
        ),
    ] {
        text = replaced(&text, from, to)?;
    }
    Ok(text)
}

fn at_once(alerts: &str) -> Result<String> {
    let lines = alerts
        .lines()
        .filter(|line| !line.trim().starts_with("for: "));
    let alerts = lines.collect::<Vec<_>>().join("\n") + "\n";
    let alerts = replaced(&alerts, "name: pollux", "name: at-once")?;
    Ok(alerts.replace("alert: Pollux", "alert: AtOnce"))
}

async fn cluster() -> Result<Cluster> {
    let redis = Redis::spawn().await?;
    let node = || {
        Node::builder()
            .redis(&redis)
            .flag("broadcast_key", "k")
            .publish_with_key("k")
            .switch("public")
            .flag("poll_flush_interval", "0")
            .flag("poll_interval", "0.3")
            .spawn_ready()
    };
    let nodes = [node().await?, node().await?];
    let port = free_port()?;
    let configuration = configuration(port, &nodes)?;
    let alerts = read(ALERTS)?;
    let files = [("alerts.yml", &*alerts), (AT_ONCE, &at_once(&alerts)?)];
    let prometheus = Prometheus::spawn(port, &configuration, &files).await?;
    // Of what happens before the first look nobody sees a rise.
    assert_eventually!(
        prometheus.query(r#"up{job="pollux"} == 1"#).await?.len() == 2,
        PATIENCE,
        "{}",
        prometheus.log().text()
    );
    Ok(Cluster {
        redis,
        nodes,
        prometheus,
    })
}

/// Something of everything that nodes do on a good day.
async fn traffic(cluster: &Cluster) -> Result<()> {
    let [one, other] = &cluster.nodes;
    let mut poller = Poller::subscribed(one, &["a"]).await?;
    let mut parked = poller.park().await?;
    let mut cable = Cable::open(other).await?;
    cable.subscribe(&frames::public("a")).await?;
    let mut events = EventStream::open(one, "/events?stream=a").await?;
    let mut there = Poller::subscribed(other, &["a"]).await?;

    other.publish("a", &json!(1)).await?;
    poller.understand(parked.answer().await?)?;
    cable.messages(1).await?;
    events.messages(1).await?;

    let body = frames::publication("a", &json!(2));
    cluster.redis.publish("__anycable__", &body).await?;
    cable.messages(1).await?;
    let entry = ["XADD", "__anycable__", "*", "payload", &*body];
    cluster.redis.cli(&entry).await?;
    cable.messages(1).await?;
    // The answer with these two breaks, and they come again.
    poller.fault(Fault::HalfThenReset).await?;
    poller.messages(2).await?;
    there.messages(3).await?;

    poller.poll_with("not json\n").await?;
    let stranger = Request::post("/_broadcast").body(&*body);
    ensure!(one.ask(&stranger).await?.status == 401, "it has no key");
    Ok(())
}

/// An expression of the dashboard as Grafana sends it.
fn filled_in(expression: &str, node: &str) -> Result<String> {
    let expression = expression
        .replace("$node", node)
        .replace("$__rate_interval", "1m")
        .replace("$__range", "30m")
        .replace("$__interval", "10s");
    ensure!(!expression.contains('$'), "{expression}");
    Ok(expression)
}

/// Whether a series of this expression has a value: what nothing divides by nothing is none.
async fn has_value(prometheus: &Prometheus, expression: &str) -> Result<bool> {
    let series = prometheus.query(expression).await?;
    let mut values = series.iter().map(|series| &series["value"][1]);
    Ok(values.any(|value| value.as_str().is_some_and(|value| value != "NaN")))
}

/// Labels of the alerts that have this name and state.
fn labels<'a>(alerts: &'a [Value], name: &str, state: &str) -> BTreeSet<&'a str> {
    let is_it = |alert: &&Value| alert["labels"]["alertname"] == name && alert["state"] == state;
    let alerts = alerts.iter().filter(is_it);
    alerts
        .filter_map(|alert| alert["labels"]["instance"].as_str())
        .collect()
}

async fn targets_are_up(prometheus: &Prometheus) -> Result<()> {
    let mut healths: Value;
    assert_eventually!(
        {
            let targets = prometheus.api("/api/v1/targets?state=active").await?;
            let targets = targets["activeTargets"].as_array().context("none")?;
            let health = |target: &Value| target["health"].clone();
            healths = targets.iter().map(health).collect();
            healths == json!(["up", "up", "up"])
        },
        PATIENCE,
        "{healths}"
    );
    Ok(())
}

async fn rules_are_silent(prometheus: &Prometheus) -> Result<()> {
    let data = prometheus.api("/api/v1/rules").await?;
    let mut count = 0;
    for group in data["groups"].as_array().context("no groups")? {
        for rule in group["rules"].as_array().context("no rules")? {
            assert_eq!(rule["health"], "ok", "{rule}");
            assert_eq!(rule["state"], "inactive", "{rule}");
            count += 1;
        }
    }
    let shipped = read(ALERTS)?.matches("- alert: ").count();
    assert_eq!(count, 2 * shipped, "shipped, and those at once");
    Ok(())
}

async fn dashboard_has_values(prometheus: &Prometheus) -> Result<()> {
    for node in CHOSEN {
        let mut lacking = expressions()?;
        assert_eventually!(
            {
                let mut still = Vec::new();
                for (title, expression) in lacking {
                    if !has_value(prometheus, &filled_in(&expression, node)?).await? {
                        still.push((title, expression));
                    }
                }
                lacking = still;
                lacking.is_empty()
            },
            PATIENCE,
            "no value with {node}: {lacking:#?}"
        );
    }
    Ok(())
}

/// What the dashboard's variables offer.
async fn variables_offer_the_nodes(prometheus: &Prometheus) -> Result<()> {
    let dashboard = json(DASHBOARD)?;
    let variables = dashboard["templating"]["list"].as_array();
    let variables = variables.context("no variables")?;
    assert_eq!(variables.len(), 1, "{variables:?}");
    for variable in variables {
        let query = variable["query"]["query"].as_str().context("no query")?;
        let asked = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once(", "));
        let (metric, label) = asked.with_context(|| query.to_owned())?;
        // This is what Grafana asks for.
        let target = format!("/api/v1/label/{label}/values?match%5B%5D={metric}");
        assert_eq!(prometheus.api(&target).await?, json!(INSTANCES));
    }
    Ok(())
}

#[tokio::test]
async fn prometheus_sees_a_cluster_that_is_well_and_one_without_redis() -> Result<()> {
    let mut cluster = cluster().await?;
    traffic(&cluster).await?;
    let prometheus = &cluster.prometheus;
    targets_are_up(prometheus).await?;
    dashboard_has_values(prometheus).await?;
    variables_offer_the_nodes(prometheus).await?;
    rules_are_silent(prometheus).await?;

    cluster.redis.stop();
    let mut alerts;
    assert_eventually!(
        {
            alerts = prometheus.alerts().await?;
            labels(&alerts, "PolluxBrokerDown", "pending") == BTreeSet::from(INSTANCES)
                && labels(&alerts, "AtOnceBrokerDown", "firing") == BTreeSet::from(INSTANCES)
        },
        PATIENCE,
        "{alerts:#?}"
    );
    let summary = |alert: &Value| alert["annotations"]["summary"].as_str().map(str::to_owned);
    let says =
        |node: &str| format!("{node} can't reach its broker: no publication comes in or goes out");
    let said: Vec<_> = alerts.iter().filter_map(summary).collect();
    assert!(said.contains(&says("localhost")), "{said:?}");

    cluster.redis.start().await?;
    assert_eventually!(
        {
            alerts = prometheus.alerts().await?;
            alerts.is_empty()
        },
        PATIENCE,
        "{alerts:#?}"
    );
    Ok(())
}
