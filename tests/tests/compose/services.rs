//! The services of docker-compose.yml.

use super::files::{environment, interpolate, nodes, path, read, service, services, texts, yaml};
use anyhow::{Context, Result};
use pollux_testkit::run;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

/// What the binary would run with in a service, where the operator has set these variables.
fn print_config(service: &Value, set: &[(&str, &str)]) -> Result<String> {
    let environment = environment(service, set)?;
    let variables: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let file = mounted(service, "/etc/pollux/pollux.toml")?;
    let file = path(&file).display().to_string();
    let output = run(&["--print-config", "--config-path", &file], &variables)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{variables:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The value of an option in what was printed.
pub(super) fn option(printed: &str, name: &str) -> Result<String> {
    let start = format!("{name} = ");
    let line = printed.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.with_context(|| format!("no {name} in {printed}"))?;
    let value = line.rsplit_once("  # ").map_or(line, |(value, _)| value);
    Ok(value.trim_matches('"').to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').context("no seconds")?;
    Ok(Duration::from_secs_f64(number.parse()?))
}

/// The networks of a service, which may have settings there.
fn networks(service: &Value) -> Vec<&str> {
    match service["networks"].as_object() {
        Some(networks) => networks.keys().map(String::as_str).collect(),
        None => texts(&service["networks"]),
    }
}

/// The file of the repository that a service sees here.
fn mounted(service: &Value, place: &str) -> Result<String> {
    let found = texts(&service["volumes"]).into_iter().find_map(|volume| {
        let (source, rest) = volume.split_once(':')?;
        (rest.split(':').next() == Some(place)).then_some(source)
    });
    let source = found.with_context(|| format!("nothing is mounted at {place}"))?;
    Ok(source.trim_start_matches("./").to_owned())
}

#[test]
fn every_container_can_do_little() -> Result<()> {
    for (name, service) in services()? {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(service["cap_add"], Value::Null, "{name}");
        assert_eq!(service["privileged"], Value::Null, "{name}");
        let options = texts(&service["security_opt"]);
        assert_eq!(options, ["no-new-privileges:true"], "{name}");
        let user = service["user"].as_str().context("no user")?;
        let (user, group) = user.split_once(':').context("no group")?;
        assert!(user.parse::<u32>()? > 0, "{name} runs as root");
        group.parse::<u32>()?;
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn images_are_pinned() -> Result<()> {
    for (name, service) in services()? {
        let image = service["image"].as_str().context("no image")?;
        let (_, tag) = image.rsplit_once(':').context("no tag")?;
        let is_ours = service["build"].is_object();
        let is_version = tag.contains(|char: char| char.is_ascii_digit());
        assert!(is_ours || is_version, "{name} runs {image}");
    }
    Ok(())
}

#[test]
fn only_this_machine_reaches_the_ports() -> Result<()> {
    for (name, service) in services()? {
        for port in texts(&service["ports"]) {
            let port = interpolate(port, &[])?;
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    for name in ["redis", "node1", "node2", "node3"] {
        assert_eq!(service(name)?["ports"], Value::Null, "{name}");
    }
    Ok(())
}

#[test]
fn what_is_named_is_there() -> Result<()> {
    let compose = yaml("docker-compose.yml")?;
    let services = services()?;
    for (name, service) in &services {
        for network in networks(service) {
            let known = compose["networks"].get(network).is_some();
            assert!(known, "{name}: no network {network}");
        }
        for dependency in service["depends_on"].as_object().into_iter().flatten() {
            let condition = &dependency.1["condition"];
            assert_eq!(condition, "service_healthy", "{name}");
            let other = services.iter().find(|(known, _)| known == dependency.0);
            let (_, other) = other.with_context(|| format!("no service {}", dependency.0))?;
            assert!(other["healthcheck"]["test"].is_array(), "{name}");
        }
        for volume in texts(&service["volumes"]) {
            let parts: Vec<_> = volume.split(':').collect();
            match parts.as_slice() {
                [file, _, "ro"] if file.starts_with("./") => {
                    assert!(path(file).exists(), "{name}: {file} is not there");
                }
                [data, _] => {
                    let known = compose["volumes"].get(data).is_some();
                    assert!(known, "{name}: no volume {data}");
                }
                _ => panic!("{name}: {volume} can be written to"),
            }
        }
    }
    Ok(())
}

#[test]
fn the_nodes_and_redis_are_on_a_network_of_their_own() -> Result<()> {
    let compose = yaml("docker-compose.yml")?;
    assert_eq!(compose["networks"]["inner"]["internal"], true);
    for name in ["redis", "node1", "node2", "node3"] {
        assert_eq!(networks(&service(name)?), ["inner"], "{name}");
    }
    Ok(())
}

#[test]
fn nodes_differ_in_their_names_only() -> Result<()> {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut alike = BTreeSet::new();
    for (name, mut node) in nodes()? {
        let environment = node["environment"].as_object_mut().context("none")?;
        let id = environment.remove("POLLUX_NODE_ID").context("no name")?;
        assert_eq!(id, name.as_str());
        names.insert(name);
        let address = node["networks"]["inner"]["ipv4_address"].take();
        addresses.insert(interpolate(address.as_str().context("no address")?, &[])?);
        alike.insert(node.to_string());
    }
    assert_eq!((names.len(), alike.len()), (3, 1), "{alike:#?}");
    // nginx asks for them only once.
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    Ok(())
}

#[test]
fn nodes_are_configured_by_options_that_exist() -> Result<()> {
    let (_, node) = nodes()?.swap_remove(0);
    let printed = print_config(&node, &[])?;
    assert_eq!(option(&printed, "public")?, "true");
    assert_eq!(option(&printed, "host")?, "0.0.0.0");
    assert_eq!(option(&printed, "redis_url")?, "redis://redis:6379");
    let nginx = service("nginx")?;
    let proxy = &nginx["networks"]["inner"]["ipv4_address"];
    let proxy = interpolate(proxy.as_str().context("no address")?, &[])?;
    let trusted = option(&printed, "trusted_proxies")?;
    assert!(trusted.contains(&proxy), "{trusted} is not {proxy}");
    let secret = [("POLLUX_SECRET", "hush"), ("POLLUX_NOAUTH", "true")];
    let printed = print_config(&node, &secret)?;
    assert_eq!(option(&printed, "public")?, "false", "a secret closes it");
    assert_eq!(option(&printed, "noauth")?, "true");
    let both = [("POLLUX_SECRET", "hush"), ("POLLUX_PUBLIC", "true")];
    let printed = print_config(&node, &both)?;
    assert_eq!(option(&printed, "public")?, "true", "who insists gets it");
    Ok(())
}

#[test]
fn nodes_have_the_time_and_the_files_they_need() -> Result<()> {
    for (name, node) in nodes()? {
        let printed = print_config(&node, &[])?;
        let drain = seconds(&option(&printed, "shutdown_timeout")?)?
            + seconds(&option(&printed, "shutdown_delay")?)?;
        let grace = node["stop_grace_period"].as_str().context("none")?;
        assert!(seconds(grace)? > drain, "{name} is killed within {drain:?}");
        let connections: u64 = option(&printed, "max_connections")?.parse()?;
        let files = node["ulimits"]["nofile"].as_str().context("no limit")?;
        let files: u64 = interpolate(files, &[])?.parse()?;
        assert!(files >= connections + 1_000, "{name} may open {files}");
    }
    Ok(())
}

#[test]
fn nginx_knows_every_node_and_the_templates_variables() -> Result<()> {
    let nginx = service("nginx")?;
    let environment = environment(&nginx, &[])?;
    let servers = environment
        .iter()
        .find(|(name, _)| name == "POLLUX_SERVERS");
    let servers = &servers.context("no servers")?.1;
    for (name, node) in nodes()? {
        let port = &node["environment"]["POLLUX_PORT"];
        let address = format!("{name}:{}", port.as_str().context("no port")?);
        assert!(servers.contains(&address), "no {address} in {servers}");
        assert!(nginx["depends_on"].get(&name).is_some(), "{name}");
    }
    let template = mounted(&nginx, "/etc/nginx/templates/pollux.conf.template")?;
    let template = read(&template)?;
    for line in template.lines() {
        if let Some(file) = line.trim().strip_prefix("include ") {
            mounted(
                &nginx,
                &format!("/etc/nginx/{}", file.trim_end_matches(';')),
            )?;
        }
    }
    let mut variables = template.split("${").skip(1);
    assert!(variables.clone().count() > 0);
    let unknown = variables.find(|rest| {
        let name = rest.split('}').next().unwrap_or_default();
        // nginx writes some variables of its own like this.
        name.starts_with("POLLUX_") && environment.iter().all(|(known, _)| known != name)
    });
    assert_eq!(unknown, None, "nobody sets it");
    Ok(())
}
