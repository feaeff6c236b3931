//! Who is let in, and what the application is told of them.

use crate::{ANN, Chat, ends_retryably, greeting, is_retryable, map, room, unauthorized};
use anyhow::Result;
use pollux_testkit::{Cable, EventStream, Face, Kind, PATIENCE, Request, assert_eventually};
use serde_json::{Value, json};

over_both!(
    the_welcome_is_the_applications,
    who_is_refused_is_told_by_the_application,
    an_application_that_fails_sends_nobody_away_for_good,
    event_streams_ask_too,
    commands_may_come_with_the_first_request,
    other_dialects_ask_too,
    nobody_is_asked_if_nobody_is_to_be,
);

async fn the_welcome_is_the_applications(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let request = Request::post("/lp").header("Cookie", "theme=dark; user=ann");
    let answer = chat.node.ask(&request).await?;
    let call = chat.backend.call(Kind::Connect, 0).await?;
    let welcome = json!({"type": "welcome", "sid": call.sid});
    assert_eq!((answer.status, answer.frames()?), (200, vec![welcome]));
    assert!(answer.header("x-anycable-poll-id").is_some());
    assert_eq!(call.url, "http://localhost/lp");
    let headers = [
        ("REMOTE_ADDR", "127.0.0.1"),
        ("cookie", "theme=dark; user=ann"),
    ];
    assert_eq!(call.headers, map(headers));
    assert!(call.cstate.is_empty() && call.istate.is_empty());

    let mut cable = chat.socket("bea").await?;
    let welcome = cable.frame().await?;
    let call = chat.backend.call(Kind::Connect, 1).await?;
    assert_eq!(welcome, json!({"type": "welcome", "sid": call.sid}));
    let url = format!("http://{}/cable?user=bea", chat.node.address());
    assert_eq!(call.url, url);
    assert_eq!(call.headers, map([("REMOTE_ADDR", "127.0.0.1")]));
    Ok(())
}

async fn who_is_refused_is_told_by_the_application(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    for path in ["/lp?user=mallory", "/lp"] {
        let answer = chat.node.ask(&Request::post(path)).await?;
        assert_eq!(
            (answer.status, answer.frames()?),
            (401, vec![unauthorized()])
        );
        assert!(answer.header("x-anycable-poll-id").is_none());
    }
    let mut socket = chat.socket("mallory").await?;
    let ending = (vec![unauthorized()], 1000, "Auth Failed".to_owned());
    assert_eq!(socket.ending().await?, ending);
    chat.is_empty().await?;
    assert_eq!(chat.backend.calls_of(Kind::Connect).len(), 3);
    Ok(())
}

async fn an_application_that_fails_sends_nobody_away_for_good(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    is_retryable(&chat.open("crash").await?)?;
    ends_retryably(chat.socket("crash").await?).await?;
    // What it said may quote clients, and stays out of the log.
    let noted = "The backend answered a call with an error";
    assert_eventually!(chat.node.log().text().contains(noted), PATIENCE);
    let log = chat.node.log().text();
    assert!(!log.contains("the database is on fire"), "{log}");
    assert_eq!(chat.backend.calls_of(Kind::Connect).len(), 2);
    Ok(())
}

async fn event_streams_ask_too(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let encoded = "%7B%22channel%22%3A%22ChatChannel%22%2C%22room%22%3A%221%22%7D";
    let target = format!("/events?user=ann&identifier={encoded}");
    let mut events = EventStream::open(&chat.node, &target).await?;
    let welcome: Value = serde_json::from_str(&events.named("welcome").await?.data)?;
    let call = chat.backend.call(Kind::Connect, 0).await?;
    assert_eq!(welcome, json!({"type": "welcome", "sid": call.sid}));
    events.named("confirm_subscription").await?;
    assert_eq!(events.named("").await?.data, r#"{"hello":"ann"}"#);
    chat.node.publish("chat/1", &json!("news")).await?;
    assert_eq!(events.named("").await?.data, "news");
    let call = chat.backend.call(Kind::Subscribe, 0).await?;
    assert_eq!(
        (call.identifier, call.identifiers),
        (room("1"), ANN.to_owned())
    );

    let refused = target.replace("ann", "mallory");
    assert_eq!(chat.node.get(&refused).await?.status, 401);
    let rejected = target.replace("ChatChannel", "SecretChannel");
    assert_eq!(chat.node.get(&rejected).await?.status, 400);
    drop(events);
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(
        gone.subscriptions.len(),
        usize::from(!gone.istate.is_empty())
    );
    Ok(())
}

async fn commands_may_come_with_the_first_request(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let body = pollux_testkit::frames::subscribe(&room("1"));
    let open = |user: &str| Request::post(&format!("/lp?user={user}")).body(body.clone());
    let answer = chat.node.ask(&open("ann")).await?;
    let mut seen = answer.frames()?;
    let mut poller = pollux_testkit::Poller::from_open(chat.node.address(), &answer)?;
    while seen.len() < 3 {
        seen.extend(poller.poll().await?.frames);
    }
    assert_eq!(
        seen[1..],
        [crate::confirmed(&room("1")), greeting(&room("1"), "ann")]
    );
    // Who is refused has said nothing.
    assert_eq!(chat.node.ask(&open("mallory")).await?.status, 401);
    assert_eq!(chat.backend.calls_of(Kind::Subscribe).len(), 1);
    // A socket is told as much as it asked for.
    let bare = Cable::open_at(chat.node.address(), "/cable?user=ann", "").await?;
    assert_eq!(bare.protocol(), None);
    Ok(())
}

async fn other_dialects_ask_too(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("public_streams", "true")]).await?;
    for door in ["/ws/poll?session_id=a", "/poll?rcpt=a&timeout=1"] {
        chat.backend.forget();
        for (user, status) in [("mallory", 401), ("crash", 503)] {
            let answer = chat.node.get(&format!("{door}&user={user}")).await?;
            assert_eq!(answer.status, status, "{door} {user}");
        }
        chat.backend.call(Kind::Connect, 1).await?;
    }
    let path = "/ws/poll?session_id=a&user=ann";
    assert_eq!(chat.node.get(path).await?.status, 200);
    let call = chat.backend.call(Kind::Connect, 2).await?;
    assert_eq!(call.url, format!("http://localhost{path}"));
    Ok(())
}

async fn nobody_is_asked_if_nobody_is_to_be(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("norpc", "true")]).await?;
    let answer = chat.open("ann").await?;
    assert_eq!(
        (answer.status, answer.frames()?),
        (401, vec![unauthorized()])
    );
    let chat_too = Chat::with(face, &[("norpc", "true"), ("noauth", "true")]).await?;
    let mut poller = chat_too.poller("ann").await?;
    let (verdict, _) = poller.try_subscribe(&room("1")).await?;
    assert_eq!(verdict, "reject_subscription");
    assert!(chat.backend.calls().is_empty() && chat_too.backend.calls().is_empty());
    Ok(())
}
