//! What the pages say of options: each that is named as ours is one.

use crate::read;
use anyhow::Result;
use std::collections::BTreeSet;

/// The texts between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The columns of the rows of tables.
fn rows(markdown: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = markdown.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

#[test]
fn options_that_others_become_are_ours() -> Result<()> {
    let configuration = read("docs/configuration.md")?;
    let ours: BTreeSet<_> = rows(&configuration)
        .filter_map(|columns| code(columns.get(1).copied().unwrap_or_default()).next())
        .map(|name| name.trim_start_matches("--"))
        .collect();
    for page in ["anycable", "golongpoll"] {
        let page = read(&format!("docs/migrate-from-{page}.md"))?;
        let (_, options) = page.split_once("## Options").unwrap_or_default();
        let (options, _) = options.split_once("\n## ").unwrap_or_default();
        let named: BTreeSet<_> = rows(options)
            .filter_map(|columns| columns.get(2).copied())
            .flat_map(code)
            .filter(|name| !name.starts_with('/'))
            .collect();
        assert!(named.len() >= 8, "{named:?}");
        let unknown: Vec<_> = named.difference(&ours).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    Ok(())
}
