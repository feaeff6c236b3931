//! What of a client's request the application gets to see.

use crate::{Chat, exchange, map, room};
use anyhow::Result;
use pollux_testkit::{Cable, Face, Kind, PROTOCOLS, Request, frames};

over_both!(
    headers_are_passed_on_as_configured,
    cookies_are_chosen,
    addresses_are_those_of_clients,
    every_call_has_the_first_requests_headers,
);

fn open() -> Request {
    Request::post("/lp?user=ann")
        .header("Cookie", "_session=1; theme=dark; lang=de")
        .header("X-Tenant", "acme")
        .header("Origin", "http://localhost")
        .header("X-Request-ID", "chosen-by-the-client")
}

async fn headers_are_passed_on_as_configured(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("headers", "cookie,X-Tenant,origin")]).await?;
    assert_eq!(chat.node.ask(&open()).await?.status, 200);
    let call = chat.backend.call(Kind::Connect, 0).await?;
    let expected = [
        ("REMOTE_ADDR", "127.0.0.1"),
        ("cookie", "_session=1; theme=dark; lang=de"),
        ("origin", "http://localhost"),
        ("x-tenant", "acme"),
    ];
    assert_eq!(call.headers, map(expected));
    assert_ne!(call.sid, "chosen-by-the-client");
    Ok(())
}

async fn cookies_are_chosen(face: Face) -> Result<()> {
    let chat = Chat::with(face, &[("proxy_cookies", "_session,lang")]).await?;
    assert_eq!(chat.node.ask(&open()).await?.status, 200);
    let call = chat.backend.call(Kind::Connect, 0).await?;
    let mut cookies: Vec<_> = call.headers["cookie"].split(';').map(str::trim).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["_session=1", "lang=de"]);
    Ok(())
}

async fn addresses_are_those_of_clients(face: Face) -> Result<()> {
    let forwarded = open().header("X-Forwarded-For", "203.0.113.9");
    for (proxies, address) in [("127.0.0.1", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1")] {
        let chat = Chat::with(face, &[("trusted_proxies", proxies)]).await?;
        assert_eq!(chat.node.ask(&forwarded).await?.status, 200);
        let call = chat.backend.call(Kind::Connect, 0).await?;
        assert_eq!(call.headers["REMOTE_ADDR"], address);
    }
    Ok(())
}

async fn every_call_has_the_first_requests_headers(face: Face) -> Result<()> {
    let chat = Chat::start(face).await?;
    let open = open();
    let mut poller =
        pollux_testkit::Poller::from_open(chat.node.address(), &chat.node.ask(&open).await?)?;
    exchange(&mut poller, &frames::subscribe(&room("1")), 2).await?;
    let cookie = "_session=1; theme=dark; lang=de";
    let expected = map([("REMOTE_ADDR", "127.0.0.1"), ("cookie", cookie)]);
    let call = chat.backend.call(Kind::Subscribe, 0).await?;
    assert_eq!(call.headers, expected);

    let headers = [
        ("Sec-WebSocket-Protocol", PROTOCOLS),
        ("Cookie", "user=bea"),
    ];
    let mut cable = Cable::connect(chat.node.address(), "/cable", &headers).await?;
    cable.frame().await?;
    cable.close().await?;
    let gone = chat.backend.call(Kind::Disconnect, 0).await?;
    assert_eq!(gone.headers["cookie"], "user=bea");
    Ok(())
}
