//! Frames are numbered, and a client that says what it has got gets the rest for certain.

use anyhow::Result;
use pollux_testkit::{Fault, Node, Poller, Request, frames};

async fn node() -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "0.3")
        .flag("poll_flush_interval", "0")
        .spawn()
        .await
}

/// A poll that claims this cursor.
fn claiming(poller: &Poller, cursor: &str) -> Request {
    poller.request("").header("Pollux-Cursor", cursor)
}

#[tokio::test]
async fn every_answer_tells_the_number_of_its_last_frame() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    assert_eq!(poller.cursor(), 1, "the welcome is the first frame");
    assert_eq!(poller.exchange("").await?.cursor()?, Some(1));
    poller.subscribe(&frames::public("a")).await?;
    assert_eq!(poller.cursor(), 2);
    for number in 0..3 {
        node.publish("a", &number.into()).await?;
    }
    poller.messages(3).await?;
    assert_eq!(poller.cursor(), 5);
    let idle = poller.exchange("").await?;
    assert_eq!((idle.status, idle.cursor()?), (204, Some(5)));
    Ok(())
}

#[tokio::test]
async fn frames_after_the_cursor_come_again() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..3 {
        node.publish("a", &number.into()).await?;
    }
    assert_eq!(poller.messages(3).await?, [0, 1, 2]);

    // Frames 1 and 2 are the welcome and the confirmation. A client that first says 4 has
    // everything before, whatever it said until now.
    let response = node.ask(&claiming(&poller, "4")).await?;
    assert_eq!(frames::messages(&response.frames()?), [2]);
    assert_eq!(response.cursor()?, Some(5));
    let again = node.ask(&claiming(&poller, "4")).await?;
    assert_eq!(frames::messages(&again.frames()?), [2]);
    let done = node.ask(&claiming(&poller, "5")).await?;
    assert_eq!(done.status, 204);
    assert!(node.metric("redelivered_frames_total").await? >= 2.0);
    Ok(())
}

#[tokio::test]
async fn what_is_new_comes_after_what_comes_again() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?.with_cursor();
    node.publish("a", &0.into()).await?;
    node.publish("a", &1.into()).await?;
    assert!(poller.fault(Fault::HalfThenReset).await?.is_none());
    node.publish("a", &2.into()).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(poller.poll().await?.messages());
    }
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(poller.cursor(), 5);
    Ok(())
}

#[tokio::test]
async fn a_late_cursor_takes_nothing_back() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    node.publish("a", &0.into()).await?;
    poller.messages(1).await?;
    assert_eq!(node.ask(&claiming(&poller, "3")).await?.status, 204);
    let late = node.ask(&claiming(&poller, "1")).await?;
    assert_eq!(
        late.status, 204,
        "frames 2 and 3 were acknowledged: {:?}",
        late.body
    );
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_makes_no_sense_harms_nobody() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let nonsense = [
        "",
        "x",
        "-1",
        "1.5",
        "99999999999999999999999",
        "18446744073709551615",
    ];
    for cursor in nonsense {
        let response = node.ask(&claiming(&poller, cursor)).await?;
        assert!(
            matches!(response.status, 200 | 204),
            "{cursor:?}: {}",
            response.status
        );
    }
    // A cursor from the future must not swallow what comes after it.
    node.publish("a", &1.into()).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn without_a_cursor_an_answer_that_broke_off_comes_again() -> Result<()> {
    // The next answer waits a moment for the fate of this one, but never longer
    // than the flush interval.
    let node = Node::builder()
        .flag("poll_interval", "0.3")
        .flag("poll_flush_interval", "200ms")
        .spawn()
        .await?;
    for fault in [Fault::HalfThenReset, Fault::HalfThenClose] {
        let mut poller = Poller::subscribed(&node, &["a"]).await?;
        node.publish("a", &1.into()).await?;
        node.publish("a", &2.into()).await?;
        assert!(poller.fault(fault).await?.is_none());
        assert_eq!(poller.messages(2).await?, [1, 2], "{fault:?}");
        assert_eq!(poller.exchange("").await?.status, 204, "{fault:?}");
    }
    Ok(())
}
