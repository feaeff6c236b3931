//! The bundled nginx files by themselves, with something that is no node behind them.

use anyhow::{Context, Result};
use pollux_testkit::{Connection, Log, Nginx, PATIENCE, Request, Response, Upstream};
use pollux_testkit::{assert_eventually, free_port};
use std::net::SocketAddr;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The first version with the directive `sticky`.
const WITH_STICKY: [u32; 3] = [1, 29, 6];

/// Somebody who always answers, and nginx in front.
async fn pair() -> Result<(Upstream, Nginx)> {
    let upstream = Upstream::spawn(|_| Some(OK.to_owned())).await?;
    let nginx = Nginx::spawn(&[upstream.address()]).await?;
    Ok((upstream, nginx))
}

async fn ask(nginx: &Nginx, request: Request) -> Result<Response> {
    Connection::once(nginx.address(), &request).await
}

/// A header of the last request the upstream got; `None` if it had none.
fn sent(upstream: &Upstream, name: &str) -> Result<Option<String>> {
    let requests = upstream.requests();
    let head = requests.last().context("no request")?;
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
    Ok(found.map(|(_, value)| value.to_owned()))
}

fn cookie(response: &Response) -> Option<&str> {
    let cookie = response.header("set-cookie")?;
    cookie.strip_prefix("pollux_route=")?.split(';').next()
}

#[test]
fn nginx_takes_every_variant() -> Result<()> {
    Nginx::builder().check()?;
    Nginx::builder().variant("pollux.conf").check()?;
    let sticky = Nginx::builder().variant("pollux-sticky.conf");
    if Nginx::version()? >= WITH_STICKY.to_vec() {
        return sticky.check();
    }
    // An older one must miss that directive, and nothing else.
    let refusal = sticky.check().unwrap_err().to_string();
    assert!(
        refusal.contains("unknown directive \"sticky\""),
        "{refusal}"
    );
    sticky
        .replacing("sticky learn", "# ")
        .replacing("        zone=pollux_sessions:32m", "# ")
        .check()
}

