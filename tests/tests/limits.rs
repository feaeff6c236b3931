//! What one client may take, and what it is told beyond that.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Cable, Connection, Node, PATIENCE, Poller, Request, Response, assert_eventually, frames,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The answer of a node that has no room: when to come back.
fn says_when(response: &Response, status: u16) -> Result<u64> {
    ensure!(response.status == status, "{response:?}");
    let seconds = response.header("retry-after").context("no Retry-After")?;
    let seconds = seconds.parse()?;
    ensure!(seconds >= 1, "{seconds}");
    Ok(seconds)
}

/// An open by the proxy on this machine, for a client.
fn open_for(client: &str) -> Request {
    Request::post("/lp").header("X-Forwarded-For", client)
}

fn handshake(path: &str) -> Request {
    Request::get(path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

#[tokio::test]
async fn an_address_has_no_more_sessions_than_it_may_at_any_door() -> Result<()> {
    let node = Node::builder()
        .flag("max_sessions_per_address", "1")
        .flag("poll_keepalive_timeout", "60")
        .spawn()
        .await?;
    let open = node.ask(&open_for("203.0.113.1")).await?;
    assert_eq!(open.status, 200);
    for request in [
        open_for("203.0.113.1"),
        // Not for the parking lot.
        open_for("203.0.113.1").header("Connection", "close"),
        // What comes before it the client may have made up.
        open_for("203.0.113.9, 203.0.113.1"),
        Request::get("/events?stream=a").header("X-Forwarded-For", "203.0.113.1"),
        handshake("/cable").header("X-Forwarded-For", "203.0.113.1"),
        handshake("/ws").header("X-Forwarded-For", "203.0.113.1"),
        Request::get("/ws/poll?session_id=a&wait=1").header("X-Forwarded-For", "203.0.113.1"),
        Request::get("/poll?rcpt=a").header("X-Forwarded-For", "203.0.113.1"),
        Request::get("/longpoll/events?timeout=1&category=a")
            .header("X-Forwarded-For", "203.0.113.1"),
    ] {
        let response = node.ask(&request).await?;
        says_when(&response, 503).with_context(|| format!("{request:?}"))?;
    }
    assert_eq!(node.metric("refused_address_sessions_total").await?, 9.0);
    assert_eq!(node.metric("refused_sessions_total").await?, 9.0);
    // Others are served, and one network of IPv6 is one client.
    assert_eq!(node.ask(&open_for("203.0.113.2")).await?.status, 200);
    assert_eq!(node.ask(&open_for("2001:db8::1")).await?.status, 200);
    says_when(&node.ask(&open_for("2001:db8::2")).await?, 503)?;
    assert_eq!(node.ask(&open_for("2001:db8:0:1::1")).await?.status, 200);
    // The session that was there is served as before.
    let mut first = Poller::from_open(node.address(), &open)?;
    first.subscribe(&frames::public("a")).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_without_a_proxy_is_that_of_the_peer() -> Result<()> {
    let node = Node::builder()
        .flag("trusted_proxies", "")
        .flag("max_sessions_per_address", "1")
        .spawn()
        .await?;
    Poller::open(&node).await?;
    // Anybody can claim to be somebody else.
    says_when(&node.ask(&open_for("203.0.113.1")).await?, 503)?;
    Ok(())
}

/// A socket, as soon as there is room for it.
async fn socket(node: &Node, path: &str) -> Cable {
    loop {
        if let Ok(socket) = Cable::connect(node.address(), path, &[]).await {
            return socket;
        }
    }
}

/// An event stream, as soon as there is room for it.
async fn stream(node: &Node) -> Result<Connection> {
    loop {
        let mut connection = Connection::open(node.address()).await?;
        connection.send(&Request::get("/events?stream=a")).await?;
        if connection.peek(12).await?.ends_with(b"200") {
            return Ok(connection);
        }
    }
}

#[tokio::test]
async fn an_address_gets_its_room_back_however_a_session_ends() -> Result<()> {
    let node = Node::builder()
        .flag("trusted_proxies", "")
        .flag("max_sessions_per_address", "1")
        .flag("poll_keepalive_timeout", "0.2")
        .spawn()
        .await?;
    for _ in 0..3 {
        // No poll comes.
        assert_eventually!(
            node.ask(&Request::post("/lp")).await?.status == 200,
            PATIENCE
        );
        // A socket whose client takes leave, and one that breaks.
        for path in ["/cable", "/ws"] {
            assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
            let socket = timeout(PATIENCE, socket(&node, path)).await?;
            socket.close().await?;
        }
        timeout(PATIENCE, stream(&node)).await??.reset()?;
        assert_eventually!(
            node.get("/ws/poll?session_id=a&wait=0.05").await?.status == 200,
            PATIENCE
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_does_not_say_is_not_counted() -> Result<()> {
    let node = Node::builder()
        .flag("max_sessions_per_address", "1")
        .spawn()
        .await?;
    for _ in 0..3 {
        Poller::open(&node).await?;
    }
    assert_eq!(node.metric("refused_address_sessions_total").await?, 0.0);
    Ok(())
}

/// So few commands that a test is over soon.
async fn slow_node(per_second: &str) -> Result<Node> {
    Node::builder()
        .flag("max_commands_per_second", per_second)
        .flag("max_subscriptions_per_session", "1")
        .flag("poll_interval", "0.3")
        .spawn()
        .await
}

/// The answer to a request that is sent again until it is done.
async fn done(node: &Node, request: &Request) -> Result<Response> {
    loop {
        let response = node.ask(request).await?;
        if response.status != 429 {
            return Ok(response);
        }
    }
}

#[tokio::test]
async fn a_poll_with_too_many_commands_runs_none_and_may_come_again() -> Result<()> {
    let node = slow_node("4").await?;
    for close in [false, true] {
        let mut poller = Poller::open(&node).await?;
        let pongs = poller.poll_with(&frames::ping().repeat(10)).await?;
        assert_eq!(pongs.frames.len(), 10);
        let before = node.metric("client_msg_total").await?;
        let limited = node.metric("rate_limited_commands_total").await?;
        let mut request = poller.request(&frames::ping().repeat(5));
        if close {
            request = request.header("Connection", "close");
        }
        let refused = node.ask(&request).await?;
        says_when(&refused, 429)?;
        assert_eq!(node.metric("client_msg_total").await?, before);
        let limited = node.metric("rate_limited_commands_total").await? - limited;
        assert_eq!(limited, 5.0);
        // A poll without commands is not meant.
        assert_eq!(poller.exchange("").await?.status, 204);
        let answer = timeout(PATIENCE, done(&node, &request)).await??;
        let pongs = answer.frames()?;
        assert_eq!(pongs, vec![json!({"type": "pong"}); 5]);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_larger_than_any_allowance_runs_once() -> Result<()> {
    let node = slow_node("5").await?;
    let mut poller = Poller::open(&node).await?;
    let pongs = poller.poll_with(&frames::ping().repeat(30)).await?;
    assert_eq!(pongs.frames.len(), 30);
    let refused = poller.exchange(&frames::ping()).await?;
    assert!(says_when(&refused, 429)? >= 2);
    // An open may bring as many.
    let open = Request::post("/lp").body(frames::ping().repeat(30));
    assert_eq!(node.ask(&open).await?.frames()?.len(), 31);
    Ok(())
}

#[tokio::test]
async fn a_socket_that_says_too_much_is_read_later_and_hears_all_the_same() -> Result<()> {
    let node = slow_node("20").await?;
    let mut socket = Cable::open(&node).await?;
    socket.subscribe(&frames::public("a")).await?;
    let start = Instant::now();
    for _ in 0..60 {
        socket.say(&frames::ping()).await?;
    }
    // It is told what happens while it is not listened to.
    assert_eventually!(
        node.metric("rate_limited_commands_total").await? > 0.0,
        PATIENCE
    );
    node.publish("a", &json!("news")).await?;
    let mut pongs = 0;
    let mut pongs_before_news = None;
    while pongs < 60 {
        let frame = timeout(PATIENCE, socket.frame()).await??;
        if frame["message"] == "news" {
            pongs_before_news = Some(pongs);
        } else if frames::kind(&frame) == "pong" {
            pongs += 1;
        }
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    let before = pongs_before_news.context("no news")?;
    assert!(before < 60, "{before}");
    Ok(())
}

#[tokio::test]
async fn a_room_socket_that_says_too_much_is_read_later() -> Result<()> {
    let node = slow_node("20").await?;
    let mut socket = Cable::connect(node.address(), "/ws", &[]).await?;
    let start = Instant::now();
    for _ in 0..60 {
        socket.say(&json!({"type": "app.ping"}).to_string()).await?;
    }
    for _ in 0..60 {
        let frame = timeout(PATIENCE, socket.frame()).await??;
        assert_eq!(frame["type"], "app.pong");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_door_takes_so_many_publications_and_other_doors_do_not_suffer() -> Result<()> {
    let node = Node::builder()
        .flag("max_publishes_per_second", "2")
        .flag("mailbox_capacity", "100")
        .spawn()
        .await?;
    let json = |path: &str, body: &str| {
        Request::post(path)
            .header("Content-Type", "application/json")
            .body(body.to_owned())
    };
    let publication = frames::publication("a", &json!(1));
    let doors = [
        json("/_broadcast", &publication),
        json("/api/publish", &publication),
        json("/longpoll/publish", r#"{"category":"a","data":1}"#),
        Request::post("/push?rcpt=a").body("hello"),
        json("/ws/send", r#"{"session_id":"a","type":"t","payload":{}}"#),
    ];
    let mut refused = 0;
    for request in &doors {
        for _ in 0..4 {
            let response = node.ask(request).await?;
            ensure!(
                (200..300).contains(&response.status),
                "{request:?} {response:?}"
            );
        }
        // A slow machine may leave time for one more.
        let response = timeout(PATIENCE, refusal(&node, request)).await??;
        says_when(&response, 429).with_context(|| format!("{request:?}"))?;
        refused += 1;
    }
    let counted = node.metric("rate_limited_publications_total").await?;
    assert_eq!(counted, f64::from(refused));
    // What was refused may come again, and runs once.
    let before = node.metric("publications_total").await?;
    let again = timeout(PATIENCE, done(&node, &doors[0])).await??;
    assert_eq!(again.status, 201);
    assert_eq!(node.metric("publications_total").await?, before + 1.0);
    Ok(())
}

/// The first answer that is a refusal.
async fn refusal(node: &Node, request: &Request) -> Result<Response> {
    loop {
        let response = node.ask(request).await?;
        if response.status == 429 {
            return Ok(response);
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_too_much_is_refused_as_a_whole() -> Result<()> {
    let node = Node::builder()
        .flag("max_publishes_per_second", "1")
        .spawn()
        .await?;
    let publication = frames::publication("a", &json!(1));
    let batch = format!("[{}]", [publication.as_str(); 3].join(","));
    assert_eq!(node.broadcast(&batch).await?.status, 201);
    says_when(&node.broadcast(&batch).await?, 429)?;
    assert_eq!(node.metric("publications_total").await?, 3.0);
    // Nothing is taken for what is none.
    assert_eq!(node.broadcast("none").await?.status, 422);
    assert_eq!(node.metric("rate_limited_publications_total").await?, 3.0);
    Ok(())
}

/// A poll with an id that looks like one.
fn guess(number: u128, client: &str) -> Request {
    let secret = format!("{number:0>21}A");
    Request::post("/lp")
        .header("X-Anycable-Poll-ID", &format!("AAAAAAAAAAA.{secret}"))
        .header("X-Forwarded-For", client)
}

#[tokio::test]
async fn who_guesses_ids_is_stopped_and_right_ids_are_served() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "0.2")
        .flag("max_unknown_polls_per_minute", "600")
        .spawn()
        .await?;
    let open = node.ask(&open_for("203.0.113.1")).await?;
    let mut poller = Poller::from_open(node.address(), &open)?;
    let mut connection = Connection::open(node.address()).await?;
    let (mut unknown, mut refused) = (0, 0);
    for number in 0..1_000 {
        let mut request = guess(number, "203.0.113.1");
        if number % 10 == 0 {
            // Not in the parking lot.
            request = request.header("Connection", "close");
        }
        let response = match number % 10 {
            0 => node.ask(&request).await?,
            _ => connection.ask(&request).await?,
        };
        match response.status {
            401 => unknown += 1,
            _ => {
                assert!(says_when(&response, 429)? <= 60);
                refused += 1;
            }
        }
    }
    assert_eq!((unknown, refused), (600, 400));
    assert_eq!(node.metric("rate_limited_polls_total").await?, 400.0);
    assert_eq!(node.metric("long_poll_stale_requests_total").await?, 600.0);
    // The same address, with what is right.
    let right = poller.request("").header("X-Forwarded-For", "203.0.113.1");
    assert_eq!(node.ask(&right).await?.status, 204);
    poller.subscribe(&frames::public("a")).await?;
    assert_eq!(node.ask(&open_for("203.0.113.1")).await?.status, 200);
    // Others have their own tries.
    assert_eq!(node.ask(&guess(1, "203.0.113.2")).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_an_id_makes_no_difference() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.2").spawn().await?;
    let poller = Poller::open(&node).await?;
    let (route, secret) = poller.poll_id().rsplit_once('.').context("no route")?;
    let (start, _) = secret.split_at(secret.len() - 2);
    let wrong = [
        format!("{route}.{}", "A".repeat(22)),
        format!("{route}.{start}AA"),
        format!("{route}.{start}"),
        format!("{route}."),
        "nonsense".to_owned(),
        String::new(),
    ];
    let mut answers = Vec::new();
    for id in wrong {
        let request = Request::post("/lp").header("X-Anycable-Poll-ID", &id);
        let response = node.ask(&request).await?;
        let names: Vec<_> = response
            .headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        answers.push((response.status, names, response.body));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, 401);
    Ok(())
}
