//! Rooms and mailboxes of two nodes that share a Redis, which the originals do not have.

use anyhow::{Result, ensure};
use pollux_testkit::{Cable, Connection, Node, PATIENCE, Redis, Request, assert_eventually};
use serde_json::{Value, json};

struct Pair {
    redis: Redis,
    here: Node,
    there: Node,
}

async fn pair(capacity: &str) -> Result<Pair> {
    let redis = Redis::spawn().await?;
    let node = || {
        Node::builder()
            .redis(&redis)
            .flag("mailbox_timeout", "15s")
            .flag("mailbox_capacity", capacity)
            .spawn_ready()
    };
    let (here, there) = (node().await?, node().await?);
    Ok(Pair { redis, here, there })
}

async fn waiting(node: &Node, target: &str) -> Result<Connection> {
    let parked = node.metric("parked_polls").await?;
    let mut connection = Connection::open(node.address()).await?;
    connection.send(&Request::get(target)).await?;
    assert_eventually!(node.metric("parked_polls").await? > parked, PATIENCE);
    Ok(connection)
}

async fn sent(node: &Node, n: u64) -> Result<()> {
    let body = json!({"type": "t", "room": "r", "payload": {"n": n}});
    let request = Request::post("/ws/send").body(body.to_string());
    let answer = node.ask(&request).await?;
    ensure!(answer.status == 202, "{answer:?}");
    Ok(())
}

