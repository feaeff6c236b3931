//! What subscribing and speaking bring.

use crate::{
    Chat, channel, confirmed, echo, exchange, greeting, hear, perform, plain, room, speak,
};
use anyhow::Result;
use pollux_testkit::{Face, Kind, frames};
use serde_json::{Value, json};

over_both!(
    a_subscription_brings_what_the_application_says,
    what_is_rejected_brings_nothing,
    a_subscription_may_have_two_streams,
    streams_come_and_go,
    subscriptions_end,
    whispers_and_presence_are_the_applications_to_allow,
    history_follows_the_greeting,
    failures_are_nobodys_end,
);

async fn a_subscription_brings_what_the_application_says(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    let chat_1 = room("1");
    let body = frames::subscribe(&chat_1);
    let seen = exchange(&mut poller, &body, 2).await?;
    assert_eq!(seen, [confirmed(&chat_1), greeting(&chat_1, "ann")]);
    chat.node.publish("chat/1", &json!({"n": 1})).await?;
    assert_eq!(poller.messages(1).await?, [json!({"n": 1})]);
    let seen = exchange(&mut poller, &speak(&chat_1, "hi"), 1).await?;
    assert_eq!(seen, [echo(&chat_1, "hi", 1)]);
    // Asked again, the node knows the answer.
    let seen = exchange(&mut poller, &(body + &speak(&chat_1, "so?")), 1).await?;
    assert_eq!(seen.last(), Some(&echo(&chat_1, "so?", 2)));
    assert_eq!(chat.backend.calls_of(Kind::Subscribe).len(), 1);

    let call = chat.backend.call(Kind::Message, 0).await?;
    assert_eq!(call.sid, poller.sid());
    assert_eq!(
        (call.identifier.as_str(), call.identifiers.as_str()),
        (&*chat_1, crate::ANN)
    );
    assert_eq!(call.data, r#"{"action":"speak","text":"hi"}"#);
    assert_eq!(call.url, "http://localhost/lp?user=ann");
    Ok(())
}

async fn what_is_rejected_brings_nothing(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    let secret = channel("SecretChannel");
    for _ in 0..2 {
        let (verdict, others) = poller.try_subscribe(&secret).await?;
        assert_eq!((verdict.as_str(), others.len()), ("reject_subscription", 0));
    }
    assert_eq!(chat.backend.calls_of(Kind::Subscribe).len(), 2);
    // There is no subscription on which something could be said.
    poller.subscribe(&room("1")).await?;
    let body = speak(&secret, "let me in") + &speak(&room("1"), "hi");
    let seen = exchange(&mut poller, &body, 1).await?;
    assert_eq!(seen.last(), Some(&echo(&room("1"), "hi", 1)));
    assert_eq!(chat.backend.calls_of(Kind::Message).len(), 1);
    Ok(())
}

async fn a_subscription_may_have_two_streams(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    let both = json!({"channel": "ChatChannel", "room": "1", "with": "2"}).to_string();
    cable.subscribe(&both).await?;
    assert_eq!(hear(&mut cable, 1).await?, [greeting(&both, "ann")]);
    for stream in ["chat/1", "chat/2"] {
        chat.node.publish(stream, &json!(stream)).await?;
        let seen = plain(cable.frame().await?);
        assert_eq!(seen, json!({"identifier": both, "message": stream}));
    }
    // Two subscriptions to one stream both hear.
    cable.subscribe(&room("2")).await?;
    assert_eq!(hear(&mut cable, 1).await?, [greeting(&room("2"), "ann")]);
    chat.node.publish("chat/2", &json!(2)).await?;
    let mut heard = hear(&mut cable, 2).await?;
    heard.sort_by_key(|frame| frame["identifier"].to_string().len());
    let expected = [&room("2"), &both];
    let expected = expected.map(|identifier| json!({"identifier": identifier, "message": 2}));
    assert_eq!(heard, expected);
    Ok(())
}

async fn streams_come_and_go(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    let quiet = channel("QuietChannel");
    poller.subscribe(&quiet).await?;
    let about =
        |action: &str, stream: &str| perform(&quiet, &json!({"action": action, "stream": stream}));
    // Publications to both streams, and an echo after them: what was heard in between.
    let mut rounds = 0;
    let mut heard_after = async |commands: &str| -> Result<Vec<Value>> {
        rounds += 1;
        exchange(
            &mut poller,
            &format!("{commands}{}", speak(&quiet, "done")),
            1,
        )
        .await?;
        for stream in ["x", "y"] {
            chat.node.publish(stream, &json!(stream)).await?;
        }
        chat.node.fanned_out(2 * rounds).await?;
        let seen = exchange(&mut poller, &speak(&quiet, "heard"), 1).await?;
        let mut messages = frames::messages(&seen);
        while messages.last().is_none_or(|last| last["said"] != "heard") {
            messages.extend(poller.poll().await?.messages());
        }
        messages.pop();
        Ok(messages)
    };
    assert_eq!(heard_after("").await?, Vec::<Value>::new());
    assert_eq!(heard_after(&about("follow", "x")).await?, ["x"]);
    assert_eq!(heard_after(&about("follow", "y")).await?, ["x", "y"]);
    assert_eq!(heard_after(&about("unfollow", "x")).await?, ["y"]);
    assert_eq!(heard_after(&about("follow", "x")).await?.len(), 2);
    assert_eq!(heard_after(&about("mute", "")).await?, Vec::<Value>::new());
    assert_eq!(heard_after(&about("follow", "x")).await?, ["x"]);
    Ok(())
}

async fn subscriptions_end(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    for name in ["1", "2"] {
        cable.subscribe(&room(name)).await?;
        hear(&mut cable, 1).await?;
    }
    cable.say(&frames::unsubscribe(&room("1"))).await?;
    let call = chat.backend.call(Kind::Unsubscribe, 0).await?;
    assert_eq!((call.identifier, call.data), (room("1"), String::new()));
    assert_eq!(call.istate, crate::map([("room", "1")]));
    // What it does not have any more is not asked for.
    cable.say(&speak(&room("1"), "still here?")).await?;
    cable.say(&frames::unsubscribe(&room("1"))).await?;
    cable.say(&speak(&room("2"), "hi")).await?;
    assert_eq!(hear(&mut cable, 1).await?, [echo(&room("2"), "hi", 1)]);
    assert_eq!(chat.backend.calls_of(Kind::Unsubscribe).len(), 1);
    chat.node.publish("chat/1", &json!(1)).await?;
    chat.node.publish("chat/2", &json!(2)).await?;
    assert_eq!(cable.messages(1).await?, [json!(2)]);
    // And it can be had again, with nothing of what was.
    cable.subscribe(&room("1")).await?;
    assert_eq!(hear(&mut cable, 1).await?, [greeting(&room("1"), "ann")]);
    let call = chat.backend.call(Kind::Subscribe, 2).await?;
    assert!(call.istate.is_empty());
    Ok(())
}

async fn whispers_and_presence_are_the_applications_to_allow(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let present = json!({"channel": "PresenceChannel", "room": "1"}).to_string();
    let told = |user: &str, kind: &str| match kind {
        "join" => json!({"type": "join", "id": user, "info": {"name": user}}),
        _ => json!({"type": kind, "id": user}),
    };
    let mut bea = chat.cable("bea").await?;
    bea.subscribe(&present).await?;
    assert_eq!(bea.frame().await?["message"], told("bea", "join"));
    let mut ann = chat.cable("ann").await?;
    ann.subscribe(&present).await?;
    let seen = bea.frame().await?;
    assert_eq!(
        (&seen["type"], &seen["message"]),
        (&json!("presence"), &told("ann", "join"))
    );
    assert_eq!(ann.frame().await?["message"], told("ann", "join"));
    let who = json!({"command": "presence", "identifier": present});
    bea.say(&who.to_string()).await?;
    assert_eq!(bea.frame().await?["message"]["total"], 2);

    ann.say(&frames::whisper(&present, &json!("psst"))).await?;
    assert_eq!(bea.messages(1).await?, [json!("psst")]);
    // In a room nobody said that they may.
    bea.subscribe(&room("1")).await?;
    ann.subscribe(&room("1")).await?;
    assert_eq!(hear(&mut bea, 1).await?, [greeting(&room("1"), "bea")]);
    ann.say(&frames::whisper(&room("1"), &json!("psst")))
        .await?;
    ann.say(&frames::unsubscribe(&present)).await?;
    assert_eq!(bea.frame().await?["message"], told("ann", "leave"));
    Ok(())
}

async fn history_follows_the_greeting(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    for number in 1..=2 {
        chat.node.publish("chat/1", &json!(number)).await?;
    }
    let chat_1 = room("1");
    let mut cable = chat.cable("ann").await?;
    let history = json!({"since": 1});
    cable
        .say(&frames::subscribe_with_history(&chat_1, &history))
        .await?;
    let message = |number: u64| json!({"identifier": chat_1, "message": number});
    let expected = [
        confirmed(&chat_1),
        greeting(&chat_1, "ann"),
        message(1),
        message(2),
        json!({"type": "confirm_history", "identifier": chat_1}),
    ];
    assert_eq!(hear(&mut cable, 5).await?, expected);
    // What is refused has none.
    let secret = channel("SecretChannel");
    cable
        .say(&frames::subscribe_with_history(&secret, &history))
        .await?;
    assert_eq!(cable.frame().await?["type"], "reject_subscription");
    cable.say(&frames::history(&chat_1, &history)).await?;
    assert_eq!(hear(&mut cable, 2).await?, [message(1), message(2)]);
    Ok(())
}

async fn failures_are_nobodys_end(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    let chat_1 = room("1");
    cable.subscribe(&chat_1).await?;
    hear(&mut cable, 1).await?;
    for action in ["crash", "dance"] {
        cable
            .say(&perform(&chat_1, &json!({"action": action})))
            .await?;
    }
    cable
        .say(&frames::subscribe(&channel("CrashChannel")))
        .await?;
    cable.say(&speak(&chat_1, "well?")).await?;
    let mut said = cable.frame().await?;
    if frames::kind(&said) == "reject_subscription" {
        said = cable.frame().await?;
    }
    assert_eq!(said, echo(&chat_1, "well?", 1));
    // None is tried again.
    assert_eq!(chat.backend.calls_of(Kind::Message).len(), 3);
    assert_eq!(chat.backend.calls_of(Kind::Subscribe).len(), 2);
    // It was no subscription, so it can be asked for again.
    cable
        .say(&frames::subscribe(&channel("CrashChannel")))
        .await?;
    chat.backend.call(Kind::Subscribe, 2).await?;
    Ok(())
}
