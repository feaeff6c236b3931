//! Everything in its order, also when the application takes its time.

use crate::{Chat, confirmed, echo, exchange, greeting, is_retryable, plain, room, speak};
use anyhow::Result;
use pollux_testkit::{Connection, Face, Kind, PATIENCE, Request, assert_eventually, frames};
use serde_json::{Value, json};
use std::time::Duration;

const SLOW: Duration = Duration::from_millis(200);

over_both!(
    news_comes_after_the_greeting,
    commands_of_two_requests_run_one_after_the_other,
    a_socket_is_not_deaf_while_the_application_thinks,
    a_poll_is_answered_while_the_application_thinks,
    sessions_do_not_wait_for_each_other,
    too_many_are_sent_away_at_once,
);

/// A confirmation, a greeting, and then publications without a hole.
fn is_in_order(seen: &[Value]) -> bool {
    let chat_1 = room("1");
    let numbers: Vec<_> = seen
        .iter()
        .skip(2)
        .map(|frame| frame["message"].as_u64())
        .collect();
    seen.starts_with(&[confirmed(&chat_1), greeting(&chat_1, "ann")])
        && numbers.windows(2).all(|pair| match pair {
            [Some(one), Some(next)] => one + 1 == *next,
            _ => false,
        })
}

async fn news_comes_after_the_greeting(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    chat.backend.slow(SLOW);
    let mut cable = chat.cable("ann").await?;
    let mut poller = chat.poller("ann").await?;
    let subscribing = async {
        cable.say(&frames::subscribe(&room("1"))).await?;
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.push(plain(cable.frame().await?));
        }
        assert!(is_in_order(&seen), "{seen:?}");
        let seen = exchange(&mut poller, &frames::subscribe(&room("1")), 6).await?;
        assert!(is_in_order(&seen), "{seen:?}");
        Ok(())
    };
    let publishing = async {
        for number in 0_u64.. {
            chat.node.publish("chat/1", &json!(number)).await?;
        }
        Ok(())
    };
    tokio::select! {
        done = subscribing => done,
        done = publishing => done,
    }
}

async fn commands_of_two_requests_run_one_after_the_other(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    chat.backend.slow(SLOW);
    let said = |texts: [&str; 3]| texts.map(|text| speak(&room("1"), text)).concat();
    let first = poller.park_with(&said(["a", "b", "c"])).await?;
    // The second request comes while the first one's commands run.
    chat.backend.call(Kind::Message, 0).await?;
    let second = poller.park_with(&said(["d", "e", "f"])).await?;
    let last = chat.backend.call(Kind::Message, 5).await?;
    let calls = chat.backend.calls_of(Kind::Message);
    let texts: Vec<Value> = calls
        .iter()
        .map(|call| Ok(serde_json::from_str::<Value>(&call.data)?["text"].clone()))
        .collect::<Result<_>>()?;
    assert_eq!(texts, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(chat.backend.running().1, 1, "no two at once");
    assert_eq!(last.istate, crate::map([("n", "5"), ("room", "1")]));
    drop((first, second));
    Ok(())
}

async fn a_socket_is_not_deaf_while_the_application_thinks(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut cable = chat.cable("ann").await?;
    cable.subscribe(&room("1")).await?;
    assert_eq!(cable.frame().await?, greeting(&room("1"), "ann"));
    chat.backend.slow(Duration::from_secs(2));
    cable.say(&speak(&room("1"), "hm")).await?;
    chat.backend.call(Kind::Message, 0).await?;
    chat.node.publish("chat/1", &json!("news")).await?;
    assert_eq!(plain(cable.frame().await?)["message"], "news");
    assert_eq!(chat.backend.running().0, 1, "it still thinks");
    assert_eq!(cable.frame().await?, echo(&room("1"), "hm", 1));
    Ok(())
}

async fn a_poll_is_answered_while_the_application_thinks(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    chat.backend.slow(Duration::from_secs(2));
    let mut asking = poller.park_with(&speak(&room("1"), "hm")).await?;
    chat.backend.call(Kind::Message, 0).await?;
    chat.node.publish("chat/1", &json!("news")).await?;
    let heard = poller.understand(asking.answer().await?)?;
    assert_eq!(heard.messages(), [json!("news")]);
    assert_eq!(chat.backend.running().0, 1, "it still thinks");
    assert_eq!(
        exchange(&mut poller, "", 1).await?,
        [echo(&room("1"), "hm", 1)]
    );
    Ok(())
}

async fn sessions_do_not_wait_for_each_other(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("rpc_concurrency", "3")]).await?;
    chat.backend.slow(SLOW);
    let opened = (0..9).map(|number| {
        let user = format!("user{number}");
        let chat = &chat;
        async move { chat.open(&user).await }
    });
    for answer in futures_util::future::join_all(opened).await {
        assert_eq!(answer?.status, 200);
    }
    // As many as may run do, and no more.
    assert_eq!(chat.backend.running(), (0, 3));
    Ok(())
}

async fn too_many_are_sent_away_at_once(face: Face) -> Result<()> {
    let flags = [("rpc_concurrency", "1"), ("rpc_max_waiting", "1")];
    let chat = Chat::with(face, &flags).await?;
    chat.backend.slow(Duration::from_secs(1));
    let mut waiting = Vec::new();
    for user in ["ann", "bea"] {
        let mut client = Connection::open(chat.node.address()).await?;
        client
            .send(&Request::post(&format!("/lp?user={user}")))
            .await?;
        waiting.push(client);
        let expected = waiting.len() as f64;
        assert_eventually!(
            chat.node.metric("rpc_pending_num").await? == expected,
            PATIENCE
        );
    }
    is_retryable(&chat.open("cid").await?)?;
    assert_eq!(chat.backend.running().0, 1, "nobody is let in yet");
    for client in &mut waiting {
        assert_eq!(client.response().await?.status, 200);
    }
    assert_eq!(chat.node.metric("rpc_refused_total").await?, 1.0);
    Ok(())
}
