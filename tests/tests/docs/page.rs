//! Runs the blocks of a page, in order.

use crate::{
    block::Block,
    exceptions::{self, How},
    likeness::bare,
    read,
    terminal::{Place, Terminal, find},
};
use anyhow::{Context, Result, bail, ensure};
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
        let file = terminal.write(&name(block, number), &block.text)?;
        let file = file.to_str().context("a path that is no text")?;
        if let Some(How::NotRun(reason)) = how {
            eprintln!("{block} is not run: it {reason}");
            return check_syntax(terminal, block, file).await;
        }
        let Some(command) = command(block, file)? else {
            return Ok(());
        };
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

/// What a block is called as a file.
fn name(block: &Block, number: usize) -> String {
    let ending = match block.language.as_str() {
        "python" => "py",
        "ruby" => "rb",
        "js" if block.text.contains("require(") => "cjs",
        "js" => "mjs",
        other => other,
    };
    format!("example{number}.{ending}")
}

/// What runs a block; none if nothing here can, which is said.
fn command(block: &Block, file: &str) -> Result<Option<String>> {
    let (program, rest) = match block.language.as_str() {
        "sh" => return Ok(Some(format!(". '{file}' </dev/null"))),
        // What is in an example's file has to be options, with values of their kind.
        "toml" => {
            let print = format!("pollux --config_path='{file}' --print_config >/dev/null");
            return Ok(Some(print));
        }
        "python" => ("python3", ""),
        "js" => ("node", ""),
        "ruby" => ("ruby", ""),
        "php" => ("php", ""),
        "c" => {
            let build = format!("cc -std=gnu11 -Wall -Wextra -Werror -o '{file}.out' '{file}'");
            return Ok(Some(format!("{build} && exec '{file}.out'")));
        }
        "go" => bail!("programs in Go are not run"),
        other => bail!("nobody has said how {other} is run"),
    };
    Ok(is_here(block, program)?.then(|| format!("{program}{rest} '{file}' </dev/null")))
}

async fn check_syntax(terminal: &mut Terminal, block: &Block, file: &str) -> Result<()> {
    let (program, rest) = match block.language.as_str() {
        "sh" => ("bash", "-n"),
        "python" => ("python3", "-m py_compile"),
        "js" => ("node", "--check"),
        "ruby" => ("ruby", "-c"),
        "php" => ("php", "-l"),
        "go" => ("gofmt", "-e"),
        _ => return Ok(()),
    };
    match is_here(block, program)? {
        true => {
            terminal
                .run(&format!("{program} {rest} '{file}' >/dev/null"))
                .await
        }
        false => Ok(()),
    }
}

/// Whether there is an interpreter. Those that the other tests need as well have to be there.
fn is_here(block: &Block, program: &str) -> Result<bool> {
    let is_here = find(program).is_some();
    let is_optional = matches!(program, "ruby" | "php" | "gofmt");
    ensure!(is_here || is_optional, "there is no {program} here");
    if !is_here {
        eprintln!("{block} is neither run nor read: there is no {program} here");
    }
    Ok(is_here)
}
