use super::*;
use crate::call::Verb;

fn state(pairs: &[(&str, &str)]) -> State {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn subscribe(data: &str) -> Command {
    Command {
        verb: if data.is_empty() {
            Verb::Subscribe
        } else {
            Verb::Message
        },
        identifier: r#"{"channel":"ChatChannel"}"#.to_owned(),
        connection_identifiers: r#"{"user_id":42}"#.to_owned(),
        data: data.to_owned(),
        env: Env {
            url: "http://cable.app.dev/cable".to_owned(),
            headers: state(&[("cookie", "_s=1")]),
            cstate: state(&[("k", "v")]),
            istate: state(&[("room", "42")]),
        },
    }
}

#[test]
fn a_connect_is_sent_as_applications_know_it() {
    let call = Connect {
        env: Env {
            url: "http://cable.app.dev/cable?jid=x".to_owned(),
            headers: state(&[("cookie", "_s=1"), ("REMOTE_ADDR", "10.0.0.1")]),
            ..Env::default()
        },
    };
    assert_eq!(
        text(&connect(&call)),
        r#"{"env":{"url":"http://cable.app.dev/cable?jid=x","headers":{"REMOTE_ADDR":"10.0.0.1","cookie":"_s=1"}}}"#
    );
    assert_eq!(text(&connect(&Connect::default())), r#"{"env":{}}"#);
}

#[test]
fn commands_are_sent_as_applications_know_them() {
    assert_eq!(
        text(&command(&subscribe(""))),
        concat!(
            r#"{"command":"subscribe","identifier":"{\"channel\":\"ChatChannel\"}","#,
            r#""connection_identifiers":"{\"user_id\":42}","#,
            r#""env":{"url":"http://cable.app.dev/cable","headers":{"cookie":"_s=1"},"#,
            r#""cstate":{"k":"v"},"istate":{"room":"42"}}}"#
        )
    );
    let said = command(&subscribe(r#"{"action":"speak"}"#));
    assert!(
        text(&said).contains(r#""data":"{\"action\":\"speak\"}","env":"#),
        "{}",
        text(&said)
    );
}

#[test]
fn a_disconnect_is_sent_as_applications_know_it() {
    let call = Disconnect {
        identifiers: r#"{"user_id":42}"#.to_owned(),
        subscriptions: vec![r#"{"channel":"ChatChannel"}"#.to_owned()],
        env: Env {
            istate: state(&[(r#"{"channel":"ChatChannel"}"#, r#"{"room":"42"}"#)]),
            ..Env::default()
        },
    };
    assert_eq!(
        text(&disconnect(&call)),
        concat!(
            r#"{"identifiers":"{\"user_id\":42}","subscriptions":["{\"channel\":\"ChatChannel\"}"],"#,
            r#""env":{"istate":{"{\"channel\":\"ChatChannel\"}":"{\"room\":\"42\"}"}}}"#
        )
    );
}

#[test]
fn answers_to_a_connect() {
    let welcome = br#"{"status":1,"identifiers":"{\"user_id\":42}","transmissions":["{\"type\":\"welcome\",\"sid\":\"x\"}"],"env":{"cstate":{"k":"v"}}}"#;
    assert_eq!(
        connected(welcome).unwrap(),
        Connected {
            status: Status::Success,
            identifiers: r#"{"user_id":42}"#.to_owned(),
            transmissions: vec![r#"{"type":"welcome","sid":"x"}"#.to_owned()],
            error: String::new(),
            changes: Changes {
                cstate: state(&[("k", "v")]),
                istate: State::new(),
            },
        }
    );
    let refused = br#"{"status":2,"transmissions":["{\"type\":\"disconnect\"}"]}"#;
    assert_eq!(connected(refused).unwrap().status, Status::Failure);
    let failed = connected(br#"{"status":0,"error_msg":"oops"}"#).unwrap();
    assert_eq!((failed.status, &*failed.error), (Status::Error, "oops"));
}

#[test]
fn answers_to_a_command() {
    let answer = br#"{"status":1,"streams":["chat/42"],"transmissions":["{\"type\":\"confirm_subscription\"}"],
        "stop_streams":false,"stopped_streams":["old"],"disconnect":false,"env":{"istate":{"$w":"chat/42","gone":null}},
        "presence":{"type":"join","id":"42","info":"{\"name\":\"V\"}","ttl":"60"}}"#;
    let answer = commanded(answer).unwrap();
    assert_eq!(answer.streams, ["chat/42"]);
    assert_eq!(answer.stopped_streams, ["old"]);
    assert_eq!(
        answer.changes.istate,
        state(&[("$w", "chat/42"), ("gone", "")])
    );
    assert_eq!(
        answer.presence,
        Some(Presence {
            kind: "join".to_owned(),
            id: "42".to_owned(),
            info: r#"{"name":"V"}"#.to_owned(),
            ttl: 60,
        })
    );
}

#[test]
fn fields_may_be_missing_null_or_unknown() {
    assert_eq!(commanded(b"{}").unwrap(), Commanded::default());
    let nulls = br#"{"status":1,"disconnect":null,"stop_streams":null,"stopped_streams":null,
        "streams":null,"transmissions":null,"error_msg":null,"env":null,"presence":null,"new":[{}]}"#;
    assert_eq!(
        commanded(nulls).unwrap(),
        Commanded {
            status: Status::Success,
            ..Commanded::default()
        }
    );
    assert_eq!(
        connected(br#"{"env":{"cstate":null,"istate":null}}"#).unwrap(),
        Connected::default()
    );
}

#[test]
fn a_status_may_be_its_name() {
    let status = |answer: &[u8]| disconnected(answer).map(|answer| answer.status);
    assert_eq!(status(br#"{"status":"SUCCESS"}"#).unwrap(), Status::Success);
    assert_eq!(status(br#"{"status":"FAILURE"}"#).unwrap(), Status::Failure);
    assert_eq!(status(br#"{"status":"ERROR"}"#).unwrap(), Status::Error);
    assert_eq!(status(br#"{"status":null}"#).unwrap(), Status::Error);
    assert!(status(br#"{"status":3}"#).is_err());
    assert!(status(br#"{"status":-1}"#).is_err());
    assert!(status(br#"{"status":"yes"}"#).is_err());
    assert!(status(b"").is_err() && status(b" [1]").is_err() && status(b"<html>").is_err());
}

#[test]
fn an_error_does_not_repeat_the_answer() {
    for answer in [
        r#"{"status":"s3cret"}"#,
        r#"{"status":1,"presence":{"ttl":"s3cret"}}"#,
    ] {
        let error = commanded(answer.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
