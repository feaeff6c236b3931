//! Polls that are aborted in the very moment they are answered, by clients without a cursor:
//! what the stock client does whenever it has something to say.

use anyhow::{Context, Result, bail};
use pollux_testkit::{Connection, Node, PATIENCE, Poller, assert_eventually, frames};
use std::time::Duration;
use tokio::time::{Instant, timeout};

const ABORTS: u64 = 300;
/// From the publication to its answer it takes less than this, and the aborts are spread over
/// that time, so that some of them cross the answer on its way.
const SPREAD: Duration = Duration::from_micros(1_500);
/// A message that is not lost comes with the next poll.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// Which of the server's two ways a poll takes.
#[derive(Clone, Copy)]
enum Way {
    Ordinary,
    InChunks,
}

async fn abort(way: Way, how: fn(Connection) -> Result<()>) -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "1")
        .flag("poll_flush_interval", "0")
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    if let Way::InChunks = way {
        poller = poller.in_chunks();
    }
    let mut publisher = Connection::open(node.address()).await?;
    for number in 0..ABORTS {
        let parked = poller.park().await?;
        assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
        let publication = frames::publication("a", &number.into());
        publisher
            .send(&node.broadcast_request(&publication))
            .await?;
        let micros = SPREAD.as_micros() as u64 * number / ABORTS;
        // Sleeping is too coarse for this.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
        how(parked.into_connection())?;
        assert_eq!(publisher.response().await?.status, 201);
        timeout(LOST_AFTER, wait_for(&mut poller, number))
            .await
            .with_context(|| format!("message {number} is lost, aborted after {micros} µs"))??;
    }
    Ok(())
}

/// Polls until a message comes. Earlier ones may come again before it.
async fn wait_for(poller: &mut Poller, number: u64) -> Result<()> {
    loop {
        for message in poller.poll().await?.messages() {
            match message.as_u64() {
                Some(seen) if seen == number => return Ok(()),
                Some(seen) if seen < number => {}
                _ => bail!("a message from nowhere: {message}"),
            }
        }
    }
}

fn close(connection: Connection) -> Result<()> {
    connection.close();
    Ok(())
}

#[tokio::test]
async fn an_answer_that_crosses_a_close_is_not_lost() -> Result<()> {
    abort(Way::Ordinary, close).await
}

#[tokio::test]
async fn an_answer_that_crosses_a_close_is_not_lost_in_chunks() -> Result<()> {
    abort(Way::InChunks, close).await
}

#[tokio::test]
async fn an_answer_that_crosses_a_reset_is_not_lost() -> Result<()> {
    abort(Way::Ordinary, Connection::reset).await
}

#[tokio::test]
async fn an_answer_that_crosses_a_reset_is_not_lost_in_chunks() -> Result<()> {
    abort(Way::InChunks, Connection::reset).await
}
