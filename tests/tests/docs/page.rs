//! Runs the blocks of a page, in order.

use crate::{
    block::Block,
    effects,
    exceptions::{self, How},
    likeness::bare,
    read,
    terminal::{Place, Terminal},
    tools,
};
use anyhow::{Context, Result, bail};
use pollux_testkit::{Deadline, PATIENCE};
use std::collections::BTreeSet;

const NODE_WITH_REDIS: &str = "pollux --redis_url=redis://127.0.0.1:6379";

/// Every page with something to run has a test of its own, so that they run beside each other.
macro_rules! pages {
    ($($name:ident = $page:literal),+ $(,)?) => {
        $(#[tokio::test]
        async fn $name() -> Result<()> {
            run($page).await
        })+

        const PAGES: &[&str] = &[$($page),+];
    };
}

pages! {
    readme = "README.md",
    contributing = "CONTRIBUTING.md",
    chart = "helm/pollux/README.md",
    authenticate = "docs/authenticate.md",
    backend = "docs/backend.md",
    client_action_cable = "docs/client-action-cable.md",
    client_categories = "docs/client-categories.md",
    client_event_streams = "docs/client-event-streams.md",
    client_long_polling = "docs/client-long-polling.md",
    clients = "docs/clients.md",
    command_line = "docs/command-line.md",
    deploy = "docs/deploy.md",
    embed = "docs/embed.md",
    getting_started = "docs/getting-started.md",
    migrate_from_anycable = "docs/migrate-from-anycable.md",
    migrate_from_golongpoll = "docs/migrate-from-golongpoll.md",
    operate = "docs/operate.md",
    performance = "docs/performance.md",
    pollux_js = "clients/js/README.md",
    publish = "docs/publish.md",
    rooms_and_mailboxes = "docs/rooms-and-mailboxes.md",
    troubleshoot = "docs/troubleshoot.md",
}

#[test]
fn no_page_is_forgotten() -> Result<()> {
    let mut missing = BTreeSet::new();
    for page in crate::pages_of_docs()? {
        let has_programs = Block::all_of(&page, &read(&page)?)
            .iter()
            .any(Block::is_program);
        if has_programs && !PAGES.contains(&page.as_str()) {
            missing.insert(page);
        }
    }
    assert!(missing.is_empty(), "name them in page.rs: {missing:?}");
    Ok(())
}

/// `rustdoc` runs examples in Rust, if it is told of their page.
#[test]
fn examples_in_rust_are_where_they_are_run() -> Result<()> {
    let library = read("crates/node/src/lib.rs")?;
    for page in crate::pages_of_docs()? {
        let blocks = Block::all_of(&page, &read(&page)?);
        if blocks.iter().any(|block| block.language == "rust") {
            assert!(
                library.contains(&format!("include_str!(\"../../../{page}\")")),
                "crates/node/src/lib.rs does not name {page}"
            );
        }
    }
    Ok(())
}

#[test]
fn no_exception_is_left_over() -> Result<()> {
    let mut blocks = Vec::new();
    for page in PAGES {
        blocks.extend(Block::all_of(page, &read(page)?));
    }
    for exception in exceptions::all() {
        let count = blocks.iter().filter(|block| exception.is_of(block)).count();
        assert_eq!(count, 1, "blocks that this is about: {exception:?}");
    }
    Ok(())
}

/// A test that runs a block reads it out of its page, and so names it as it is named here.
#[test]
fn what_other_tests_run_is_named_there() -> Result<()> {
    for (test, page, line) in exceptions::run_by() {
        let text = read(test)?;
        let named = text
            .lines()
            .any(|text| text.contains(page) && text.contains(line));
        assert!(
            named,
            "{test} does not read the block of {page} with {line:?}"
        );
    }
    Ok(())
}

async fn run(page: &str) -> Result<()> {
    let markdown = read(page)?;
    let needs_redis = markdown.contains("6379") || markdown.contains("redis-cli");
    let mut terminal = Terminal::open(needs_redis).await?;
    // All other pages are for those who have followed these.
    let is_first = page == "README.md" || page == "docs/getting-started.md";
    if !is_first && (markdown.contains("8080") || needs_redis) {
        terminal
            .run(if needs_redis {
                NODE_WITH_REDIS
            } else {
                "pollux"
            })
            .await?;
    }
    let mut reader = Reader::default();
    for (number, block) in Block::all_of(page, &markdown).iter().enumerate() {
        let read = reader.read(&mut terminal, block, number).await;
        read.with_context(|| {
            format!(
                "{block}, which begins with {:?}. If it can't be run, tests/tests/docs/exceptions.rs \
                 is the place to say so",
                block.text.lines().next().unwrap_or_default()
            )
        })?;
    }
    Ok(())
}

/// Where somebody is who follows a page.
#[derive(Default)]
struct Reader {
    /// The block before was run, so the next may be what it prints.
    has_run: bool,
    /// Lines that a page has shown already, by their places.
    seen: BTreeSet<Place>,
}

impl Reader {
    async fn read(&mut self, terminal: &mut Terminal, block: &Block, number: usize) -> Result<()> {
        let how = exceptions::of(block);
        if block.may_be_output() {
            return match std::mem::take(&mut self.has_run) {
                true => self.compare(terminal, block).await,
                false => Ok(()),
            };
        }
        self.has_run = false;
        if !block.is_program() {
            return Ok(());
        }
        let file = terminal.write(&tools::file_name(block, number), &block.text)?;
        let file = file.to_str().context("a path that is no text")?;
        match how {
            Some(How::NotRun(reason)) => {
                eprintln!("{block} is not run: it {reason}");
                // The others that are not run are shells' as well, or this fails.
                return terminal.run(&format!("bash -n '{file}'")).await;
            }
            Some(How::RunBy(test)) => {
                eprintln!("{block} is run by {test}");
                return Ok(());
            }
            _ => {}
        }
        let command = tools::command(block, file)?;
        self.has_run = true;
        match how {
            Some(How::Listens) => {
                let before = terminal.subscriptions().await?;
                terminal.start(&command).await?;
                terminal.has_more_subscriptions(before).await
            }
            Some(How::Serves(port)) => {
                terminal.start(&command).await?;
                terminal.is_served(port).await
            }
            Some(How::Publishes) => effects::publishes(terminal, &command).await,
            Some(How::MakesToken) => effects::makes_token(terminal, &command).await,
            _ => terminal.run(&command).await,
        }
    }

    /// Waits until every line that the page shows is among what was printed.
    async fn compare(&mut self, terminal: &Terminal, block: &Block) -> Result<()> {
        for line in terminal.here(&block.text).lines() {
            let expected = bare(line);
            if expected.is_empty() || expected == "…" {
                continue;
            }
            let deadline = Deadline::within(PATIENCE);
            loop {
                let lines = terminal.lines();
                let mut printed = lines.into_iter();
                let found = printed
                    .find(|(place, line)| !self.seen.contains(place) && bare(line) == expected);
                if let Some((place, _)) = found {
                    self.seen.insert(place);
                    break;
                }
                if deadline.is_over() {
                    bail!("this is not printed: {line}\n{}", terminal.screen());
                }
                deadline.pause().await;
            }
        }
        Ok(())
    }
}