async fn polled(connection: &mut Connection, more: &str) -> Result<Vec<u64>> {
    let target = format!("/ws/poll?session_id=room:r{more}");
    let answer = connection.ask(&Request::get(&target)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    numbers(answer.text()?)
}

fn numbers(array: &str) -> Result<Vec<u64>> {
    let messages: Vec<Value> = serde_json::from_str(array)?;
    let number = |message: &Value| message["payload"]["n"].as_u64();
    Ok(messages.iter().filter_map(number).collect())
}

async fn pushed(node: &Node, body: &str) -> Result<u16> {
    let request = Request::post("/push?rcpt=a").body(body);
    Ok(node.ask(&request).await?.status)
}

#[tokio::test]
async fn a_message_is_taken_once_in_order_on_any_node() -> Result<()> {
    let Pair { here, there, .. } = &pair("0").await?;
    for n in 0..20 {
        sent(if n % 2 == 0 { here } else { there }, n).await?;
    }
    let mut one = Connection::open(here.address()).await?;
    let mut two = Connection::open(there.address()).await?;
    assert_eq!(polled(&mut one, "&max=5").await?, [0, 1, 2, 3, 4]);
    assert_eq!(polled(&mut two, "&max=5").await?, [5, 6, 7, 8, 9]);
    assert_eq!(polled(&mut two, "").await?, (10..20).collect::<Vec<_>>());
    assert!(polled(&mut one, "").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn pollers_of_both_nodes_share_without_loss() -> Result<()> {
    let Pair { here, there, .. } = &pair("0").await?;
    let mut pollers = Vec::new();
    for number in 0..10 {
        let node = if number % 2 == 0 { here } else { there };
        let mut connection = Connection::open(node.address()).await?;
        pollers.push(tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let some = polled(&mut connection, "&max=3&wait=2").await?;
                if some.is_empty() {
                    return anyhow::Ok(got);
                }
                got.extend(some);
            }
        }));
    }
    for n in 0..100 {
        sent(if n % 3 == 0 { here } else { there }, n).await?;
    }
    let mut all = Vec::new();
    for poller in pollers {
        let got = poller.await??;
        assert!(got.is_sorted(), "{got:?}");
        all.extend(got);
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_waiting_poll_hears_of_the_other_node_and_of_redis() -> Result<()> {
    let Pair { redis, here, there } = &pair("0").await?;
    let target = "/ws/poll?session_id=room:r&wait=15";
    let mut poll = waiting(there, target).await?;
    sent(here, 1).await?;
    assert_eq!(numbers(poll.response().await?.text()?)?, [1]);
    let mut poll = waiting(there, target).await?;
    let data = r#"{"type":"t","payload":{"n":2}}"#;
    let call = ["FCALL", "pollux_publish", "1", "pollux:{room:r}", data];
    redis.cli(&call).await?;
    assert_eq!(numbers(poll.response().await?.text()?)?, [2]);
    // PUBLISH is kept nowhere, so who waits gets it.
    let mut poll = waiting(there, target).await?;
    let message = json!({"stream": "room:r", "data": r#"{"type":"t","payload":{"n":3}}"#});
    redis.publish("__anycable__", &message.to_string()).await?;
    assert_eq!(numbers(poll.response().await?.text()?)?, [3]);
    Ok(())
}

#[tokio::test]
async fn sockets_of_one_room_are_on_both_nodes() -> Result<()> {
    let Pair { here, there, .. } = &pair("0").await?;
    let mut sockets = Vec::new();
    for node in [here, there] {
        let mut socket = Cable::connect(node.address(), "/ws", &[]).await?;
        let join = r#"{"type":"chat.join","payload":{"room":"r","user":"u"}}"#;
        socket.say(join).await?;
        while socket.frame().await?["type"] != "chat.system" {}
        sockets.push(socket);
    }
    sockets[0]
        .say(r#"{"type":"chat.message","payload":{"text":"hi"}}"#)
        .await?;
    sent(there, 7).await?;
    for socket in &mut sockets {
        let mut types = Vec::new();
        while types.len() < 2 {
            let frame = socket.frame().await?;
            let kind = frame["type"].as_str().unwrap_or_default().to_owned();
            if matches!(&*kind, "chat.message" | "t") {
                types.push(kind);
            }
        }
        types.sort();
        assert_eq!(types, ["chat.message", "t"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_push_finds_the_poll_that_waits_on_the_other_node() -> Result<()> {
    let Pair { here, there, .. } = &pair("0").await?;
    assert_eq!(pushed(here, "x").await?, 503);
    let mut poll = waiting(there, "/poll?rcpt=a").await?;
    assert_eq!(pushed(here, "hi").await?, 200);
    assert_eq!(poll.response().await?.text()?, "hi");
    assert_eq!(pushed(here, "x").await?, 503);
    let poll = waiting(there, "/poll?rcpt=a").await?;
    poll.reset()?;
    assert_eventually!(there.metric("sessions").await? == 0.0, PATIENCE);
    let mut last = 0;
    for _ in 0..3 {
        last = pushed(here, "x").await?;
        if last == 503 {
            break;
        }
        here.get("/poll?rcpt=a").await?;
    }
    assert_eq!(last, 503);
    Ok(())
}

#[tokio::test]
async fn a_mailbox_waits_for_its_recipient_on_any_node() -> Result<()> {
    let Pair { here, there, .. } = &pair("3").await?;
    for body in ["1", "2", "3"] {
        assert_eq!(pushed(here, body).await?, 200);
    }
    assert_eq!(pushed(there, "4").await?, 503);
    for (node, body) in [(there, "1"), (here, "2"), (there, "3")] {
        assert_eq!(node.get("/poll?rcpt=a").await?.text()?, body);
    }
    assert_eq!(pushed(there, "5").await?, 200);
    Ok(())
}

#[tokio::test]
async fn what_a_gone_poller_did_not_get_waits_on_the_other_node() -> Result<()> {
    let Pair { here, there, .. } = &pair("3").await?;
    let large = "x".repeat(800_000);
    let poll = waiting(there, "/poll?rcpt=a").await?;
    poll.shrink_receive_buffer(4_096)?;
    let mut next = waiting(here, "/poll?rcpt=a").await?;
    // One of the two takes it.
    assert_eq!(pushed(here, &large).await?, 200);
    assert_eq!(pushed(here, "small").await?, 200);
    poll.reset()?;
    let mut got = vec![next.response().await?.text()?.to_owned()];
    while got.len() < 2 {
        got.push(here.get("/poll?rcpt=a").await?.text()?.to_owned());
    }
    got.sort();
    assert_eq!(got, ["small".to_owned(), large]);
    Ok(())
}

#[tokio::test]
async fn without_redis_every_door_says_so() -> Result<()> {
    let Pair {
        mut redis, here, ..
    } = pair("0").await?;
    redis.stop();
    let message = Request::post("/ws/send").body(r#"{"type":"t"}"#);
    for request in [
        Request::get("/ws/poll?wait=1"),
        Request::get("/poll?rcpt=a"),
        Request::post("/push?rcpt=a").body("x"),
        message,
    ] {
        let answer = here.ask(&request).await?;
        assert_eq!(answer.status, 503, "{request:?}");
        assert!(answer.header("retry-after").is_some());
    }
    Ok(())
}
