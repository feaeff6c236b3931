//! Prometheus's own tool reads its files, and runs the tests of the alerts in `tests/prometheus`.

use super::{
    files::{path, read, yaml},
    observability::{ALERTS, alerts},
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TESTS: &str = "tests/prometheus";

/// How often the tests have rules evaluated: as the shipped configuration does.
const EVALUATED_EVERY: &str = "10s";

fn promtool(words: &[&str], files: &[impl AsRef<OsStr>]) -> Result<()> {
    let output = Command::new("promtool").args(words).args(files).output();
    let output = output.context("promtool does not run; install the package prometheus")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{words:?}\n{said}\n{complained}");
    Ok(())
}

/// The files with tests, as paths of the repository.
fn tests() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path(TESTS))? {
        let name = entry?.file_name();
        let name = name.to_str().context("no name")?;
        files.push(format!("{TESTS}/{name}"));
    }
    files.sort();
    Ok(files)
}

/// Seconds in a duration such as `1m30s`.
fn seconds(duration: &str) -> Result<u64> {
    let mut total = 0;
    let mut number = 0;
    for char in duration.chars() {
        match (char, char.to_digit(10)) {
            (_, Some(digit)) => number = number * 10 + u64::from(digit),
            ('h' | 'm' | 's', None) => {
                let unit = match char {
                    'h' => 3600,
                    'm' => 60,
                    _ => 1,
                };
                total += number * unit;
                number = 0;
            }
            _ => anyhow::bail!("what is {duration}?"),
        }
    }
    Ok(total)
}

/// When a test asks for an alert, and whether it then fires.
type Moments = BTreeMap<u64, bool>;

/// The moments of each test at which it asks for each alert.
fn asked() -> Result<Vec<(String, Moments)>> {
    let mut all = Vec::new();
    for file in tests()? {
        let file = yaml(&file)?;
        for test in file["tests"].as_array().context("no tests")? {
            let mut of_test: BTreeMap<String, Moments> = BTreeMap::new();
            for case in test["alert_rule_test"].as_array().into_iter().flatten() {
                let alert = case["alertname"].as_str().context("no alert")?;
                let at = seconds(case["eval_time"].as_str().context("no time")?)?;
                let fires = case["exp_alerts"].as_array();
                let fires = fires.is_some_and(|alerts| !alerts.is_empty());
                let moments = of_test.entry(alert.to_owned()).or_default();
                moments.insert(at, fires);
            }
            all.extend(of_test);
        }
    }
    Ok(all)
}

#[test]
fn the_rules_are_such() -> Result<()> {
    promtool(&["check", "rules"], &[path(ALERTS)])
}

#[test]
fn the_configuration_is_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("prometheus.yml");
    let rules = fs::canonicalize(path(ALERTS))?;
    let text = read("deploy/prometheus/prometheus.yml")?;
    let mounted = "/etc/prometheus/alerts.yml";
    ensure!(text.contains(mounted), "{text}");
    fs::write(
        &copy,
        text.replace(mounted, rules.to_str().context("path")?),
    )?;
    promtool(&["check", "config"], &[copy])
}

#[test]
fn alerts_fire_when_they_should_and_only_then() -> Result<()> {
    let files: Vec<PathBuf> = tests()?.iter().map(|file| path(file)).collect();
    ensure!(!files.is_empty(), "no tests");
    promtool(&["test", "rules"], &files)
}

#[test]
fn tests_are_of_the_shipped_files() -> Result<()> {
    let configuration = yaml("deploy/prometheus/prometheus.yml")?;
    assert_eq!(
        configuration["global"]["evaluation_interval"],
        EVALUATED_EVERY
    );
    let shipped = fs::canonicalize(path(ALERTS))?;
    for name in tests()? {
        let file = yaml(&name)?;
        let files = file["rule_files"].as_array().context("no rules")?;
        let [rules] = &files[..] else {
            anyhow::bail!("{name}: {files:?}");
        };
        let rules = Path::new(rules.as_str().context("no path")?);
        assert_eq!(fs::canonicalize(path(TESTS).join(rules))?, shipped);
        assert_eq!(file["evaluation_interval"], EVALUATED_EVERY, "{name}");
    }
    Ok(())
}

#[test]
fn each_alert_has_a_test_that_fires_and_one_that_is_silent() -> Result<()> {
    let evaluation = seconds(EVALUATED_EVERY)?;
    let (mut fire, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for (alert, moments) in asked()? {
        let first = moments.iter().find(|(_, fires)| **fires);
        match first {
            None => {
                silent.insert(alert);
            }
            Some((at, _)) => {
                let before = at.checked_sub(evaluation).context("at once")?;
                let was_silent = moments.get(&before) == Some(&false);
                assert!(was_silent, "{alert}: did it fire before {at} s?");
                fire.insert(alert);
            }
        }
    }
    let all: BTreeSet<String> = alerts()?.into_keys().collect();
    assert_eq!(fire, all, "alerts with a test in which they fire");
    assert_eq!(silent, all, "alerts with a test in which they are silent");
    Ok(())
}

#[test]
fn alerts_say_what_is_and_what_to_look_at() -> Result<()> {
    let file = yaml(ALERTS)?;
    for rule in file["groups"][0]["rules"].as_array().context("no rules")? {
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{rule}");
        let said = |name: &str| rule["annotations"][name].as_str().map(str::to_owned);
        let summary = said("summary").context("no summary")?;
        let description = said("description").context("no description")?;
        assert!(!summary.ends_with('.'), "{summary}");
        assert!(description.ends_with(['.', '?']), "{description}");
        // Who is woken wants to know which node it is, where it is one.
        let of_all = rule["expr"].as_str().is_some_and(|expression| {
            expression.contains("sum by (job") || expression.contains("absent(")
        });
        let names =
            summary.contains("$labels.instance") || description.contains("$labels.instance");
        assert_eq!(names, !of_all, "{rule}");
    }
    assert_eq!(file["groups"].as_array().map(Vec::len), Some(1), "groups");
    Ok(())
}

#[test]
fn durations_are_read() -> Result<()> {
    assert_eq!((seconds("1h2m3s")?, seconds("90s")?), (3723, 90));
    assert!(seconds("1d").is_err());
    Ok(())
}
