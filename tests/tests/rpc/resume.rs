//! Whoever comes back is who they were: the application is not asked again.

use crate::{Chat, echo, hear, map, node, room, speak};
use anyhow::Result;
use pollux_testkit::{
    Backend, Cable, Face, Kind, Node, PATIENCE, PROTOCOLS, Poller, Redis, Request,
    assert_eventually,
};
use serde_json::{Value, json};
use tokio::time::Instant;

over_both!(
    a_session_comes_back_with_its_streams_and_states,
    a_session_comes_back_on_another_node,
    a_poll_session_moves_to_another_node,
);

/// Comes back over a socket, as soon as the session can be restored. Says how often the
/// application was asked while it was.
async fn come_back(node: &Node, sid: &str, backend: &Backend) -> Result<(Cable, Value, usize)> {
    let path = format!("/cable?sid={sid}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = backend.calls_of(Kind::Connect).len();
        let headers = [("Sec-WebSocket-Protocol", PROTOCOLS)];
        let mut cable = Cable::connect(node.address(), &path, &headers).await?;
        let welcome = cable.frame().await?;
        // What was subscribed a moment ago may not be written yet.
        if welcome["restored"] == true || Instant::now() > deadline {
            let asked = backend.calls_of(Kind::Connect).len() - asked;
            return Ok((cable, welcome, asked));
        }
    }
}

/// A session with something to lose, that breaks off.
async fn leave(chat: &Chat) -> Result<String> {
    let mut cable = chat.cable("ann").await?;
    cable.subscribe(&room("1")).await?;
    cable.say(&speak(&room("1"), "hi")).await?;
    hear(&mut cable, 2).await?;
    Ok(cable.sid().to_owned())
}

async fn is_as_it_was(
    mut cable: Cable,
    welcome: &Value,
    node: &Node,
    backend: &Backend,
) -> Result<()> {
    assert_eq!(welcome["restored"], true, "{welcome}");
    assert_eq!(welcome["restored_ids"], json!([room("1")]));
    node.publish("chat/1", &json!("news")).await?;
    assert_eq!(cable.messages(1).await?, [json!("news")]);
    cable.say(&speak(&room("1"), "me again")).await?;
    assert_eq!(
        hear(&mut cable, 1).await?,
        [echo(&room("1"), "me again", 2)]
    );
    let call = backend.call(Kind::Message, 1).await?;
    assert_eq!(call.identifiers, crate::ANN);
    assert_eq!(call.cstate, map([("seen", "1"), ("total", "1")]));
    assert_eq!(call.istate, map([("n", "1"), ("room", "1")]));
    assert_eq!(call.sid, welcome["sid"]);
    assert_eq!(backend.calls_of(Kind::Subscribe).len(), 1);
    Ok(())
}

async fn a_session_comes_back_with_its_streams_and_states(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let sid = leave(&chat).await?;
    let (cable, welcome, asked) = come_back(&chat.node, &sid, &chat.backend).await?;
    assert_eq!(asked, 0);
    is_as_it_was(cable, &welcome, &chat.node, &chat.backend).await
}

/// Waits until what the session is now has been written.
async fn is_written(redis: &Redis, sid: &str) -> Result<()> {
    let key = format!("pollux:session:{{{sid}}}");
    assert_eventually!(redis.cli(&["GET", &key]).await?.contains("total"), PATIENCE);
    Ok(())
}

async fn two_nodes(face: Face) -> Result<(Chat, Node, Redis)> {
    let redis = Redis::spawn().await?;
    let backend = Backend::builder(face).start().await?;
    let second = node(&backend).redis(&redis).spawn_ready().await?;
    let node = node(&backend).redis(&redis).spawn_ready().await?;
    Ok((Chat { node, backend }, second, redis))
}

async fn a_session_comes_back_on_another_node(face: Face) -> Result<()> {
    let (mut chat, second, redis) = Box::pin(two_nodes(face)).await?;
    let sid = leave(&chat).await?;
    is_written(&redis, &sid).await?;
    chat.node.kill()?;
    let (cable, welcome, asked) = come_back(&second, &sid, &chat.backend).await?;
    assert_eq!(asked, 0);
    is_as_it_was(cable, &welcome, &second, &chat.backend).await
}

async fn a_poll_session_moves_to_another_node(face: Face) -> Result<()> {
    let (chat, second, _redis) = Box::pin(two_nodes(face)).await?;
    let mut poller = chat.poller("ann").await?;
    poller.subscribe(&room("1")).await?;
    crate::exchange(&mut poller, &speak(&room("1"), "hi"), 1).await?;
    // The restored session is a new one, opened with the old one's id.
    let back = Request::post(&format!("/lp?sid={}", poller.sid()));
    let deadline = Instant::now() + PATIENCE;
    let (answer, asked) = loop {
        let before = chat.backend.calls_of(Kind::Connect).len();
        let answer = second.ask(&back).await?;
        if answer.status == 200 || Instant::now() > deadline {
            break (answer, chat.backend.calls_of(Kind::Connect).len() - before);
        }
    };
    assert_eq!(
        (answer.frames()?[0]["restored"].clone(), asked),
        (json!(true), 0)
    );
    let mut poller = Poller::from_open(second.address(), &answer)?;
    let seen = crate::exchange(&mut poller, &speak(&room("1"), "me again"), 1).await?;
    assert_eq!(seen.last(), Some(&echo(&room("1"), "me again", 2)));
    let call = chat.backend.call(Kind::Message, 1).await?;
    assert_eq!(call.cstate, map([("seen", "1"), ("total", "1")]));
    Ok(())
}
