//! Who may connect: tokens, wherever a client can put them, and what happens
//! when they end.

use anyhow::{Context as _, Result, bail};
use pollux_testkit::{
    Cable, EventStream, Node, NodeBuilder, PATIENCE, Poller, Request, Response, assert_eventually,
    frames, signed_stream, token as made,
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "s3Krit";
const ANN: &str = r#"{"user":"ann"}"#;
const BEA: &str = r#"{"user":"bea"}"#;

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn signed(secret: &str, identifiers: &str, expires: Option<u64>) -> String {
    match expires {
        Some(expires) => made(secret, &json!({"ext": identifiers, "exp": expires})),
        None => made(secret, &json!({"ext": identifiers})),
    }
}

fn token(identifiers: &str) -> String {
    signed(SECRET, identifiers, None)
}

/// A node where a token is all that opens a session.
fn guarded() -> NodeBuilder {
    Node::builder()
        .flag("jwt_secret", SECRET)
        .switch("public_streams")
        .flag("broadcast_key", "key")
        .publish_with_key("key")
}

fn open(token: &str) -> Request {
    Request::post("/lp").header("X-JID", token)
}

async fn refused(node: &Node, request: &Request) -> Result<String> {
    let answer = node.ask(request).await?;
    reason(&answer)
}

fn reason(answer: &Response) -> Result<String> {
    assert_eq!(answer.status, 401);
    let frames = answer.frames()?;
    let [frame] = frames.as_slice() else {
        bail!("not one frame: {frames:?}")
    };
    assert_eq!(
        (&frame["type"], &frame["reconnect"]),
        (&json!("disconnect"), &json!(false))
    );
    Ok(frame["reason"].as_str().context("no reason")?.to_owned())
}

#[tokio::test]
async fn a_token_opens_a_poll_session_and_nothing_else_does() -> Result<()> {
    let node = guarded().spawn().await?;
    let ann = token(ANN);
    for request in [
        open(&ann),
        Request::post(&format!("/lp?jid={ann}")),
        Request::post("/lp").header("sec-websocket-protocol", &format!("anycable-token.{ann}")),
    ] {
        let answer = node.ask(&request).await?;
        assert_eq!(
            (answer.status, &answer.frames()?[0]["type"]),
            (200, &json!("welcome"))
        );
    }
    let past = signed(SECRET, ANN, Some(now()? - 1));
    assert_eq!(refused(&node, &open(&past)).await?, "token_expired");
    let forged = signed("guess", ANN, None);
    let cut = ann.get(..ann.len() - 1).context("too short")?.to_owned();
    let none = "eyJhbGciOiJub25lIn0.eyJleHQiOiJ7fSJ9.".to_owned();
    for wrong in [forged, cut, none, "x".to_owned()] {
        assert_eq!(
            refused(&node, &open(&wrong)).await?,
            "unauthorized",
            "{wrong}"
        );
    }
    assert_eq!(refused(&node, &Request::post("/lp")).await?, "unauthorized");
    let log = node.log().text();
    assert!(!log.contains(&ann) && !log.contains(SECRET), "{log}");
    Ok(())
}

#[tokio::test]
async fn sockets_and_streams_ask_for_it_too() -> Result<()> {
    let node = guarded().spawn().await?;
    let ann = token(ANN);
    let address = node.address();
    let protocols = format!("actioncable-v1-json, anycable-token.{ann}");
    let cable = Cable::open_at(address, "/cable", &protocols).await?;
    assert_eq!(cable.protocol(), Some("actioncable-v1-json"));
    let cable = Cable::open_at(address, &format!("/cable?jid={ann}"), "").await?;
    assert!(!cable.sid().is_empty());
    let mut events = EventStream::open(&node, &format!("/events?stream=a&jid={ann}")).await?;
    events.named("welcome").await?;
    for target in [
        "/events?stream=a",
        "/events?stream=a&jid=x",
        "/ws/poll?session_id=a",
        "/poll?rcpt=a",
    ] {
        assert_eq!(node.get(target).await?.status, 401, "{target}");
    }
    let held = format!("/ws/poll?session_id=a&jid={ann}");
    assert_eq!(node.get(&held).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn modes_and_secrets_say_who_needs_one() -> Result<()> {
    let lax = guarded().switch("noauth").spawn().await?;
    assert_eq!(lax.ask(&Request::post("/lp")).await?.status, 200);
    assert_eq!(refused(&lax, &open("x")).await?, "unauthorized");

    let strict = guarded()
        .switch("noauth")
        .switch("enforce_jwt")
        .spawn()
        .await?;
    assert_eq!(
        refused(&strict, &Request::post("/lp")).await?,
        "unauthorized"
    );
    assert_eq!(strict.ask(&open(&token(ANN))).await?.status, 200);

    let turning = guarded().flag("jwt_secret", "new,s3Krit").spawn().await?;
    assert_eq!(turning.ask(&open(&token(ANN))).await?.status, 200);
    let new = signed("new", ANN, None);
    assert_eq!(turning.ask(&open(&new)).await?.status, 200);

    // The application's one secret, and another name.
    let plain = Node::builder()
        .flag("secret", SECRET)
        .flag("jwt_param", "token")
        .spawn()
        .await?;
    let ann = token(ANN);
    let named = Request::post("/lp").header("X-Token", &ann);
    assert_eq!(plain.ask(&named).await?.status, 200);
    let query = Request::post(&format!("/lp?token={ann}"));
    assert_eq!(plain.ask(&query).await?.status, 200);
    assert_eq!(refused(&plain, &open(&ann)).await?, "unauthorized");
    Ok(())
}

#[tokio::test]
async fn a_backend_sends_a_user_away_by_the_tokens_identifiers() -> Result<()> {
    let node = guarded().spawn().await?;
    let mut polls = Vec::new();
    for who in [ANN, BEA] {
        let answer = node.ask(&open(&token(who))).await?;
        polls.push(Poller::from_open(node.address(), &answer)?);
    }
    let command = frames::remote_disconnect(ANN, Some(false));
    assert_eq!(node.broadcast(&command).await?.status, 201);
    let [ann, bea] = polls.as_mut_slice() else {
        bail!("not two")
    };
    let said = ann.exchange("").await?.frames()?;
    assert_eq!(said[0]["reason"], "remote");
    bea.subscribe(&frames::public("a")).await?;
    Ok(())
}

#[tokio::test]
async fn sessions_end_with_their_tokens() -> Result<()> {
    let node = guarded().spawn().await?;
    let soon = signed(SECRET, ANN, Some(now()? + 3));
    let poller = Poller::from_open(node.address(), &node.ask(&open(&soon)).await?)?;
    let mut parked = poller.park().await?;
    let mut cable = Cable::open_at(node.address(), &format!("/cable?jid={soon}"), "").await?;
    let mut events = EventStream::open(&node, &format!("/events?stream=a&jid={soon}")).await?;
    let kept = Poller::from_open(node.address(), &node.ask(&open(&token(ANN))).await?)?;
    let kept = kept.park().await?;

    let (said, code, _) = cable.ending().await?;
    let last = said.last().context("nothing said")?;
    let farewell = json!({"type": "disconnect", "reason": "token_expired", "reconnect": false});
    assert_eq!((last, code), (&farewell, 1000));
    let event = events.named("disconnect").await?;
    assert_eq!(serde_json::from_str::<Value>(&event.data)?, farewell);
    assert!(events.next().await?.is_none(), "the stream has ended");
    assert_eq!(parked.answer().await?.frames()?, [farewell]);
    let next = node.ask(&poller.request("")).await?;
    assert_eq!(next.status, 401);
    assert_eq!(node.metric("expired_tokens_total").await?, 3.0);
    assert_eq!(node.metric("parked_polls").await?, 1.0);
    drop(kept);
    Ok(())
}

#[tokio::test]
async fn a_poll_with_somebody_elses_token_is_refused() -> Result<()> {
    let node = guarded().spawn().await?;
    let answer = node.ask(&open(&token(ANN))).await?;
    let mut poller = Poller::from_open(node.address(), &answer)?;
    poller.subscribe(&frames::public("a")).await?;
    node.publish("a", &json!("for ann")).await?;
    let bea = token(BEA);
    let expired = signed(SECRET, ANN, Some(1));
    let id = poller.poll_id().to_owned();
    // The last goes to the other of the two servers of HTTP/1.1.
    for (request, why) in [
        (poller.request("").header("X-JID", &bea), "unauthorized"),
        (
            poller.request("").header("x-jid", "nonsense"),
            "unauthorized",
        ),
        (
            poller.request("").header("X-JID", &expired),
            "token_expired",
        ),
        (
            Request::post(&format!("/lp?jid={bea}")).header("X-Anycable-Poll-ID", &id),
            "unauthorized",
        ),
        (
            poller
                .request("")
                .header("X-JID", &bea)
                .header("Connection", "close"),
            "unauthorized",
        ),
    ] {
        assert_eq!(refused(&node, &request).await?, why);
    }
    // Its own, and none, are welcome; what came meanwhile waited.
    let own = poller.request("").header("X-JID", &token(ANN));
    assert_eq!(node.ask(&own).await?.frames()?[0]["message"], "for ann");
    node.publish("a", &json!("again")).await?;
    assert_eq!(poller.poll().await?.messages(), [json!("again")]);
    Ok(())
}

#[tokio::test]
async fn a_newer_token_prolongs_a_session() -> Result<()> {
    let node = guarded().spawn().await?;
    let ends = now()? + 3;
    let old = signed(SECRET, ANN, Some(ends));
    let mut poller = Poller::from_open(node.address(), &node.ask(&open(&old)).await?)?;
    let newer = signed(SECRET, ANN, Some(ends + 3_600));
    let body = frames::subscribe(&frames::public("a"));
    let answer = node
        .ask(&poller.request(&body).header("X-JID", &newer))
        .await?;
    assert_eq!(answer.frames()?[0]["type"], "confirm_subscription");
    let dies = Poller::from_open(node.address(), &node.ask(&open(&old)).await?)?;
    let farewell = dies.park().await?.answer().await?.frames()?;
    assert_eq!(farewell[0]["reason"], "token_expired");
    assert!(now()? >= ends);
    node.publish("a", &json!(1)).await?;
    assert_eq!(poller.poll().await?.messages(), [json!(1)]);
    Ok(())
}

#[tokio::test]
async fn coming_back_does_not_outlive_a_token() -> Result<()> {
    let node = guarded().spawn().await?;
    let protocol = "actioncable-v1-ext-json";
    let soon = signed(SECRET, ANN, Some(now()? + 3));
    let mut cable = Cable::open_at(node.address(), &format!("/cable?jid={soon}"), protocol).await?;
    cable.subscribe(&frames::public("a")).await?;
    let sid = cable.sid().to_owned();
    drop(cable);
    let back = format!("/lp?sid={sid}");
    let restored =
        |answer: Response| Ok::<_, anyhow::Error>(answer.frames()?[0]["restored"].clone());
    assert_eq!(
        restored(node.ask(&Request::post(&back)).await?)?,
        json!(true)
    );
    // Somebody else who knows the id gets a session of her own.
    let bea = Request::post(&back).header("X-JID", &token(BEA));
    assert_eq!(restored(node.ask(&bea).await?)?, Value::Null);
    let forged = Request::post(&back).header("X-JID", "x");
    assert_eq!(refused(&node, &forged).await?, "unauthorized");
    assert_eventually!(
        node.ask(&Request::post(&back)).await?.status == 401,
        PATIENCE
    );
    assert_eq!(
        refused(&node, &Request::post(&back)).await?,
        "token_expired"
    );
    let fresh = Request::post(&back).header("X-JID", &token(ANN));
    assert_eq!(restored(node.ask(&fresh).await?)?, json!(true));
    Ok(())
}

#[tokio::test]
async fn turbo_and_cable_ready_streams_are_signed() -> Result<()> {
    let signed = signed_stream(SECRET, "posts/1");
    let turbo = json!({"channel": "Turbo::StreamsChannel", "signed_stream_name": signed});
    let ready = json!({"channel": "CableReady::Stream", "identifier": signed});
    let node = Node::builder()
        .flag("streams_secret", SECRET)
        .switch("turbo_streams")
        .flag("cable_ready_streams", "true")
        .switch("noauth")
        .flag("broadcast_key", "key")
        .publish_with_key("key")
        .spawn()
        .await?;
    let mut poller = Poller::open(&node).await?;
    poller.subscribe(&turbo.to_string()).await?;
    poller.subscribe(&ready.to_string()).await?;
    let markup = json!("<turbo-stream action=\"append\"></turbo-stream>");
    node.publish("posts/1", &markup).await?;
    assert_eq!(poller.messages(2).await?, [markup.clone(), markup]);
    // They hear and say nothing.
    let whisper = frames::whisper(&turbo.to_string(), &json!("psst"));
    let parked = poller.park_with(&whisper).await?;
    assert_eventually!(
        node.metric("ignored_client_msg_total").await? == 1.0,
        PATIENCE
    );
    drop(parked);
    let forged =
        json!({"channel": "Turbo::StreamsChannel", "signed_stream_name": format!("{signed}0")});
    let (kind, _) = poller.try_subscribe(&forged.to_string()).await?;
    assert_eq!(kind, "reject_subscription");
    let mut events = EventStream::open(
        &node,
        &format!(
            "/events?turbo_signed_stream_name={}",
            signed.replace('=', "%3D")
        ),
    )
    .await?;
    events.named("confirm_subscription").await?;

    let own = Node::builder()
        .flag("secret", SECRET)
        .switch("noauth")
        .switch("turbo_streams")
        .flag("turbo_rails_key", "other")
        .spawn()
        .await?;
    let mut poller = Poller::open(&own).await?;
    for identifier in [&turbo, &ready] {
        let (kind, _) = poller.try_subscribe(&identifier.to_string()).await?;
        assert_eq!(kind, "reject_subscription");
    }
    Ok(())
}
