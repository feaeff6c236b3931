//! Prometheus and Grafana: what they ask for must exist.

use super::files::{json, nodes, read, service, texts, yaml};
use anyhow::{Context, Result};
use pollux_testkit::Node;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const ALERTS: &str = "deploy/prometheus/alerts.yml";
pub(crate) const DASHBOARD: &str = "deploy/grafana/dashboards/pollux.json";

/// Names of metrics in an expression of PromQL.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    expression
        .split(|char: char| !is_name(char))
        .filter(|word| word.starts_with("pollux_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// The expressions of the alerts, by name.
pub(crate) fn alerts() -> Result<BTreeMap<String, String>> {
    let file = yaml(ALERTS)?;
    let groups = file["groups"].as_array().context("no groups")?;
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let text = |rule: &Value, key: &str| {
        let text = rule[key].as_str().map(str::to_owned);
        text.with_context(|| format!("no {key} in {rule}"))
    };
    rules
        .map(|rule| {
            let summary = &rule["annotations"]["summary"];
            assert!(summary.is_string(), "{rule}");
            assert!(rule["labels"]["severity"].is_string(), "{rule}");
            Ok((text(rule, "alert")?, text(rule, "expr")?))
        })
        .collect()
}

fn panels() -> Result<Vec<Value>> {
    let dashboard = json(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    Ok(panels.clone())
}

/// The expressions of the dashboard, each with its panel's title.
pub(crate) fn expressions() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for panel in panels()? {
        let title = panel["title"].as_str().context("no title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("no expression")?;
            all.push((title.to_owned(), expression.to_owned()));
        }
    }
    Ok(all)
}

/// Whether round, curly and square brackets fit each other.
fn is_balanced(expression: &str) -> bool {
    let mut open = Vec::new();
    for char in expression.chars() {
        match char {
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' if open.pop() != Some(char) => return false,
            _ => {}
        }
    }
    open.is_empty()
}

#[tokio::test]
async fn every_metric_that_is_asked_for_exists() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let page = node.metrics().await?;
    let known: BTreeSet<_> = page
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut asked = 0;
    for (place, expression) in expressions()?.into_iter().chain(alerts()?) {
        assert!(is_balanced(&expression), "{place}: {expression}");
        let names = metrics(&expression);
        // Of these Prometheus knows by itself.
        let is_own = ["up{", "ALERTS{"]
            .iter()
            .any(|own| expression.contains(own));
        assert!(!names.is_empty() || is_own, "{place}: {expression}");
        for name in names {
            assert!(known.contains(name.as_str()), "{place}: there is no {name}");
            asked += 1;
        }
    }
    assert!(asked > 40, "only {asked}");
    Ok(())
}

#[test]
fn alerts_are_those_of_the_documents() -> Result<()> {
    let operate = read("docs/operate.md")?;
    let table = operate.split("## Alerts worth having").nth(1);
    let table = table.context("no table of alerts")?;
    let table = table.split("\n## ").next().unwrap_or_default();
    let documented = metrics(table);
    let rules: BTreeSet<_> = alerts()?
        .into_values()
        .flat_map(|expression| metrics(&expression))
        .collect();
    let missing: Vec<_> = documented.difference(&rules).collect();
    assert!(missing.is_empty(), "no alert asks for {missing:?}");
    Ok(())
}

#[test]
fn prometheus_asks_every_node() -> Result<()> {
    let file = yaml("deploy/prometheus/prometheus.yml")?;
    let jobs = file["scrape_configs"].as_array().context("no jobs")?;
    let job = jobs.iter().find(|job| job["job_name"] == "pollux");
    let job = job.context("no job for the nodes")?;
    let targets = texts(&job["static_configs"][0]["targets"]);
    let mut addresses = Vec::new();
    for (name, node) in nodes()? {
        let port = node["environment"]["POLLUX_PORT"].as_str();
        addresses.push(format!("{name}:{}", port.context("no port")?));
    }
    assert_eq!(targets, addresses);
    let prometheus = service("prometheus")?;
    for file in texts(&file["rule_files"]) {
        let mounted = texts(&prometheus["volumes"])
            .into_iter()
            .any(|volume| volume.contains(&format!(":{file}:")));
        assert!(mounted, "{file}");
    }
    Ok(())
}

#[test]
fn grafana_finds_its_sources_and_the_dashboard() -> Result<()> {
    let grafana = service("grafana")?;
    let volumes = texts(&grafana["volumes"]);
    let providers = yaml("deploy/grafana/provisioning/dashboards/pollux.yml")?;
    let folder = providers["providers"][0]["options"]["path"].as_str();
    let folder = folder.context("no folder")?;
    let mount = format!("./deploy/grafana/dashboards:{folder}:ro");
    assert!(volumes.contains(&mount.as_str()), "{volumes:?}");
    let home = &grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home, &format!("{folder}/pollux.json"));
    let sources = yaml("deploy/grafana/provisioning/datasources/pollux.yml")?;
    for source in sources["datasources"].as_array().context("no sources")? {
        let url = source["url"].as_str().context("no address")?;
        let host = url.strip_prefix("http://").context("no host")?;
        service(host.split(':').next().unwrap_or_default())?;
    }
    let uid = &sources["datasources"][0]["uid"];
    for panel in panels()? {
        if panel["type"] != "row" {
            assert_eq!(&panel["datasource"]["uid"], uid, "{}", panel["title"]);
        }
    }
    Ok(())
}

