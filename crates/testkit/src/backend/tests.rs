//! The application on its own, called by hand.

use super::{Backend, Callers, Face, Kind, Trouble, call::Call, json, protobuf};
use crate::{Certificates, Connection, Http2, PATIENCE, Request, Response, Secure};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};

const IDENTIFIER: &str = r#"{"channel":"ChatChannel","room":"1"}"#;
const ANN: &str = r#"{"user":"ann"}"#;

fn post(path: &str, body: &Value) -> Request {
    Request::post(path)
        .header("Content-Type", "application/json")
        .header("Authorization", "Bearer key")
        .header("x-anycable-meta-sid", "s1")
        .header("x-anycable-meta-protov", "v1")
        .body(body.to_string())
}

fn connect(query: &str) -> Request {
    let url = format!("http://localhost/cable{query}");
    post(
        "/_anycable/connect",
        &json!({"env": {"url": url, "headers": {}}}),
    )
}

fn command(verb: &str, data: &str, istate: &Value) -> Request {
    let body = json!({
        "command": verb, "identifier": IDENTIFIER, "connection_identifiers": ANN, "data": data,
        "env": {"url": "http://localhost/cable", "headers": {}, "cstate": {}, "istate": istate},
    });
    post("/_anycable/command", &body)
}

async fn ask(backend: &Backend, request: &Request) -> Result<Response> {
    Connection::once((Ipv4Addr::LOCALHOST, backend.port()).into(), request).await
}

async fn answer(backend: &Backend, request: &Request) -> Result<Value> {
    let response = ask(backend, request).await?;
    anyhow::ensure!(response.status == 200, "{response:?}");
    Ok(serde_json::from_slice(&response.body)?)
}

#[tokio::test]
async fn the_chat_answers_as_json() -> Result<()> {
    let backend = Backend::http().await?;
    assert_eq!(
        answer(&backend, &connect("?user=ann")).await?,
        json!({
            "status": 1, "identifiers": ANN, "env": {"cstate": {"seen": "1"}},
            "transmissions": [r#"{"type":"welcome","sid":"s1"}"#],
        })
    );
    for refused in ["", "?user=mallory"] {
        assert_eq!(answer(&backend, &connect(refused)).await?["status"], 2);
    }
    let crashed = answer(&backend, &connect("?user=crash")).await?;
    assert_eq!(crashed["status"], 0);
    assert_eq!(crashed["error_msg"], "the database is on fire");
    let joined = answer(&backend, &command("subscribe", "", &json!({}))).await?;
    assert_eq!(joined["streams"], json!(["chat/1"]));
    assert_eq!(joined["env"], json!({"istate": {"room": "1"}}));
    let speak = json!({"action": "speak", "text": "hi"}).to_string();
    let echo = answer(&backend, &command("message", &speak, &json!({"n": "4"}))).await?;
    assert_eq!(
        echo["env"],
        json!({"istate": {"n": "5"}, "cstate": {"total": "1"}})
    );
    let call = backend.call(Kind::Message, 0).await?;
    assert_eq!((call.data, call.identifiers), (speak, ANN.to_owned()));
    assert_eq!(call.istate.get("n").map(String::as_str), Some("4"));
    assert!(backend.complaints().is_empty());
    Ok(())
}

#[tokio::test]
async fn callers_are_held_to_the_protocol() -> Result<()> {
    let backend = Backend::builder(Face::Http).key("key").start().await?;
    let stranger = Request::post("/_anycable/connect").header("Authorization", "Bearer guess");
    assert_eq!(ask(&backend, &stranger).await?.status, 401);
    let env = json!({"url": "http://localhost/"});
    for (path, body) in [
        ("/_anycable/connect", json!({"env": env, "sid": "s1"})),
        ("/_anycable/connect", json!({"env": {"url": 1}})),
        ("/_anycable/connect", json!({})),
        (
            "/_anycable/command",
            json!({"command": "dance", "env": env}),
        ),
        (
            "/_anycable/disconnect",
            json!({"env": env, "subscriptions": [1]}),
        ),
        ("/_anycable/nothing", json!({"env": env})),
    ] {
        assert_eq!(
            ask(&backend, &post(path, &body)).await?.status,
            422,
            "{path} {body}"
        );
    }
    let bare = Request::post("/_anycable/connect").header("Authorization", "Bearer key");
    assert_eq!(ask(&backend, &bare).await?.status, 422);
    assert_eq!(backend.complaints().len(), 7);
    assert!(backend.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_application_can_be_out_of_order() -> Result<()> {
    let mut backend = Backend::http().await?;
    let port = backend.port();
    for (trouble, status) in [
        (Trouble::Failing, 500),
        (Trouble::Unauthorized, 401),
        (Trouble::Exhausted, 503),
        (Trouble::Error, 200),
    ] {
        backend.trouble(trouble, 1);
        assert_eq!(ask(&backend, &connect("?user=ann")).await?.status, status);
        assert_eq!(answer(&backend, &connect("?user=ann")).await?["status"], 1);
    }
    backend.trouble(Trouble::CutOff, 1);
    assert!(ask(&backend, &connect("?user=ann")).await.is_err());
    assert_eq!(backend.calls().len(), 9);

    backend.slow(Duration::from_secs(3_600));
    let mut held = Connection::open((Ipv4Addr::LOCALHOST, port).into()).await?;
    held.send(&connect("?user=ann")).await?;
    backend.call(Kind::Connect, 9).await?;
    assert_eq!(backend.running(), (1, 1));
    held.close();
    crate::assert_eventually!(backend.abandoned() == 1, PATIENCE);
    backend.recover();

    backend.stop().await;
    assert!(ask(&backend, &connect("?user=ann")).await.is_err());
    backend.start().await?;
    assert_eq!(backend.port(), port);
    assert_eq!(answer(&backend, &connect("?user=ann")).await?["status"], 1);
    Ok(())
}

#[tokio::test]
async fn it_speaks_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let open = Backend::builder(Face::Http).tls(&certificates, Callers::Anybody);
    let open = open.start().await?;
    let address = (Ipv4Addr::LOCALHOST, open.port()).into();
    let mut client = Secure::open(address, &[&certificates]).await?;
    assert_eq!(client.ask(&connect("?user=ann")).await?.status, 200);
    let closed = Backend::builder(Face::Http).tls(&certificates, Callers::Certified);
    let closed = closed.start().await?;
    let address = (Ipv4Addr::LOCALHOST, closed.port()).into();
    // With TLS 1.3 a client learns of its refusal when it reads.
    let asked = async {
        let mut client = Secure::open(address, &[&certificates]).await?;
        client.ask(&connect("?user=ann")).await
    };
    assert!(asked.await.is_err());
    Ok(())
}

/// A call as a client would send it, and its answer's bytes.
async fn grpc(backend: &Backend, method: &str, message: &[u8]) -> Result<Vec<u8>> {
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);
    let address = (Ipv4Addr::LOCALHOST, backend.port()).into();
    let mut client = Box::pin(Http2::open(address)).await?;
    let headers = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("sid", "s1"),
        ("protov", "v1"),
    ];
    let path = format!("/anycable.RPC/{method}");
    let body = str::from_utf8(&body)?;
    let stream = client.send("POST", &path, &headers, body).await?;
    let (_, _, answer) = Box::pin(stream.answer()).await?;
    Ok(answer.get(5..).context("no message")?.to_vec())
}

