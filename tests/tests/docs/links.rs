//! Links between files, and to places within them.

use crate::{pages_of_docs, path, read};
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

/// Files beside the pages of `docs/`.
const OTHERS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "clients/js/README.md",
    "helm/pollux/README.md",
];

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let mut pages = pages_of_docs()?;
    pages.extend(OTHERS.map(str::to_owned));
    let mut wrong = Vec::new();
    for page in &pages {
        for (line, target) in links(&read(page)?) {
            if let Err(error) = follow(page, &target) {
                wrong.push(format!("{page}:{line}: {target}: {error:#}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Whether there is something; other sites are not asked.
fn follow(page: &str, target: &str) -> Result<()> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = match file {
        "" => PathBuf::from(page),
        file => normal(
            &Path::new(page)
                .parent()
                .unwrap_or_else(|| Path::new(""))
                .join(file),
        ),
    };
    let file = file.to_str().context("not a text")?;
    fs::metadata(path(file)).context("there is no such file")?;
    if !anchor.is_empty() {
        let anchors = anchors(&read(file)?);
        anyhow::ensure!(anchors.contains(anchor), "there is no such heading");
    }
    Ok(())
}

/// A path without `..` in it.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// What is outside of blocks of code, by lines.
fn prose(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    let lines = markdown.lines().enumerate();
    lines.filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return None;
        }
        (!is_code).then_some((number + 1, line))
    })
}

/// Targets of links in Markdown, with their lines. Code between backticks has none.
pub(crate) fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(markdown) {
        let plain: Vec<_> = line.split('`').step_by(2).collect();
        for part in plain.join("`").split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((number, target.to_owned()));
            }
        }
    }
    links
}

/// What headings are called in links.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = prose(markdown).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then_some(heading.strip_prefix(' ')?)
    });
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(|char| match char {
                ' ' => Some('-'),
                '-' | '_' => Some(char),
                char if char.is_alphanumeric() => Some(char),
                _ => None,
            })
            .collect();
        let again = (1..).map(|number| format!("{slug}-{number}"));
        let mut names = std::iter::once(slug.clone()).chain(again);
        anchors.extend(names.find(|name| !anchors.contains(name)));
    }
    anchors
}

#[test]
fn links_and_headings_are_found() {
    let markdown =
        "# A `b`, and C_d\n[x](y.md#z) `[no](no.md)` [w](v)\n```\n[no](no)\n```\n## A\n## A";
    let links: Vec<_> = links(markdown).into_iter().map(|(_, link)| link).collect();
    assert_eq!(links, ["y.md#z", "v"]);
    let expected = ["a", "a-1", "a-b-and-c_d"].map(str::to_owned);
    assert_eq!(anchors(markdown), BTreeSet::from(expected));
}