#[test]
fn panels_say_what_they_show_and_do_not_overlap() -> Result<()> {
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels()? {
        let title = panel["title"].as_str().context("no title")?;
        assert!(
            ids.insert(panel["id"].as_u64().context("no id")?),
            "{title}"
        );
        let place = |key: &str| panel["gridPos"][key].as_u64().context("no place");
        let (left, top) = (place("x")?, place("y")?);
        for x in left..left + place("w")? {
            assert!(x < 24, "{title} is too wide");
            for y in top..top + place("h")? {
                assert!(cells.insert((x, y)), "{title} covers another panel");
            }
        }
        if panel["type"] != "row" {
            let description = panel["description"].as_str();
            assert!(
                description.is_some_and(|text| text.ends_with('.')),
                "{title}"
            );
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(unit.is_string(), "{title}");
        }
    }
    Ok(())
}

#[test]
fn what_only_looks_is_not_started_unless_asked_for() -> Result<()> {
    for name in ["prometheus", "grafana", "jaeger"] {
        let profiles = &service(name)?["profiles"];
        assert_eq!(texts(profiles), ["observability"], "{name}");
    }
    for name in ["redis", "node1", "node2", "node3", "nginx"] {
        assert_eq!(service(name)?["profiles"], Value::Null, "{name}");
    }
    Ok(())
}

#[test]
fn a_slow_answer_leads_to_its_trace() -> Result<()> {
    let prometheus = service("prometheus")?;
    let flags = texts(&prometheus["command"]);
    assert!(
        flags.contains(&"--enable-feature=exemplar-storage"),
        "{flags:?}"
    );
    let sources = yaml("deploy/grafana/provisioning/datasources/pollux.yml")?;
    let sources = sources["datasources"].as_array().context("no sources")?;
    let of = |kind: &str| sources.iter().find(|source| source["type"] == kind);
    let jaeger = of("jaeger").context("no source of traces")?;
    let metrics = of("prometheus").context("no source of metrics")?;
    let destination = &metrics["jsonData"]["exemplarTraceIdDestinations"][0];
    assert_eq!(destination["name"], "trace_id");
    assert_eq!(destination["datasourceUid"], jaeger["uid"]);
    // Every expression that asks for them would draw the same dots again.
    let panels = panels()?;
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asking: Vec<_> = targets
        .filter(|target| target["exemplar"] == true)
        .filter_map(|target| target["expr"].as_str())
        .collect();
    assert_eq!(asking.len(), 1, "{asking:?}");
    assert!(
        asking[0].contains("publish_to_answer_seconds_bucket"),
        "{asking:?}"
    );
    Ok(())
}