#[tokio::test]
async fn the_chat_answers_as_protocol_buffers() -> Result<()> {
    let backend = Backend::grpc().await?;
    // env (3) { url (1), headers (2) { "a" => "b" } }
    let message = b"\x1a\x12\x0a\x08/?user=m\x12\x06\x0a\x01a\x12\x01b";
    let welcome = br#"{"type":"welcome","sid":"s1"}"#;
    let mut expected = b"\x08\x01\x12\x0c{\"user\":\"m\"}\x1a\x1d".to_vec();
    expected.extend(welcome);
    // env (5) { cstate (1) { "seen" => "1" } }
    expected.extend(b"\x2a\x0b\x0a\x09\x0a\x04seen\x12\x011");
    assert_eq!(grpc(&backend, "Connect", message).await?, expected);
    let call = backend.call(Kind::Connect, 0).await?;
    assert_eq!((call.sid.as_str(), call.url.as_str()), ("s1", "/?user=m"));
    assert_eq!(call.headers.get("a").map(String::as_str), Some("b"));
    assert!(
        grpc(&backend, "Connect", b"\x0a\x00").await.is_err(),
        "no field 1"
    );
    assert!(grpc(&backend, "Dance", b"").await.is_err());
    assert_eq!(backend.complaints().len(), 2);
    Ok(())
}

#[test]
fn both_faces_read_the_same_command() -> Result<()> {
    let body = json!({
        "command": "message", "identifier": "i", "connection_identifiers": "c", "data": "d",
        "env": {"url": "u", "headers": {"h": "1"}, "cstate": {"s": "2"}, "istate": {"t": ""}},
    });
    let read = json::call(None, body.to_string().as_bytes())?;
    let message = b"\x0a\x07message\x12\x01i\x1a\x01c\x22\x01d\
        \x2a\x18\x0a\x01u\x12\x06\x0a\x01h\x12\x011\x1a\x06\x0a\x01s\x12\x012\x22\x03\x0a\x01t";
    assert_eq!(protobuf::call("Command", message)?, read);
    let gone = protobuf::call(
        "Disconnect",
        b"\x0a\x01c\x12\x01i\x12\x01j\x2a\x03\x0a\x01u",
    )?;
    let expected = Call {
        identifiers: "c".to_owned(),
        subscriptions: vec!["i".to_owned(), "j".to_owned()],
        url: "u".to_owned(),
        ..Call::new(Kind::Disconnect)
    };
    assert_eq!(gone, expected);
    Ok(())
}
