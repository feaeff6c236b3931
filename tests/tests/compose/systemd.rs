//! The unit of systemd, the kernel's settings, and the Debian package that brings them.

use super::{
    files::{path, read},
    services::{option, seconds},
};
use anyhow::{Context, Result};
use pollux_testkit::run;
use std::time::Duration;

const UNIT: &str = "deploy/systemd/pollux.service";
const SYSCTL: &str = "deploy/systemd/60-pollux.conf";

/// The values that a file of `name=value` lines has for a name, in their order.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let named = pairs.filter(|(known, _)| known.trim() == name);
    named.map(|(_, value)| value.trim()).collect()
}

fn value<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let found = values(text, name);
    found.last().copied().with_context(|| format!("no {name}"))
}

#[test]
fn the_unit_gives_the_time_and_the_files_that_the_defaults_need() -> Result<()> {
    let unit = read(UNIT)?;
    let output = run(&["--print-config", "--ignore-config-path"], &[])?;
    let printed = String::from_utf8(output.stdout)?;
    let drain = seconds(&option(&printed, "shutdown_timeout")?)?
        + seconds(&option(&printed, "shutdown_delay")?)?;
    let grace = Duration::from_secs(value(&unit, "TimeoutStopSec")?.parse()?);
    assert!(grace >= drain + Duration::from_secs(10), "{grace:?}");
    let connections: u64 = option(&printed, "max_connections")?.parse()?;
    let files: u64 = value(&unit, "LimitNOFILE")?.parse()?;
    assert_eq!(files, connections + 1_000);
    Ok(())
}

#[test]
fn what_the_unit_says_of_the_program_is_so() -> Result<()> {
    let unit = read(UNIT)?;
    let wrong = run(&["--no-such-option"], &[])?;
    let status = wrong.status.code().context("ended by a signal")?;
    let never_again = value(&unit, "RestartPreventExitStatus")?;
    assert_eq!(status.to_string(), never_again);
    assert_eq!(value(&unit, "ExecReload")?, "/bin/kill -HUP $MAINPID");
    for (name, wanted) in [
        ("StartLimitIntervalSec", "0"),
        ("Type", "notify"),
        ("ExecStart", "/usr/bin/pollux"),
        ("EnvironmentFile", "-/etc/pollux/pollux.env"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ] {
        assert_eq!(value(&unit, name)?, wanted, "{name}");
    }
    let filters = values(&unit, "SystemCallFilter");
    assert_eq!(filters, ["@system-service", "~@privileged @resources"]);
    // systemd would give it to the service's user, who is to write nothing but its state.
    assert!(values(&unit, "ConfigurationDirectory").is_empty());
    // The metrics of the process would lose when it was started.
    assert!(values(&unit, "ProcSubset").is_empty());
    Ok(())
}

#[test]
fn the_kernel_is_told_what_the_page_for_operators_says() -> Result<()> {
    let page = read("docs/operate.md")?;
    let settings = read(SYSCTL)?;
    let mut told = 0;
    for line in settings.lines().filter(|line| !line.is_empty()) {
        let commented = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        if line.starts_with('#') && commented.is_none() {
            continue;
        }
        let (name, number) = commented
            .unwrap_or(line)
            .split_once(" = ")
            .context("no =")?;
        assert!(number.split(' ').all(|part| part.parse::<u64>().is_ok()));
        assert!(page.contains(&format!("`{name}`")), "{name}");
        told += usize::from(commented.is_none());
    }
    assert_eq!(told, 2);
    Ok(())
}

#[test]
fn what_the_debian_package_brings_is_there() -> Result<()> {
    let manifest = read("crates/node/Cargo.toml")?;
    let (_, package) = manifest
        .split_once("[package.metadata.deb]")
        .context("no package")?;
    let mut sources = Vec::new();
    for part in package.split('"').filter(|part| part.starts_with("../../")) {
        let source = part.trim_start_matches("../../");
        let source = source.split("/*.").next().unwrap_or(source);
        assert!(path(source).exists(), "{source}");
        sources.push(source);
    }
    assert!(sources.contains(&SYSCTL) && sources.contains(&"deploy/systemd"));
    // Without a directory for scripts there are none, and nothing is stopped or restarted.
    assert!(sources.contains(&"deploy/systemd/debian"));
    let purge = read("deploy/systemd/debian/postrm")?;
    assert!(purge.lines().any(|line| line == "#DEBHELPER#"));
    assert!(package.contains(r#"pollux.env", "etc/pollux/", "600"]"#));
    Ok(())
}

#[test]
fn the_options_that_the_package_brings_change_nothing() -> Result<()> {
    let options = path("deploy/systemd/etc/pollux.toml");
    let options = options.to_str().context("not text")?;
    let output = run(&["--config_path", options, "config", "check"], &[])?;
    assert!(output.status.success(), "{output:?}");
    let settings = ["pollux.toml", "pollux.env"].map(|name| format!("deploy/systemd/etc/{name}"));
    for name in settings {
        let text = read(&name)?;
        let set = text
            .lines()
            .find(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(set, None, "{name}");
        // What is commented out has to be an option still.
        for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
            let Some((option, _)) = line.split_once('=').filter(|_| !line.starts_with(' ')) else {
                continue;
            };
            let option = option.trim().trim_start_matches("POLLUX_").to_lowercase();
            let documented = format!("| `--{option}` |");
            let configured = format!("| `{option}` |");
            let page = read("docs/configuration.md")?;
            assert!(
                page.contains(&documented) || page.contains(&configured),
                "{option}"
            );
        }
    }
    Ok(())
}
