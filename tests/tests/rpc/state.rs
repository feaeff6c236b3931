//! What the application keeps with connections and channels comes back with every call.

use crate::{ANN, Chat, echo, exchange, hear, map, perform, room, speak};
use anyhow::{Context as _, Result};
use pollux_testkit::{Face, Kind, frames};
use serde_json::{Value, json};
use std::collections::BTreeMap;

over_both!(
    states_come_back,
    whoever_is_gone_takes_all_states_along,
    states_are_kept_over_long_polling,
);

async fn states_come_back(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    let subscribed = |number| chat.backend.call(Kind::Subscribe, number);
    for (number, name) in ["1", "2"].into_iter().enumerate() {
        cable.subscribe(&room(name)).await?;
        hear(&mut cable, 1).await?;
        let call = subscribed(number).await?;
        assert_eq!(
            (call.cstate, call.istate),
            (map([("seen", "1")]), BTreeMap::new())
        );
    }
    for (name, number) in [("1", 1), ("1", 2), ("2", 1), ("1", 3)] {
        let identifier = room(name);
        cable.say(&speak(&identifier, "hi")).await?;
        assert_eq!(
            hear(&mut cable, 1).await?,
            [echo(&identifier, "hi", number)]
        );
    }
    cable
        .say(&perform(&room("2"), &json!({"action": "forget"})))
        .await?;
    cable.say(&speak(&room("2"), "bye")).await?;
    hear(&mut cable, 1).await?;
    let calls = chat.backend.calls_of(Kind::Message);
    let states: Vec<_> = calls
        .into_iter()
        .map(|call| (call.cstate, call.istate))
        .collect();
    let expected = [
        (map([("seen", "1")]), map([("room", "1")])),
        (
            map([("seen", "1"), ("total", "1")]),
            map([("n", "1"), ("room", "1")]),
        ),
        (map([("seen", "1"), ("total", "2")]), map([("room", "2")])),
        (
            map([("seen", "1"), ("total", "3")]),
            map([("n", "2"), ("room", "1")]),
        ),
        (
            map([("seen", "1"), ("total", "4")]),
            map([("n", "1"), ("room", "2")]),
        ),
        (map([("total", "4")]), map([("n", "1"), ("room", "2")])),
    ];
    assert_eq!(states, expected);
    Ok(())
}

async fn whoever_is_gone_takes_all_states_along(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    for name in ["1", "2", "3"] {
        cable.subscribe(&room(name)).await?;
        hear(&mut cable, 1).await?;
    }
    cable.say(&frames::unsubscribe(&room("3"))).await?;
    cable.say(&speak(&room("2"), "hi")).await?;
    hear(&mut cable, 1).await?;
    let sid = cable.sid().to_owned();
    cable.close().await?;
    let mut gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!((gone.sid, gone.identifiers.as_str()), (sid, ANN));
    gone.subscriptions.sort();
    assert_eq!(gone.subscriptions, [room("1"), room("2")]);
    assert_eq!(gone.cstate, map([("seen", "1"), ("total", "1")]));
    assert_eq!(
        gone.url,
        format!("http://{}/cable?user=ann", chat.node.address())
    );
    let state = |name: &str| -> Result<Value> {
        let json = gone.istate.get(&room(name)).context("no state")?;
        Ok(serde_json::from_str(json)?)
    };
    assert_eq!(gone.istate.len(), 2);
    assert_eq!(state("1")?, json!({"room": "1"}));
    assert_eq!(state("2")?, json!({"room": "2", "n": "1"}));
    Ok(())
}

async fn states_are_kept_over_long_polling(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    // Several commands of one body each see what the one before left.
    let body = speak(&room("1"), "a") + &speak(&room("1"), "b") + &speak(&room("1"), "c");
    let seen = exchange(&mut poller, &body, 3).await?;
    let expected = [("a", 1), ("b", 2), ("c", 3)];
    assert_eq!(
        seen,
        expected.map(|(text, number)| echo(&room("1"), text, number))
    );
    let last = chat.backend.call(Kind::Message, 2).await?;
    assert_eq!(last.istate, map([("n", "2"), ("room", "1")]));
    assert_eq!(last.cstate, map([("seen", "1"), ("total", "2")]));
    Ok(())
}
