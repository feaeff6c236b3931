//! The Dockerfiles.

use super::files::{nodes, read};
use anyhow::{Context, Result};
use std::collections::BTreeSet;

const DOCKERFILES: [&str; 2] = ["deploy/Dockerfile", "deploy/buildkit.Dockerfile"];

/// Instructions, one a line: without comments, and with continued lines put together.
fn instructions(file: &str) -> Result<Vec<String>> {
    let text = read(file)?;
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = joined.lines().map(words);
    Ok(all.filter(|line| !line.is_empty()).collect())
}

/// The instructions from the last `FROM` on.
fn last_stage(file: &str) -> Result<Vec<String>> {
    let mut all = instructions(file)?;
    let start = all.iter().rposition(|line| line.starts_with("FROM "));
    Ok(all.split_off(start.context("no FROM")?))
}

/// What the build takes from the repository.
fn copied(file: &str) -> Result<BTreeSet<String>> {
    let mut sources = BTreeSet::new();
    for line in instructions(file)? {
        if let Some(paths) = line.strip_prefix("COPY ")
            && !paths.starts_with("--from")
        {
            let mut paths: Vec<_> = paths.split(' ').map(str::to_owned).collect();
            paths.pop();
            sources.extend(paths);
        }
    }
    Ok(sources)
}

#[test]
fn both_files_make_the_same_image() -> Result<()> {
    let [plain, buildkit] = DOCKERFILES;
    assert_eq!(last_stage(plain)?, last_stage(buildkit)?);
    let first = |file| -> Result<_> {
        let mut all = instructions(file)?.into_iter();
        Ok(all.find(|line| line.starts_with("FROM ")))
    };
    assert_eq!(first(plain)?, first(buildkit)?);
    Ok(())
}

#[test]
fn one_needs_no_buildkit_and_the_other_uses_it() -> Result<()> {
    let [plain, buildkit] = DOCKERFILES;
    // What builders without BuildKit don't know.
    for word in ["--mount", "--chmod", "--link", "--parents", "<<"] {
        let bad = instructions(plain)?
            .into_iter()
            .find(|line| line.contains(word));
        assert_eq!(bad, None, "{word}");
    }
    let text = read(buildkit)?;
    assert!(text.contains("--mount=type=cache,target=/usr/local/cargo/registry"));
    assert!(text.contains("--mount=type=cache,target=/build/target"));
    Ok(())
}

#[test]
fn they_are_built_with_our_rust_and_pinned_images() -> Result<()> {
    let toolchain = read("rust-toolchain.toml")?;
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.context("no channel")?.trim_matches('"');
    for file in DOCKERFILES {
        let all = instructions(file)?;
        let rust = format!("FROM rust:{channel}-slim-bookworm AS build");
        assert!(all.contains(&rust), "{file}: no {rust}");
        let from = all.iter().filter(|line| line.starts_with("FROM "));
        assert_eq!(from.count(), 2, "{file}");
        let runtime = all
            .iter()
            .find_map(|line| line.strip_prefix("ARG RUNTIME_IMAGE="));
        let runtime = runtime.context("no image to run in")?;
        assert!(!runtime.ends_with(":latest") && runtime.contains(':'));
        for (name, node) in nodes()? {
            let args = &node["build"]["args"]["RUNTIME_IMAGE"];
            let theirs = format!("${{RUNTIME_IMAGE:-{runtime}}}");
            assert_eq!(args, &theirs, "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_image_holds_little_and_may_do_little() -> Result<()> {
    for file in DOCKERFILES {
        let stage = last_stage(file)?;
        let all = stage.join("\n");
        assert!(!all.contains("\nRUN "), "{file} needs a shell");
        assert!(!all.contains("\nADD "), "{file}");
        for line in [
            "USER 10001:10001",
            "EXPOSE 8080",
            "STOPSIGNAL SIGTERM",
            "ENTRYPOINT [\"pollux\"]",
            "ENV POLLUX_HOST=0.0.0.0",
        ] {
            assert!(stage.iter().any(|known| known == line), "{file}: no {line}");
        }
        let check = stage.iter().find(|line| line.starts_with("HEALTHCHECK "));
        let check = check.context("no health check")?;
        assert!(check.ends_with(" CMD [\"pollux\", \"health\"]"), "{check}");
        let version = format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"));
        assert!(stage.contains(&version), "{file}: no {version}");
        assert!(all.contains("org.opencontainers.image.licenses"), "{file}");
    }
    for (name, node) in nodes()? {
        let check = node["healthcheck"]["test"].to_string();
        assert_eq!(check, r#"["CMD","pollux","health"]"#, "{name}");
        assert_eq!(node["user"], "10001:10001", "{name}");
    }
    Ok(())
}

#[test]
fn every_manifest_is_there_before_the_dependencies_are_built() -> Result<()> {
    let sources = copied("deploy/Dockerfile")?;
    let crates = super::files::path("crates");
    for entry in std::fs::read_dir(crates)? {
        let name = entry?.file_name();
        let manifest = format!("crates/{}/Cargo.toml", name.to_string_lossy());
        assert!(sources.contains(&manifest), "{manifest} is not copied");
    }
    let manifests = sources.iter().filter(|path| path.ends_with("/Cargo.toml"));
    for manifest in manifests {
        assert!(read(manifest).is_ok(), "{manifest} is copied and not there");
    }
    Ok(())
}

#[test]
fn the_build_sees_what_it_copies_and_nothing_else() -> Result<()> {
    let ignored = read(".dockerignore")?;
    let rules: Vec<_> = ignored
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let (all, seen) = rules.split_first().context("no rules")?;
    assert_eq!(*all, "*", "what is new is not in the build");
    let sources = copied("deploy/Dockerfile")?;
    for source in &sources {
        let sees = |rule: &&&str| {
            rule.strip_prefix('!')
                .is_some_and(|path| source.starts_with(path))
        };
        assert!(seen.iter().any(|rule| sees(&rule)), "{source} is ignored");
    }
    Ok(())
}
