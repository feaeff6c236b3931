//! Several polls of one session at once, as the stock client's abort loop makes them.

use anyhow::{Context, Result};
use pollux_testkit::{Node, PATIENCE, Parked, Poller, assert_eventually, frames};
use std::time::Duration;

/// Later than any stall of a busy machine should last.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Long enough to see that an answer does not come.
const FOR_A_WHILE: Duration = Duration::from_millis(600);

struct Scene {
    node: Node,
    poller: Poller,
    parked: Vec<Parked>,
}

impl Scene {
    async fn with_polls(interval: &str, polls: usize) -> Result<Self> {
        let node = Node::builder()
            .flag("poll_interval", interval)
            .flag("poll_flush_interval", "0")
            .spawn()
            .await?;
        let poller = Poller::subscribed(&node, &["a"]).await?;
        let parked = Vec::new();
        let mut scene = Self {
            node,
            poller,
            parked,
        };
        for _ in 0..polls {
            scene.park().await?;
        }
        Ok(scene)
    }

    /// One more poll; returns when the node holds it.
    async fn park(&mut self) -> Result<()> {
        self.parked.push(self.poller.park().await?);
        self.holds(self.parked.len()).await
    }

    async fn holds(&self, polls: usize) -> Result<()> {
        let polls = polls as f64;
        assert_eventually!(self.node.metric("parked_polls").await? == polls, PATIENCE);
        Ok(())
    }

    async fn messages(&mut self, poll: usize) -> Result<Vec<serde_json::Value>> {
        let answer = self.parked[poll].answer_within(AT_ONCE).await?;
        let answer = answer.with_context(|| format!("poll {poll} has no answer"))?;
        Ok(frames::messages(&answer.frames()?))
    }

    async fn is_waiting(&mut self, poll: usize) -> Result<bool> {
        Ok(self.parked[poll]
            .answer_within(FOR_A_WHILE)
            .await?
            .is_none())
    }
}

#[tokio::test]
async fn a_newer_poll_does_not_end_an_older_one() -> Result<()> {
    let mut scene = Scene::with_polls("20", 3).await?;
    for poll in 0..3 {
        assert!(scene.is_waiting(poll).await?, "poll {poll} was answered");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_goes_to_the_newest_poll_only() -> Result<()> {
    let mut scene = Scene::with_polls("20", 3).await?;
    for poll in [2, 1, 0] {
        scene.node.publish("a", &poll.into()).await?;
        assert_eq!(scene.messages(poll).await?, [poll]);
        for older in 0..poll {
            assert!(scene.is_waiting(older).await?, "poll {older} was answered");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_fourth_poll_sends_the_oldest_home() -> Result<()> {
    let mut scene = Scene::with_polls("20", 3).await?;
    scene.parked.push(scene.poller.park().await?);
    let oldest = scene.parked[0].answer_within(AT_ONCE).await?;
    assert_eq!(oldest.context("it still waits")?.status, 204);
    scene.holds(3).await?;
    for poll in [3, 2, 1] {
        scene.node.publish("a", &poll.into()).await?;
        assert_eq!(scene.messages(poll).await?, [poll]);
    }
    Ok(())
}

#[tokio::test]
async fn polls_end_each_in_their_own_time() -> Result<()> {
    let interval = Duration::from_secs(2);
    let mut scene = Scene::with_polls("2", 1).await?;
    tokio::time::sleep(interval / 2).await;
    scene.park().await?;
    for poll in 0..2 {
        let answer = scene.parked[poll].answer().await?;
        let age = scene.parked[poll].age();
        assert_eq!(answer.status, 204);
        assert!(
            age + Duration::from_millis(20) >= interval,
            "poll {poll} ended after {age:?}"
        );
        assert!(age < interval + AT_ONCE, "poll {poll} ended after {age:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_loops_of_one_client_cause_no_extra_answers() -> Result<()> {
    // The stock client ends up with two loops; a server that ended the older poll whenever a
    // newer one came would have them chase each other.
    let mut scene = Scene::with_polls("1", 0).await?;
    let mut answers = 0;
    let start = tokio::time::Instant::now();
    let mut one = scene.poller.park().await?;
    let mut two = scene.poller.park().await?;
    while start.elapsed() < Duration::from_secs(3) {
        for parked in [&mut one, &mut two] {
            let Some(answer) = parked.answer_within(Duration::from_millis(10)).await? else {
                continue;
            };
            assert_eq!(answer.status, 204);
            answers += 1;
            *parked = scene.poller.park().await?;
        }
    }
    assert!(
        answers <= 6,
        "{answers} answers in 3 s from two idle loops of 1 s"
    );
    scene.node.publish("a", &1.into()).await?;
    scene.parked = vec![one, two];
    assert!(scene.poller.messages(0).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn when_the_newest_poll_vanishes_the_next_gets_the_batch() -> Result<()> {
    let mut scene = Scene::with_polls("20", 2).await?;
    scene.parked.remove(1).into_connection().reset()?;
    scene.holds(1).await?;
    scene.node.publish("a", &1.into()).await?;
    assert_eq!(scene.messages(0).await?, [1]);
    Ok(())
}
