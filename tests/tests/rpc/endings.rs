//! How sessions end, and what the application hears of it.

use crate::{ANN, Chat, exchange, hear, perform, room};
use anyhow::Result;
use pollux_testkit::{Cable, EventStream, Face, Kind, PATIENCE, Said, assert_eventually, frames};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

over_both!(
    the_application_sends_a_client_away,
    a_session_that_is_not_polled_any_more_is_gone,
    users_are_disconnected_by_their_identifiers,
    whoever_breaks_off_is_gone_too,
    nobody_is_told_if_nobody_wants_to_know,
    many_goodbyes_take_their_time,
);

fn goodbye() -> Value {
    json!({"type": "disconnect", "reason": "goodbye", "reconnect": false})
}

/// The frames until the end, whether or not the server takes leave.
async fn last_words(mut cable: Cable) -> Vec<Value> {
    let mut seen = Vec::new();
    while let Ok(said) = cable.next().await {
        match said {
            Said::Frame(frame) if frames::kind(&frame) == "ping" => {}
            Said::Frame(frame) => seen.push(frame),
            Said::Ping => {}
            Said::Close(..) => break,
        }
    }
    seen
}

async fn the_application_sends_a_client_away(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let leave = perform(&room("1"), &json!({"action": "leave"}));
    let mut cable = chat.cable("ann").await?;
    cable.subscribe(&room("1")).await?;
    hear(&mut cable, 1).await?;
    cable.say(&leave).await?;
    assert_eq!(last_words(cable).await, [goodbye()]);
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(gone.subscriptions, [room("1")]);

    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    let answer = poller.exchange(&leave).await?;
    assert_eq!(answer.frames()?, [goodbye()]);
    assert_eq!(poller.exchange("").await?.status, 401);
    chat.backend.call(Kind::Disconnect, 1).await?;
    chat.is_empty().await
}

async fn a_session_that_is_not_polled_any_more_is_gone(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("poll_keepalive_timeout", "1")]).await?;
    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    poller.hang_up();
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(
        (gone.sid.as_str(), gone.identifiers.as_str()),
        (poller.sid(), ANN)
    );
    assert_eq!(gone.subscriptions, [room("1")]);
    assert_eq!(gone.url, "http://localhost/lp?user=ann");
    assert_eq!(gone.cstate, crate::map([("seen", "1")]));
    assert_eq!(poller.exchange("").await?.status, 401);
    assert_eq!(chat.backend.calls_of(Kind::Disconnect).len(), 1);
    Ok(())
}

async fn users_are_disconnected_by_their_identifiers(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut ann = chat.cable("ann").await?;
    let mut polling = chat.poller("ann").await?;
    let mut bea = chat.cable("bea").await?;
    let command = frames::remote_disconnect(ANN, Some(false));
    assert_eq!(chat.node.broadcast(&command).await?.status, 201);
    let farewell = json!({"type": "disconnect", "reason": "remote", "reconnect": false});
    let (said, code, _) = ann.ending().await?;
    assert_eq!((said, code), (vec![farewell.clone()], 1000));
    assert_eq!(exchange(&mut polling, "", 1).await?, [farewell]);
    bea.subscribe(&room("1")).await?;
    for number in 0..2 {
        let gone = chat.backend.call(Kind::Disconnect, number).await?;
        assert_eq!(gone.identifiers, ANN);
    }
    Ok(())
}

async fn whoever_breaks_off_is_gone_too(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let cable = chat.cable("ann").await?;
    drop(cable);
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert!(gone.subscriptions.is_empty());
    let target = "/events?user=bea&channel=ChatChannel";
    let mut events = EventStream::open(&chat.node, target).await?;
    events.named("confirm_subscription").await?;
    drop(events);
    let gone = chat.backend.call(Kind::Disconnect, 1).await?;
    assert_eq!(gone.identifiers, r#"{"user":"bea"}"#);
    // A node that stops takes everybody along, and says so before it ends.
    let mut chat = chat;
    let mut left = Vec::new();
    for _ in 0..10 {
        left.push(chat.cable("cid").await?);
    }
    let status = chat.node.terminate(PATIENCE).await?;
    assert!(status.success(), "{status}");
    assert_eventually!(
        chat.backend.calls_of(Kind::Disconnect).len() == 12,
        PATIENCE
    );
    drop(left);
    Ok(())
}

async fn nobody_is_told_if_nobody_wants_to_know(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("disconnect_mode", "never")]).await?;
    let mut cable = chat.cable("ann").await?;
    cable.subscribe(&room("1")).await?;
    cable.close().await?;
    chat.is_empty().await?;
    // Whatever would have been said was said before this.
    chat.poller("bea").await?;
    assert!(chat.backend.calls_of(Kind::Disconnect).is_empty());
    Ok(())
}

async fn many_goodbyes_take_their_time(face: Face) -> Result<()> {
    const LEAVING: usize = 20;
    let flags = [
        ("disconnect_rate", "20"),
        ("disconnect_backlog_size", "100"),
    ];
    let chat = Chat::with(face, &flags).await?;
    let mut cables = Vec::new();
    for number in 0..LEAVING {
        cables.push(chat.cable(&format!("user{number}")).await?);
    }
    let start = Instant::now();
    drop(cables);
    chat.backend.call(Kind::Disconnect, LEAVING - 1).await?;
    // The first needs not wait.
    let (took, least) = (
        start.elapsed(),
        Duration::from_millis(50 * (LEAVING as u64 - 2)),
    );
    assert!(took >= least, "{took:?}");
    assert_eq!(chat.node.metric("disconnects_dropped_total").await?, 0.0);
    Ok(())
}
