//! The files, and how Compose reads them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path of the repository.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(relative)
}

pub(crate) fn read(relative: &str) -> Result<String> {
    fs::read_to_string(path(relative)).with_context(|| format!("reading {relative}"))
}

pub(crate) fn yaml(relative: &str) -> Result<Value> {
    serde_saphyr::from_str(&read(relative)?).with_context(|| format!("reading {relative}"))
}

pub(crate) fn json(relative: &str) -> Result<Value> {
    serde_json::from_str(&read(relative)?).with_context(|| format!("reading {relative}"))
}

/// The services of docker-compose.yml, by name.
pub(crate) fn services() -> Result<Vec<(String, Value)>> {
    let compose = yaml("docker-compose.yml")?;
    let services = compose["services"].as_object().context("no services")?;
    ensure!(services.len() >= 5, "{} services", services.len());
    Ok(services.clone().into_iter().collect())
}

/// Those that run our image.
pub(crate) fn nodes() -> Result<Vec<(String, Value)>> {
    let mut nodes = services()?;
    nodes.retain(|(_, service)| service["build"]["dockerfile"] == "deploy/Dockerfile");
    ensure!(nodes.len() == 3, "{} nodes", nodes.len());
    Ok(nodes)
}

pub(crate) fn service(name: &str) -> Result<Value> {
    let mut services = services()?.into_iter();
    let found = services.find(|(known, _)| known == name);
    Ok(found.with_context(|| format!("no service {name}"))?.1)
}

/// The texts of a list; what is absent has none.
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect()
}

/// The environment that a service gets where the operator has set these variables.
pub(crate) fn environment(service: &Value, set: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
    let environment = service["environment"].as_object().context("none")?;
    let text = |(name, value): (&String, &Value)| {
        let value = value
            .as_str()
            .with_context(|| format!("{name} is no text"))?;
        Ok((name.clone(), interpolate(value, set)?))
    };
    environment.iter().map(text).collect()
}

/// What Compose makes of `${NAME}`, `${NAME:-default}` and `${NAME:+instead}`, which may stand in
/// each other.
pub(crate) fn interpolate(text: &str, set: &[(&str, &str)]) -> Result<String> {
    let Some((before, rest)) = text.split_once("${") else {
        ensure!(!text.contains('$'), "a lone $ in {text:?}");
        return Ok(text.to_owned());
    };
    let (inside, after) = closing(rest).with_context(|| format!("no }} in {text:?}"))?;
    let length = inside
        .find(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .unwrap_or(inside.len());
    let (name, rule) = inside.split_at(length);
    let value = set.iter().find(|(known, _)| *known == name);
    let value = value.map_or("", |(_, value)| *value);
    let value = match (rule.get(..2), rule.get(2..)) {
        (Some(":-"), Some(default)) if value.is_empty() => interpolate(default, set)?,
        (Some(":+"), Some(instead)) if !value.is_empty() => interpolate(instead, set)?,
        (Some(":+"), _) => String::new(),
        (Some(":-"), _) | (None, _) if rule.len() != 1 => value.to_owned(),
        _ => bail!("what is {rule:?} in {text:?}?"),
    };
    Ok(format!("{before}{value}{}", interpolate(after, set)?))
}

/// What is before the brace that closes, and what is after it.
fn closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    let at = text.bytes().position(|byte| {
        depth += match byte {
            b'{' => 1,
            b'}' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[test]
fn variables_are_filled_in_as_compose_does() -> Result<()> {
    let set = [("A", "a"), ("EMPTY", "")];
    for (text, filled) in [
        ("plain", "plain"),
        ("<${A}>", "<a>"),
        ("${EMPTY:-x}${B:-y}${A:-z}", "xya"),
        ("${A:+x}${B:+y}", "x"),
        ("${B:-${A:+x}}/${EMPTY:-${B:+y}}", "x/"),
    ] {
        assert_eq!(interpolate(text, &set)?, filled, "{text}");
    }
    assert!(interpolate("${A", &set).is_err());
    assert!(interpolate("$A", &set).is_err());
    Ok(())
}
