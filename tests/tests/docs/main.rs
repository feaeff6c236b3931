//! README and documentation, read as a newcomer would: what they tell to type is typed, what they
//! show is compared, every link leads somewhere, and every page is in the book.
//!
//! A page's blocks run one after the other in one shell, in an empty folder, with a node, a Redis
//! and ports of their own. What is not run stands in `exceptions.rs`, each with its reason.

mod block;
mod book;
mod effects;
mod exceptions;
mod likeness;
mod links;
mod options;
mod page;
mod terminal;
mod tools;

use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A path of the repository.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(relative)
}

fn read(relative: &str) -> Result<String> {
    fs::read_to_string(path(relative)).with_context(|| format!("reading {relative}"))
}

/// All pages of `docs/`, as paths of the repository.
fn pages_of_docs() -> Result<BTreeSet<String>> {
    let mut pages = BTreeSet::new();
    for entry in fs::read_dir(path("docs"))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".md")) {
            pages.insert(format!("docs/{name}"));
        }
    }
    Ok(pages)
}
