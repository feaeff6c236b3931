//! Chaos: clients abort polls, break answers off and close connections while everybody
//! publishes. Nothing may be lost, and with a cursor nothing comes twice.

use anyhow::{Context, Result};
use pollux_testkit::{Chance, Connection, Continuity, Fault, Node, Poller, Report, frames};
use serde_json::json;
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

const READERS: usize = 24;
const STREAMS: [&str; 3] = ["a", "b", "c"];
const MESSAGES_A_STREAM: u64 = 400;
/// After the last message and without faults, everything must have come within this time.
const SETTLING: Duration = Duration::from_secs(30);
/// Change it to see other faults; every run with one seed makes the same ones.
const SEED: u64 = 0x9011;

type Books = Rc<RefCell<Continuity>>;

struct Chaos {
    node: Node,
    books: Books,
    /// Set after the last message: from then on clients behave.
    calm: Rc<RefCell<bool>>,
}

impl Chaos {
    async fn begin() -> Result<Self> {
        let node = Node::builder()
            .flag("poll_interval", "0.5")
            .flag("poll_flush_interval", "20ms")
            .spawn()
            .await?;
        Ok(Self {
            node,
            books: Books::default(),
            calm: Rc::default(),
        })
    }

    /// Publishes numbered messages to all streams in turn, on one connection.
    async fn publish(&self) -> Result<()> {
        let mut connection = Connection::open(self.node.address()).await?;
        let mut chance = Chance::new(SEED);
        for _ in 0..MESSAGES_A_STREAM {
            for stream in STREAMS {
                let number = self.books.borrow_mut().next(stream);
                let body = frames::publication(stream, &json!({"s": stream, "n": number}));
                let response = connection.ask(&self.node.broadcast_request(&body)).await?;
                assert_eq!(response.status, 201);
            }
            // Bursts and pauses, so that all of the flush rule is in play.
            if chance.below(4) == 0 {
                sleep(Duration::from_millis(chance.below(40))).await;
            }
        }
        self.calm.replace(true);
        Ok(())
    }

    /// One client, with its faults, until it has everything or the time is over.
    async fn read(&self, name: String, mut poller: Poller, seed: u64) -> Result<()> {
        let mut chance = Chance::new(seed);
        let mut end = None;
        loop {
            let answer = match fault(&mut chance) {
                Some(fault) if !*self.calm.borrow() => poller.fault(fault).await?,
                _ => Some(poller.poll().await?),
            };
            for message in answer.iter().flat_map(|answer| answer.messages()) {
                let stream = message["s"].as_str().context("no stream")?;
                let number = message["n"].as_u64().context("no number")?;
                self.books.borrow_mut().saw(&name, stream, number);
            }
            if *self.calm.borrow() {
                let end = *end.get_or_insert_with(|| Instant::now() + SETTLING);
                // Whoever has everything polls once more, to see that nothing comes twice.
                let idle = answer.is_some_and(|answer| answer.response.status == 204);
                let done = idle && self.books.borrow().missing() == 0;
                if done || Instant::now() >= end {
                    return Ok(());
                }
            }
        }
    }
}

/// About half of the polls go wrong.
fn fault(chance: &mut Chance) -> Option<Fault> {
    let after = Duration::from_millis(chance.below(120));
    Some(match chance.below(10) {
        0 | 1 => Fault::CloseAfter(after),
        2 | 3 => Fault::ResetAfter(after),
        4 => Fault::HalfThenReset,
        5 => Fault::HalfThenClose,
        _ => return None,
    })
}

async fn chaos(with_cursor: bool) -> Result<Rc<Chaos>> {
    let chaos = Rc::new(Chaos::begin().await?);
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for reader in 0..READERS {
        let name = format!("reader {reader}");
        let mut poller = Poller::subscribed(&chaos.node, &STREAMS).await?;
        if with_cursor {
            poller = poller.with_cursor();
        }
        if reader % 2 == 1 {
            poller = poller.in_chunks();
        }
        for stream in STREAMS {
            chaos.books.borrow_mut().join(&name, stream);
        }
        let chaos = Rc::clone(&chaos);
        let seed = SEED + reader as u64;
        tasks.push(local.spawn_local(async move { chaos.read(name, poller, seed).await }));
    }
    let publisher = Rc::clone(&chaos);
    tasks.push(local.spawn_local(async move { publisher.publish().await }));
    let all = local.run_until(async {
        for task in tasks {
            task.await??;
        }
        anyhow::Ok(())
    });
    timeout(Duration::from_secs(120), all)
        .await
        .context("the readers do not come to an end")??;
    Ok(chaos)
}

#[tokio::test]
async fn with_a_cursor_nothing_is_lost_doubled_or_out_of_order() -> Result<()> {
    let chaos = chaos(true).await?;
    let report = chaos.books.borrow().report();
    assert!(report.is_clean(), "seed {SEED:#x}\n{report}");
    assert!(
        chaos.node.metric("redelivered_frames_total").await? > 0.0,
        "the faults broke no answer off"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_cursor_nothing_is_lost() -> Result<()> {
    let chaos = chaos(false).await?;
    // Without a cursor nobody knows whether an answer that broke off was read, so it may come
    // twice, and then a message may stand behind a later one.
    let report = Report {
        doubled: Vec::new(),
        out_of_order: Vec::new(),
        ..chaos.books.borrow().report()
    };
    assert!(report.is_clean(), "seed {SEED:#x}\n{report}");
    Ok(())
}
