//! What a thousand clients that wait cost, and that it does not grow.

use anyhow::Result;
use pollux_testkit::{Node, PATIENCE, Parked, Poller, assert_eventually};

const POLLS: usize = 1_000;
/// A parked poll with its session and one subscription, in a debug build, when its connection
/// has been used a few times. A guard against a change that doubles it; the exact figure is the
/// benchmark's business.
const BYTES_A_POLL: u64 = 20_000;
/// Buffers grow to their size in the first rounds.
const WARM_UP: u64 = 4;
const ROUNDS: u64 = 40;
/// After the warm-up, everything that grows for good is a leak. Allocators keep some pages for
/// themselves, so a little is none; one forgotten frame a round would be more.
const BYTES_A_POLL_AND_ROUND: u64 = 50;

/// A node with clients that wait.
struct Crowd {
    node: Node,
    waiting: Vec<(Poller, Parked)>,
}

impl Crowd {
    async fn gather() -> Result<Self> {
        let node = Node::builder()
            .flag("poll_interval", "120")
            .flag("poll_keepalive_timeout", "60")
            .flag("poll_flush_interval", "0")
            .spawn()
            .await?;
        Ok(Self {
            node,
            waiting: Vec::with_capacity(POLLS),
        })
    }

    async fn join(&mut self) -> Result<()> {
        while self.waiting.len() < POLLS {
            let mut poller = Poller::subscribed(&self.node, &["a"]).await?;
            poller.hang_up();
            let parked = poller.park().await?;
            self.waiting.push((poller, parked));
        }
        self.all_wait().await
    }

    async fn all_wait(&self) -> Result<()> {
        let all = POLLS as f64;
        assert_eventually!(self.node.metric("parked_polls").await? == all, PATIENCE);
        Ok(())
    }

    /// Everybody gets a message and polls again, on the same connection.
    async fn round(&mut self, round: u64) -> Result<()> {
        self.node.publish("a", &round.into()).await?;
        for (poller, parked) in &mut self.waiting {
            let response = parked.answer().await?;
            assert_eq!(poller.understand(response)?.messages(), [round]);
            parked.again(&poller.request("")).await?;
        }
        self.all_wait().await
    }
}

#[tokio::test]
async fn a_thousand_parked_polls_are_cheap_and_do_not_grow() -> Result<()> {
    let mut crowd = Crowd::gather().await?;
    // What is needed once is not counted.
    let mut first = Poller::subscribed(&crowd.node, &["a"]).await?;
    crowd.node.publish("a", &0.into()).await?;
    first.messages(1).await?;
    let empty = crowd.node.pss_bytes()?;

    crowd.join().await?;
    for round in 0..WARM_UP {
        crowd.round(round).await?;
    }
    let warm = crowd.node.pss_bytes()?;
    let each = warm.saturating_sub(empty) / POLLS as u64;
    assert!(each < BYTES_A_POLL, "a parked poll costs {each} bytes");

    for round in 0..ROUNDS {
        crowd.round(round).await?;
    }
    let grown = crowd.node.pss_bytes()?.saturating_sub(warm);
    let each = grown / (POLLS as u64 * ROUNDS);
    assert!(
        each < BYTES_A_POLL_AND_ROUND,
        "a poll costs {each} bytes more with every round"
    );
    Ok(())
}
