//! What goes over the wire, and what comes back.

use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use http::HeaderValue;
use pollux_rpc::{
    Backend, CallError,
    call::{Command, Connect, Disconnect, Env, Status, Verb},
    generated::{CommandMessage, DisconnectRequest},
};
use prost::Message;
use serde_json::{Value, json};

use crate::app::{Act, App, Grpc, Http, Server, backend, call, options};

fn env() -> Env {
    Env {
        url: "http://cable.app.dev/cable".to_owned(),
        headers: [("cookie".to_owned(), "_s=1".to_owned())].into(),
        ..Env::default()
    }
}

fn command() -> Command {
    Command {
        verb: Verb::Message,
        identifier: "channel".to_owned(),
        connection_identifiers: "me".to_owned(),
        data: "hello".to_owned(),
        env: env(),
    }
}

fn disconnect() -> Disconnect {
    Disconnect {
        identifiers: "me".to_owned(),
        subscriptions: vec!["channel".to_owned()],
        env: env(),
    }
}

async fn all_three(backend: &Backend) {
    call(backend).await.unwrap();
    backend.command("s-2", command()).await.unwrap();
    backend.disconnect("s-3", disconnect()).await.unwrap();
}

#[tokio::test]
async fn calls_say_which_trace_they_are_part_of() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for transport in [Http, Grpc] {
        let server = Server::start(transport, &App::new([])).await;
        let mut options = options([server.host(transport)]);
        call(&backend(options.clone())).await.unwrap();
        options.trace = || Some(HeaderValue::from_static(TRACE));
        call(&backend(options)).await.unwrap();
        let seen = server.app.seen.lock();
        let traces: Vec<_> = seen
            .iter()
            .map(|seen| seen.headers.get("traceparent"))
            .collect();
        assert_eq!(traces, [None, Some(&HeaderValue::from_static(TRACE))]);
    }
}

#[tokio::test]
async fn http_requests_are_those_of_the_reference() {
    let server = Server::start(Http, &App::new([])).await;
    let mut options = options([server.host(Http)]);
    options.secret = Some("s3cret".to_owned().into());
    let backend = backend(options);
    all_three(&backend).await;

    let seen = server.app.seen.lock().clone();
    let paths: Vec<_> = seen.iter().map(|seen| &*seen.path).collect();
    assert_eq!(
        paths,
        [
            "/_anycable/connect",
            "/_anycable/command",
            "/_anycable/disconnect"
        ]
    );
    let header = |number: usize, name: &str| seen[number].headers[name].to_str().unwrap();
    assert_eq!(header(0, "host"), server.address.to_string());
    assert_eq!(header(0, "content-type"), "application/json");
    assert_eq!(header(0, "authorization"), "Bearer s3cret");
    assert_eq!(header(0, "x-anycable-meta-protov"), "v1");
    assert_eq!(header(0, "x-anycable-meta-sid"), "sid");
    assert_eq!(header(2, "x-anycable-meta-sid"), "s-3");
    let body: Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!(
        body,
        json!({
            "command": "message", "identifier": "channel", "connection_identifiers": "me",
            "data": "hello",
            "env": {"url": "http://cable.app.dev/cable", "headers": {"cookie": "_s=1"}},
        })
    );
    assert_eq!(
        server.app.connections.load(SeqCst),
        1,
        "one connection serves calls in a row"
    );
    assert!(!format!("{backend:?}").contains("s3cret"));
    let tallies = backend.tallies();
    assert_eq!((tallies.calls, tallies.hosts, tallies.errors), (3, 1, 0));
}

#[tokio::test]
async fn grpc_requests_are_those_of_the_reference() {
    let server = Server::start(Grpc, &App::new([])).await;
    let backend = backend(options([server.host(Grpc)]));
    all_three(&backend).await;

    let seen = server.app.seen.lock().clone();
    let paths: Vec<_> = seen.iter().map(|seen| &*seen.path).collect();
    assert_eq!(paths, ["connect", "command", "disconnect"]);
    assert_eq!(seen[0].headers["sid"], "sid");
    assert_eq!(seen[1].headers["sid"], "s-2");
    assert_eq!(seen[1].headers["protov"], "v1");
    assert!(seen[1].headers.contains_key("grpc-timeout"));
    let sent = CommandMessage::decode(seen[1].body.clone()).unwrap();
    assert_eq!((&*sent.command, &*sent.data), ("message", "hello"));
    assert_eq!(sent.env.unwrap().headers["cookie"], "_s=1");
    let sent = DisconnectRequest::decode(seen[2].body.clone()).unwrap();
    assert_eq!(sent.subscriptions, ["channel"]);
}

