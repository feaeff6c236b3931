//! The book has every page, once.

use crate::{links::links, pages_of_docs, read};
use anyhow::Result;

#[test]
fn every_page_is_in_the_book_once() -> Result<()> {
    let mut listed: Vec<_> = links(&read("docs/SUMMARY.md")?)
        .into_iter()
        .map(|(_, target)| format!("docs/{target}"))
        .collect();
    listed.sort_unstable();
    let mut pages = pages_of_docs()?;
    pages.remove("docs/SUMMARY.md");
    let pages: Vec<_> = pages.into_iter().collect();
    assert_eq!(listed, pages, "docs/SUMMARY.md lists them");
    Ok(())
}
