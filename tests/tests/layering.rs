//! Dependencies between the crates point one way, and what must do without I/O does.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Which crates of ours a crate may depend on, for more than its tests.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("pollux-protocol", &[]),
    ("pollux-session", &["pollux-protocol"]),
    ("pollux-broker", &["pollux-protocol"]),
    ("pollux-client", &[]),
    ("pollux-rpc", &[]),
    (
        "pollux-node",
        &[
            "pollux-broker",
            "pollux-client",
            "pollux-protocol",
            "pollux-rpc",
            "pollux-session",
        ],
    ),
    ("pollux-testkit", &[]),
];

/// Crates that take bytes and time as arguments, and what they must not reach at any depth.
const WITHOUT_IO: [&str; 2] = ["pollux-protocol", "pollux-session"];
const IO: [&str; 6] = ["tokio", "hyper", "redis", "axum", "mio", "socket2"];

/// The graph of what ships: package ids and their names, and the ids each depends on.
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Result<Self> {
        // Crates for other platforms are not on this machine.
        let rustc = Command::new("rustc").arg("-vV").output()?;
        let about = String::from_utf8(rustc.stdout)?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--offline"])
            .args(["--manifest-path", manifest])
            .args([
                "--filter-platform",
                host.context("rustc does not name its host")?,
            ])
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not text");
        let list = |value: &Value| value.as_array().cloned().context("not a list");

        let mut names = BTreeMap::new();
        for package in list(&metadata["packages"])? {
            names.insert(text(&package["id"])?, text(&package["name"])?);
        }
        let mut edges = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"])? {
            let mut targets = BTreeSet::new();
            for dependency in list(&node["deps"])? {
                // A kind of null is a normal dependency, neither for tests nor for build scripts.
                if list(&dependency["dep_kinds"])?
                    .iter()
                    .any(|kind| kind["kind"].is_null())
                {
                    targets.insert(text(&dependency["pkg"])?);
                }
            }
            edges.insert(text(&node["id"])?, targets);
        }
        Ok(Self { names, edges })
    }

    fn id(&self, name: &str) -> Result<&String> {
        let found = self.names.iter().find(|(_, known)| *known == name);
        Ok(found.with_context(|| format!("no crate {name}"))?.0)
    }

    /// The names of what a crate depends on directly.
    fn direct(&self, name: &str) -> Result<BTreeSet<&str>> {
        let targets = self.edges.get(self.id(name)?).context("not resolved")?;
        Ok(targets
            .iter()
            .filter_map(|id| self.names.get(id))
            .map(String::as_str)
            .collect())
    }

    /// The names of what a crate depends on at any depth.
    fn all(&self, name: &str) -> Result<BTreeSet<&str>> {
        let mut seen = BTreeSet::from([self.id(name)?]);
        let mut left: Vec<_> = seen.iter().copied().collect();
        while let Some(id) = left.pop() {
            for target in self.edges.get(id).into_iter().flatten() {
                if seen.insert(target) {
                    left.push(target);
                }
            }
        }
        Ok(seen
            .into_iter()
            .filter_map(|id| self.names.get(id))
            .map(String::as_str)
            .collect())
    }
}

#[test]
fn crates_depend_one_way() -> Result<()> {
    let graph = Graph::read()?;
    for (name, allowed) in ALLOWED {
        let direct = graph.direct(name)?;
        let ours = direct
            .into_iter()
            .filter(|known| known.starts_with("pollux-"));
        for dependency in ours {
            assert!(
                allowed.contains(&dependency),
                "{name} depends on {dependency}"
            );
        }
    }
    Ok(())
}

#[test]
fn protocol_and_session_know_no_io() -> Result<()> {
    let graph = Graph::read()?;
    for name in WITHOUT_IO {
        let all = graph.all(name)?;
        for io in IO {
            assert!(!all.contains(io), "{name} reaches {io}");
        }
    }
    // The walk itself works.
    assert!(graph.all("pollux-node")?.contains("mio"));
    Ok(())
}

#[test]
fn nothing_that_ships_depends_on_what_is_for_tests() -> Result<()> {
    let graph = Graph::read()?;
    let all = graph.all("pollux-node")?;
    for name in [
        "pollux-testkit",
        "pollux-bench",
        "criterion",
        "proptest",
        "insta",
    ] {
        assert!(!all.contains(name), "the node depends on {name}");
    }
    Ok(())
}