#[tokio::test]
async fn one_grpc_connection_carries_many_calls() {
    let server = Server::start(Grpc, &App::new([])).await;
    let backend = backend(options([server.host(Grpc)]));
    let answers = join_all((0..500).map(|_| call(&backend))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.app.connections.load(SeqCst), 1);
    assert!(server.app.most_at_once.load(SeqCst) <= 28);
}

#[tokio::test]
async fn what_the_application_says_instead_of_an_answer() {
    let http = [
        (401, CallError::Unauthenticated),
        (400, CallError::InvalidArgument),
        (422, CallError::InvalidArgument),
        (500, CallError::Unknown("with status 500".into())),
        (503, CallError::Unknown("with status 503".into())),
        (204, CallError::Unknown("with status 204".into())),
    ];
    let server = Server::start(
        Http,
        &App::new(http.iter().map(|(status, _)| Act::Fail(*status))),
    )
    .await;
    let over_http = backend(options([server.host(Http)]));
    for (_, expected) in http {
        assert_eq!(call(&over_http).await.unwrap_err(), expected);
    }
    assert_eq!(server.app.runs(), 6, "none is asked twice");

    let grpc = [
        (16, CallError::Unauthenticated),
        (3, CallError::InvalidArgument),
        (4, CallError::Timeout),
        (13, CallError::Unknown("with code Internal".into())),
    ];
    let server = Server::start(
        Grpc,
        &App::new(grpc.iter().map(|(code, _)| Act::Fail(*code))),
    )
    .await;
    let over_grpc = backend(options([server.host(Grpc)]));
    for (_, expected) in grpc {
        assert_eq!(call(&over_grpc).await.unwrap_err(), expected);
    }
    assert_eq!(server.app.runs(), 4, "none is asked twice");
    let tallies = over_grpc.tallies();
    assert_eq!(
        (tallies.errors, tallies.timeouts, tallies.retries),
        (4, 1, 0)
    );
}

#[tokio::test]
async fn an_answer_that_is_none_is_malformed() {
    let script = ["<html>a secret trace</html>", "", r#"{"status":9}"#];
    let app = App::new(script.map(|body| Act::Say(body.into())));
    let server = Server::start(Http, &app).await;
    let backend = backend(options([server.host(Http)]));
    for _ in script {
        let error = call(&backend).await.unwrap_err();
        assert!(matches!(error, CallError::Malformed(_)), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    for transport in [Http, Grpc] {
        let long = format!(r#"{{"status":2,"error_msg":"{}"}}"#, "x".repeat(100));
        let server = Server::start(transport, &App::new([Act::Say(long.into())])).await;
        let mut options = options([server.host(transport)]);
        options.max_answer_bytes = 64;
        let backend = backend(options);
        let error = backend.command("sid", command()).await.unwrap_err();
        assert_eq!(
            error,
            CallError::Malformed("it is longer than 64 bytes".into()),
            "{transport:?}"
        );
        backend.disconnect("sid", disconnect()).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    let server = Server::start(Grpc, &App::new([])).await;
    let backend = backend(options([server.host(Grpc)]));
    let answer = backend.command("sid", command()).await.unwrap();
    assert_eq!(answer.status, Status::Failure);
}

#[tokio::test]
async fn a_session_id_that_no_header_can_carry_is_refused() {
    for transport in [Http, Grpc] {
        let server = Server::start(transport, &App::new([])).await;
        let backend = backend(options([server.host(transport)]));
        let forged = backend.connect("a\r\nb: c", Connect::default()).await;
        assert_eq!(forged.unwrap_err(), CallError::InvalidArgument);
        assert_eq!(server.app.runs(), 0);
    }
}
