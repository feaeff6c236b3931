//! An application that is down, slow or flapping: those who are in stay, those who come are
//! answered in time, and nothing runs twice.

use crate::{
    ANSWERED_WITHIN, Chat, echo, ends_retryably, exchange, hear, is_retryable, room, speak,
};
use anyhow::Result;
use pollux_testkit::{
    Cable, Connection, Face, Kind, PATIENCE, Poller, Request, Trouble, assert_eventually, frames,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

over_both!(
    an_application_that_is_down,
    an_application_that_is_slow,
    an_application_that_flaps,
    what_may_have_run_is_not_run_again,
    a_call_is_taken_back_when_its_client_goes,
    thousands_wait_for_an_application_that_hangs,
    goodbyes_are_not_worth_waiting_for,
);

/// Those who are in while something is wrong.
struct Guests {
    cable: Cable,
    poller: Poller,
    published: u64,
}

impl Guests {
    async fn of(chat: &Chat) -> Result<Self> {
        let mut cable = chat.cable("ann").await?;
        cable.subscribe(&room("1")).await?;
        hear(&mut cable, 1).await?;
        let mut poller = chat.poller("bea").await?;
        exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
        Ok(Self {
            cable,
            poller,
            published: 0,
        })
    }

    /// Makes sure that they hear what is published.
    async fn hear(&mut self, chat: &Chat) -> Result<()> {
        self.published += 1;
        let number = json!(self.published);
        chat.node.publish("chat/1", &number).await?;
        let [over_socket, polled] = [
            self.cable.messages(1).await?,
            self.poller.messages(1).await?,
        ];
        assert_eq!(over_socket, [number]);
        assert_eq!(polled, over_socket);
        Ok(())
    }
}

/// Makes sure that those who come are answered in time, and told to come again.
async fn turns_clients_away_in_time(chat: &Chat) -> Result<()> {
    let start = Instant::now();
    let answer = chat.open("cid").await?;
    let took = start.elapsed();
    assert!(took < ANSWERED_WITHIN, "{took:?}");
    is_retryable(&answer)?;
    let start = Instant::now();
    ends_retryably(chat.socket("cid").await?).await?;
    let took = start.elapsed();
    assert!(took < ANSWERED_WITHIN, "{took:?}");
    Ok(())
}

/// Waits until those who come are let in.
async fn is_well(chat: &Chat, guests: &mut Guests) -> Result<()> {
    assert_eventually!(chat.open("cid").await?.status == 200, PATIENCE);
    guests.hear(chat).await?;
    let body = speak(&room("1"), "hi");
    let seen = exchange(&mut guests.poller, &body, 1).await?;
    assert_eq!(
        seen.last().map(|frame| &frame["message"]["said"]),
        Some(&json!("hi"))
    );
    Ok(())
}

async fn an_application_that_is_down(face: Face) -> Result<()> {
    let mut chat = Chat::start(face).await?;
    let mut guests = Guests::of(&chat).await?;
    chat.backend.stop().await;
    guests.hear(&chat).await?;
    turns_clients_away_in_time(&chat).await?;
    guests.hear(&chat).await?;
    // A subscription that nobody can decide about neither ends the session nor is confirmed.
    let mut cable = guests.cable;
    cable.say(&frames::subscribe(&room("2"))).await?;
    cable.say(&frames::ping()).await?;
    let mut seen = cable.frame().await?;
    while frames::kind(&seen) != "pong" {
        assert_ne!(frames::kind(&seen), "confirm_subscription");
        seen = cable.frame().await?;
    }
    guests.cable = cable;
    chat.backend.start().await?;
    is_well(&chat, &mut guests).await
}

async fn an_application_that_is_slow(face: Face) -> Result<()> {
    let flags = [("rpc_request_timeout", "3000")];
    let chat = Chat::with(face, &flags).await?;
    let mut guests = Guests::of(&chat).await?;
    chat.backend.slow(Duration::from_secs(5));
    turns_clients_away_in_time(&chat).await?;
    guests.hear(&chat).await?;
    chat.backend.recover();
    is_well(&chat, &mut guests).await
}

async fn an_application_that_flaps(face: Face) -> Result<()> {
    let mut chat = Chat::start(face).await?;
    let mut guests = Guests::of(&chat).await?;
    for _ in 0..4 {
        chat.backend.stop().await;
        let mut waiting = Vec::new();
        for user in ["cid", "dan"] {
            let mut client = Connection::open(chat.node.address()).await?;
            let request = Request::post(&format!("/lp?user={user}"));
            client.send(&request).await?;
            waiting.push(client);
        }
        guests.hear(&chat).await?;
        chat.backend.start().await?;
        let start = Instant::now();
        for client in &mut waiting {
            let answer = client.response().await?;
            if answer.status != 200 {
                is_retryable(&answer)?;
            }
        }
        assert!(start.elapsed() < ANSWERED_WITHIN);
        guests.hear(&chat).await?;
    }
    is_well(&chat, &mut guests).await
}

async fn what_may_have_run_is_not_run_again(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let mut poller = chat.poller("ann").await?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    chat.backend.trouble(Trouble::CutOff, 1);
    // The second is asked after the first has failed, so a repetition would come between them.
    let body = speak(&room("1"), "lost") + &speak(&room("1"), "found");
    let seen = exchange(&mut poller, &body, 1).await?;
    assert_eq!(seen, [echo(&room("1"), "found", 1)]);
    let said: Vec<_> = chat
        .backend
        .calls_of(Kind::Message)
        .into_iter()
        .map(|call| call.data.contains("found"))
        .collect();
    assert_eq!(said, [false, true]);

    chat.backend.forget();
    chat.backend.trouble(Trouble::CutOff, 1);
    is_retryable(&chat.open("ann").await?)?;
    assert_eq!(chat.backend.calls_of(Kind::Connect).len(), 1);
    Ok(())
}

async fn a_call_is_taken_back_when_its_client_goes(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    chat.backend.slow(Duration::from_secs(60));
    let handshake = Request::get("/cable?user=ann")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let doors = [
        handshake,
        Request::get("/events?user=ann&channel=ChatChannel"),
        Request::post("/lp?user=ann").header("Connection", "close"),
        Request::post("/lp?user=ann"),
    ];
    for (number, request) in doors.into_iter().enumerate() {
        let mut client = Connection::open(chat.node.address()).await?;
        client.send(&request).await?;
        chat.backend.call(Kind::Connect, number).await?;
        client.close();
        // Sooner than its time would be over.
        assert_eventually!(
            chat.backend.abandoned() > number,
            Duration::from_secs(2),
            "{request:?}"
        );
    }
    // So are those of a session that has ended.
    chat.backend.recover();
    let mut cable = chat.cable("ann").await?;
    chat.backend.slow(Duration::from_secs(60));
    cable.say(&frames::subscribe(&room("1"))).await?;
    chat.backend.call(Kind::Subscribe, 0).await?;
    drop(cable);
    assert_eventually!(chat.backend.abandoned() == 5, Duration::from_secs(2));
    Ok(())
}

const MANY: usize = 5_000;
const MAX_GROWTH: u64 = 100 << 20;

async fn thousands_wait_for_an_application_that_hangs(face: Face) -> Result<()> {
    let flags = [("rpc_request_timeout", "3000")];
    let chat = Chat::with(face, &flags).await?;
    let mut guests = Guests::of(&chat).await?;
    let before = chat.node.rss_bytes()?;
    chat.backend.slow(Duration::from_secs(3_600));
    let start = Instant::now();
    let mut clients = Vec::new();
    for number in 0..MANY {
        let mut client = Connection::open(chat.node.address()).await?;
        client
            .send(&Request::post(&format!("/lp?user=u{number}")))
            .await?;
        clients.push(client);
    }
    // The node is no worse for those who are in.
    guests.hear(&chat).await?;
    assert_eq!(chat.node.get("/health").await?.status, 200);
    let grown = chat.node.rss_bytes()?.saturating_sub(before);
    assert!(grown < MAX_GROWTH, "{grown} bytes");
    let opened = start.elapsed();
    for client in &mut clients {
        is_retryable(&client.response().await?)?;
    }
    let waited = start.elapsed();
    // Thousands of answers take their time to be read, too.
    let in_time = opened + ANSWERED_WITHIN * 3 / 2;
    assert!(waited < in_time, "{opened:?} {waited:?}");
    // 28 at a time, and those that were given up and of which it has yet to learn.
    let (running, most) = chat.backend.running();
    assert!(running == 0 && most <= 2 * 28, "{running} {most}");
    let grown = chat.node.rss_bytes()?.saturating_sub(before);
    assert!(grown < MAX_GROWTH, "{grown} bytes");
    drop(clients);
    chat.backend.recover();
    is_well(&chat, &mut guests).await
}

async fn goodbyes_are_not_worth_waiting_for(face: Face) -> Result<()> {
    let mut chat = Chat::start(face).await?;
    let cable = chat.cable("ann").await?;
    chat.backend.slow(Duration::from_secs(3_600));
    cable.close().await?;
    chat.backend.call(Kind::Disconnect, 0).await?;
    // The next ones do not stand in line behind it for ever.
    chat.backend.recover();
    chat.cable("bea").await?.close().await?;
    assert_eventually!(
        chat.backend
            .calls_of(Kind::Disconnect)
            .iter()
            .any(|call| call.identifiers.contains("bea")),
        PATIENCE
    );
    let status = chat.node.terminate(PATIENCE).await?;
    assert!(status.success(), "{status}");
    Ok(())
}
