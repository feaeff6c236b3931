//! The node as a library: another application's access check, its router, its
//! publications.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use axum::{Router, body::Body, routing};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use pollux_node::{Authenticator, Client, Config, ConnectRequest, Node, Verdict, node::Listeners};
use pollux_protocol::DisconnectReason;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt as _;

/// Lets users in by name, and tells the others why not.
#[derive(Debug)]
struct Names;

impl Authenticator for Names {
    fn authenticate<'a>(&'a self, request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict> {
        let refuse = |reason| Verdict::Refuse {
            reason,
            reconnect: false,
        };
        let verdict = match request.query.strip_prefix("name=") {
            Some("old") => refuse(DisconnectReason::TokenExpired),
            Some(name) => Verdict::Accept(Client::named(format!("{{\"name\":\"{name}\"}}"))),
            None => refuse(DisconnectReason::Unauthorized),
        };
        Box::pin(async move {
            // Somebody else is asked.
            tokio::task::yield_now().await;
            verdict
        })
    }
}

fn config() -> Config {
    Config {
        poll_interval: Duration::from_secs(5),
        ..Config::default()
    }
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn open(query: &str, body: &str) -> Request<Body> {
    let uri = format!("/lp{query}");
    Request::post(uri)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn poll(id: &str) -> Request<Body> {
    Request::post("/lp")
        .header("X-Anycable-Poll-ID", id)
        .body(Body::empty())
        .unwrap()
}

fn id_of(response: &Response<Body>) -> String {
    response.headers()["x-anycable-poll-id"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn who_is_refused_is_told_why() {
    let node = Node::builder()
        .config(config())
        .authenticator(Arc::new(Names))
        .build()
        .unwrap();
    let rows = [
        (
            "",
            r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#,
        ),
        (
            "?name=old",
            r#"{"type":"disconnect","reason":"token_expired","reconnect":false}"#,
        ),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = node.router();
    let server = tokio::spawn(async move {
        let listeners = Listeners {
            metrics: None,
            console: None,
            main: listener,
            broadcast: None,
        };
        node.serve(listeners, async { drop(stopped.await) }).await;
    });
    for (query, line) in rows {
        // On the node's own server, and in an application's router.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /lp{query} HTTP/1.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{line}\n")), "{answer}");
        assert!(
            answer.contains("access-control-allow-origin: *"),
            "{answer}"
        );

        let response = router.clone().oneshot(open(query, "")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(text(response).await, format!("{line}\n"));
    }
    drop(stop);
    server.await.unwrap();
}

#[tokio::test]
async fn a_remote_command_closes_all_sessions_with_the_identifiers() {
    let node = Node::builder()
        .config(config())
        .authenticator(Arc::new(Names))
        .build()
        .unwrap();
    let router = node.router();
    let mut ids = Vec::new();
    for name in ["ann", "ann", "ann", "bob"] {
        let response = router
            .clone()
            .oneshot(open(&format!("?name={name}"), ""))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        ids.push(id_of(&response));
        // The answer counts as received when its body is read.
        assert!(text(response).await.contains("welcome"));
    }
    assert_eq!(node.session_count(), 4);
    let command = r#"{"command":"disconnect","payload":{"identifier":"{\"name\":\"ann\"}","reconnect":true}}"#;
    let request = Request::post("/_broadcast")
        .body(Body::from(command))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    for id in ids.iter().take(3) {
        let answer = text(router.clone().oneshot(poll(id)).await.unwrap()).await;
        let line = r#"{"type":"disconnect","reason":"remote","reconnect":true}"#;
        assert_eq!(answer, format!("{line}\n"));
    }
    let bob = Request::post("/lp")
        .header("X-Anycable-Poll-ID", &ids[3])
        .body(Body::from(r#"{"command":"ping"}"#))
        .unwrap();
    let answer = text(router.clone().oneshot(bob).await.unwrap()).await;
    assert_eq!(answer, "{\"type\":\"pong\"}\n");
}

#[tokio::test]
async fn an_application_publishes_to_clients_of_its_own_router() {
    let node = Node::builder().config(config()).build().unwrap();
    let app = Router::new()
        .route("/own", routing::get(async || "own"))
        .merge(node.router());
    let subscribe =
        r#"{"command":"subscribe","identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"a\"}"}"#;
    let opened = app.clone().oneshot(open("", subscribe)).await.unwrap();
    let id = id_of(&opened);
    assert!(text(opened).await.contains("confirm_subscription"));
    let waiting = tokio::spawn(app.clone().oneshot(poll(&id)));
    node.publish("a", r#"{"n":1}"#).await.unwrap();
    let answer = text(waiting.await.unwrap().unwrap()).await;
    assert!(answer.contains(r#""message":{"n":1}"#), "{answer}");
    assert!(node.publish("", "1").await.is_err());
    let own = app
        .oneshot(Request::get("/own").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(text(own).await, "own");
}