#[tokio::test]
async fn a_client_without_a_key_gets_one_and_then_keeps_it() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    let first = ask(&nginx, Request::post("/lp")).await?;
    let set = first.header("set-cookie").context("no cookie")?;
    let key = cookie(&first).context("no key")?.to_owned();
    assert_eq!(
        set,
        format!("pollux_route={key}; Path=/; HttpOnly; SameSite=Lax")
    );
    assert_eq!(sent(&upstream, "x-pollux-route")?, Some(key.clone()));

    let with_cookie = |path| {
        let cookie = format!("a=1; pollux_route={key}; b=2");
        Request::get(path).header("Cookie", &cookie)
    };
    for path in ["/lp", "/cable", "/events", "/"] {
        let response = ask(&nginx, with_cookie(path)).await?;
        assert_eq!(cookie(&response), None, "{path}");
        assert_eq!(
            sent(&upstream, "x-pollux-route")?,
            Some(key.clone()),
            "{path}"
        );
    }
    let id = Request::post("/lp").header("X-Anycable-Poll-ID", "route-1.secret");
    assert_eq!(cookie(&ask(&nginx, id).await?), None);
    assert_eq!(
        sent(&upstream, "x-pollux-route")?.as_deref(),
        Some("route-1")
    );
    let both = with_cookie("/lp").header("X-Anycable-Poll-ID", "route-2.secret");
    ask(&nginx, both).await?;
    assert_eq!(
        sent(&upstream, "x-pollux-route")?.as_deref(),
        Some("route-2")
    );
    // Where no session begins there is nothing to remember.
    let preflight = Request::new("OPTIONS", "/lp").header("Origin", "http://a");
    for request in [preflight, Request::post("/_broadcast"), Request::get("/")] {
        let response = ask(&nginx, request.clone()).await?;
        assert_eq!(cookie(&response), None, "{request:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_clients_make_up_does_not_get_through() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    let long = "x".repeat(65);
    let huge = "x".repeat(4_000);
    for key in ["", "a.b", "a%20b", "ä", "a\"b", "$request_id", &long, &huge] {
        let request = Request::post("/lp")
            .header("Cookie", &format!("pollux_route={key}"))
            .header("X-Anycable-Poll-ID", "null")
            .header("X-Pollux-Route", "mine")
            .header("X-Pollux-Route", "mine too")
            .header("X_Pollux_Route", "and mine")
            .header("X-Forwarded-For", "8.8.8.8")
            .header("X-Real-IP", "8.8.8.8")
            .header("Forwarded", "for=8.8.8.8");
        let response = ask(&nginx, request).await?;
        assert_eq!(response.status, 200, "{key}");
        let route = sent(&upstream, "x-pollux-route")?.context("no route")?;
        assert_eq!(route.len(), 32, "{key}: {route}");
        assert_eq!(cookie(&response), Some(route.as_str()), "{key}");
        let request = upstream.requests().pop().unwrap_or_default();
        assert!(!request.contains("mine"), "{request}");
        for (header, expected) in [
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("forwarded", None),
            ("host", Some("localhost")),
        ] {
            assert_eq!(sent(&upstream, header)?.as_deref(), expected, "{header}");
        }
    }
    // More than any header may have.
    let request = Request::post("/lp").header("Cookie", &"x".repeat(40_000));
    assert_eq!(ask(&nginx, request).await?.status, 400);
    assert_eq!(ask(&nginx, Request::post("/lp")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_balancer_may_say_that_the_client_used_tls() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    let request = Request::post("/lp").header("X-Forwarded-Proto", "https");
    let response = ask(&nginx, request).await?;
    assert!(
        response
            .header("set-cookie")
            .context("none")?
            .ends_with("; Secure")
    );
    assert_eq!(
        sent(&upstream, "x-forwarded-proto")?.as_deref(),
        Some("https")
    );
    let nginx = Nginx::builder()
        .replacing("127.0.0.0/8 1;", "127.0.0.0/8 0;")
        .spawn(&[upstream.address()])
        .await?;
    let request = Request::post("/lp").header("X-Forwarded-Proto", "https");
    let response = ask(&nginx, request).await?;
    assert!(
        !response
            .header("set-cookie")
            .context("none")?
            .contains("Secure")
    );
    assert_eq!(
        sent(&upstream, "x-forwarded-proto")?.as_deref(),
        Some("http")
    );
    Ok(())
}

#[tokio::test]
async fn publishing_is_for_backends_and_metrics_are_for_nobody() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    for (path, status) in [
        ("/_broadcast", 200),
        ("/api/publish", 200),
        ("/metrics", 404),
        ("/%6detrics", 404),
        ("//metrics", 404),
        ("/a/../metrics", 404),
    ] {
        let response = ask(&nginx, Request::post(path)).await?;
        assert_eq!(response.status, status, "{path}");
    }
    let before = upstream.requests().len();
    // Someone on the internet.
    let nginx = Nginx::builder()
        .replacing("127.0.0.0/8 1;", "127.0.0.0/8 0;")
        .spawn(&[upstream.address()])
        .await?;
    for path in [
        "/_broadcast",
        "/_broadcast?a",
        "/%5Fbroadcast",
        "/./_broadcast",
        "/api/publish",
        "//api/publish",
        "/lp/../api/publish",
    ] {
        let response = ask(&nginx, Request::post(path)).await?;
        assert_eq!(response.status, 403, "{path}");
    }
    assert_eq!(upstream.requests().len(), before);
    assert_eq!(ask(&nginx, Request::post("/lp")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn one_address_may_not_have_everything() -> Result<()> {
    let upstream = Upstream::spawn(|_| Some(String::new())).await?;
    let nginx = Nginx::builder()
        .replacing("127.0.0.0/8 1;", "127.0.0.0/8 0;")
        .replacing(
            "limit_conn pollux_addresses 5000;",
            "limit_conn pollux_addresses 2;",
        )
        .spawn(&[upstream.address()])
        .await?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(nginx.address()).await?;
        connection.send(&Request::post("/lp")).await?;
        waiting.push(connection);
    }
    assert_eventually!(upstream.requests().len() == 2, PATIENCE);
    assert_eq!(ask(&nginx, Request::post("/lp")).await?.status, 429);
    assert_eq!(ask(&nginx, Request::get("/health")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn upgrades_are_for_web_sockets_and_connections_are_kept() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    let upgrade = |protocol| Request::get("/cable").header("Upgrade", protocol);
    ask(&nginx, upgrade("WebSocket").header("Connection", "Upgrade")).await?;
    assert_eq!(sent(&upstream, "upgrade")?.as_deref(), Some("websocket"));
    assert_eq!(sent(&upstream, "connection")?.as_deref(), Some("upgrade"));
    for protocol in ["h2c", "websocket, h2c"] {
        ask(&nginx, upgrade(protocol).header("Connection", "Upgrade")).await?;
        assert_eq!(sent(&upstream, "upgrade")?, None);
        assert_eq!(sent(&upstream, "connection")?, None);
    }
    let last = upstream.requests().pop().unwrap_or_default();
    assert!(last.starts_with("GET /cable HTTP/1.1\r\n"), "{last}");
    Ok(())
}

#[tokio::test]
async fn large_answers_are_compressed_and_streams_are_not() -> Result<()> {
    let answer = |kind: &str| {
        let body: String = (0..2_000).map(|number| number.to_string()).collect();
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let kinds = ["application/jsonl", "text/html", "text/event-stream"];
    let answers = kinds.map(answer);
    let upstream = Upstream::spawn(move |number| answers.get(number).cloned()).await?;
    let nginx = Nginx::spawn(&[upstream.address()]).await?;
    for (kind, compressed) in kinds.into_iter().zip([true, true, false]) {
        let request = Request::post("/lp").header("Accept-Encoding", "gzip");
        let mut connection = Connection::open(nginx.address()).await?;
        connection.send(&request).await?;
        let start = connection.peek(400).await?;
        let head = String::from_utf8_lossy(&start);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{kind}: {head}");
        let has_gzip = head.contains("Content-Encoding: gzip\r\n");
        assert_eq!(has_gzip, compressed, "{kind}: {head}");
        assert_eq!(head.contains("Vary: Accept-Encoding"), compressed, "{head}");
    }
    Ok(())
}

#[tokio::test]
async fn logs_tell_of_requests_and_of_no_secret() -> Result<()> {
    let (upstream, nginx) = pair().await?;
    let dead: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let alone = Nginx::spawn(&[dead]).await?;
    let secrets = ["token-1", "id-2", "secret-3", "cookie-4", "key-5"];
    let request = || {
        Request::post("/lp?jid=token-1")
            .header("X-Anycable-Poll-ID", "id-2.secret-3")
            .header("Cookie", "pollux_route=cookie-4")
            .header("Authorization", "Bearer key-5")
            .header("Referer", "http://a/?token-1")
    };
    let opened = ask(&nginx, Request::post("/lp?jid=token-1")).await?;
    let key = cookie(&opened).context("no key")?;
    assert_eq!(ask(&nginx, request()).await?.status, 200);
    assert_eq!(ask(&alone, request()).await?.status, 502);
    let line = |log: &Log, end: &str| {
        let lines = log.lines();
        lines.into_iter().find(|line| line.contains(end))
    };
    let seen = format!("upstream={} upstream_status=200", upstream.address());
    assert_eventually!(nginx.log().text().matches(&seen).count() == 2, PATIENCE);
    assert_eventually!(line(alone.log(), "upstream_status=502").is_some(), PATIENCE);
    let line = line(nginx.log(), &seen).context("no line")?;
    assert!(
        line.contains("\"POST /lp HTTP/1.1\" 200 2 time=0."),
        "{line}"
    );
    for log in [nginx.log(), alone.log()] {
        for secret in secrets.into_iter().chain([key]) {
            assert!(!log.contains(secret), "{secret}: {}", log.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_moves_clients_to_the_new_nodes() -> Result<()> {
    let (old, mut nginx) = pair().await?;
    let new = Upstream::spawn(|_| Some(OK.to_owned())).await?;
    assert_eq!(ask(&nginx, Request::post("/lp")).await?.status, 200);
    nginx.reload(&[new.address()]).await?;
    for _ in 0..20 {
        assert_eq!(ask(&nginx, Request::post("/lp")).await?.status, 200);
    }
    assert_eq!((old.requests().len(), new.requests().len()), (1, 20));
    let response = ask(&nginx, Request::get("/health")).await?;
    assert_eq!((response.status, response.text()?), (200, "ok\n"));
    assert_eq!(response.header("server"), Some("nginx"));
    Ok(())
}
