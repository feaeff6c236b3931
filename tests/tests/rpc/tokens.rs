//! Tokens and signed names spare the application its calls.

use crate::{ANN, Chat, echo, exchange, greeting, hear, room, speak};
use anyhow::Result;
use pollux_testkit::{Cable, Face, Kind, PROTOCOLS, Poller, Request, frames, signed_stream, token};
use serde_json::json;

const SECRET: &str = "s3Krit";
const FLAGS: [(&str, &str); 2] = [("jwt_secret", SECRET), ("streams_secret", SECRET)];

over_both!(
    a_token_answers_for_the_application,
    who_never_needed_the_application_is_not_reported,
    all_are_reported_if_all_are_wanted,
    without_a_token_the_application_decides,
    public_streams_are_the_nodes_own,
);

fn ann() -> String {
    token(SECRET, &json!({"ext": ANN}))
}

async fn a_token_answers_for_the_application(face: Face) -> Result<()> {
    let chat = Chat::with(face, &FLAGS).await?;
    let ann = ann();
    let open = Request::post("/lp").header("X-JID", &ann);
    let mut poller = Poller::from_open(chat.node.address(), &chat.node.ask(&open).await?)?;
    let seen = exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    assert_eq!(seen.last(), Some(&greeting(&room("1"), "ann")));
    assert!(chat.backend.calls_of(Kind::Connect).is_empty());
    let call = chat.backend.call(Kind::Subscribe, 0).await?;
    assert_eq!(
        (call.identifiers.as_str(), call.sid.as_str()),
        (ANN, poller.sid())
    );
    assert_eq!(call.headers.get("x-jid"), Some(&ann));
    assert!(call.cstate.is_empty());
    // What is wrong with a token is not the application's to forgive.
    let forged = Request::post("/lp?user=ann").header("X-JID", "x");
    assert_eq!(chat.node.ask(&forged).await?.status, 401);
    assert!(chat.backend.calls_of(Kind::Connect).is_empty());
    Ok(())
}

async fn who_never_needed_the_application_is_not_reported(face: Face) -> Result<()> {
    let chat = Chat::with(face, &FLAGS).await?;
    let path = format!("/cable?jid={}", ann());
    let mut cable = Cable::open_at(chat.node.address(), &path, PROTOCOLS).await?;
    let name = signed_stream(SECRET, "a");
    cable.subscribe(&frames::signed(&name)).await?;
    cable.close().await?;
    chat.is_empty().await?;
    let mut cable = Cable::open_at(chat.node.address(), &path, PROTOCOLS).await?;
    cable.subscribe(&frames::signed(&name)).await?;
    cable.subscribe(&room("1")).await?;
    let sid = cable.sid().to_owned();
    cable.close().await?;
    // They are reported in order, so the first one was not.
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(gone.sid, sid);
    assert!(
        gone.subscriptions.contains(&room("1")),
        "{:?}",
        gone.subscriptions
    );
    assert_eq!(gone.identifiers, ANN);
    Ok(())
}

async fn all_are_reported_if_all_are_wanted(face: Face) -> Result<()> {
    let [one, other] = FLAGS;
    let chat = Chat::with(face, &[one, other, ("disconnect_mode", "always")]).await?;
    let path = format!("/cable?jid={}", ann());
    let cable = Cable::open_at(chat.node.address(), &path, PROTOCOLS).await?;
    cable.close().await?;
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(gone.identifiers, ANN);
    assert!(chat.backend.calls_of(Kind::Connect).is_empty());
    Ok(())
}

async fn without_a_token_the_application_decides(face: Face) -> Result<()> {
    let chat = Chat::with(face, &FLAGS).await?;
    let mut cable = chat.cable("bea").await?;
    cable.subscribe(&room("1")).await?;
    assert_eq!(hear(&mut cable, 1).await?, [greeting(&room("1"), "bea")]);
    // Signed names need nobody's leave.
    cable
        .subscribe(&frames::signed(&signed_stream(SECRET, "a")))
        .await?;
    assert_eq!(chat.backend.calls_of(Kind::Subscribe).len(), 1);
    let strict = Chat::with(face, &[("jwt_secret", SECRET), ("enforce_jwt", "true")]).await?;
    assert_eq!(strict.open("ann").await?.status, 401);
    assert!(strict.backend.calls().is_empty());
    Ok(())
}

async fn public_streams_are_the_nodes_own(face: Face) -> Result<()> {
    let closed = Chat::start(face).await?;
    let mut poller = closed.poller("ann").await?;
    let (verdict, _) = poller.try_subscribe(&frames::public("a")).await?;
    assert_eq!(verdict, "reject_subscription");
    let open = Chat::with(face, &[("public_streams", "true")]).await?;
    let mut poller = open.poller("ann").await?;
    poller.subscribe(&frames::public("a")).await?;
    for chat in [&closed, &open] {
        assert!(chat.backend.calls_of(Kind::Subscribe).is_empty());
    }
    // What is said on them is the application's to understand.
    let said = exchange(&mut poller, &speak(&frames::public("a"), "hi"), 1).await?;
    assert_eq!(said, [echo(&frames::public("a"), "hi", 1)]);
    Ok(())
}
