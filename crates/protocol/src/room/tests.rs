use super::*;
use crate::publication::Meta;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn publication(data: &str) -> Publication {
    Publication {
        stream: StreamName::try_new("room:general").unwrap(),
        data: Payload::from_text(data),
        meta: Meta::default(),
    }
}

fn send(body: &str) -> Result<SendRequest, RoomError> {
    SendRequest::parse(body.as_bytes())
}

#[test]
fn the_serialised_form_is_the_references() {
    let parsed = RoomMessage::parse(br#"{"type":"a"}"#).unwrap();
    assert_eq!(
        text(parsed.to_json()),
        r#"{"kind":"event","payload":{},"type":"a"}"#
    );
    let built = RoomMessage::new("chat.message", text_object(&[("text", "hi")]));
    let expected = r#"{"payload":{"text":"hi"},"type":"chat.message"}"#;
    assert_eq!(text(built.to_json()), expected);
    assert_eq!(text(built.to_frame()), expected);
    let all = r#"{"id":"1","kind":"k","payload":{},"room":"general","ts":"T","type":"x"}"#;
    let stored = RoomMessage::parse(all.as_bytes()).unwrap();
    assert_eq!(text(stored.to_json()), all);
    assert_eq!(text(stored.to_frame()), r#"{"payload":{},"type":"x"}"#);
}

#[test]
fn what_is_not_typed_is_no_message() {
    for frame in [
        "hello",
        "",
        "[]",
        "{}",
        r#"{"type":""}"#,
        r#"{"type":5}"#,
        r#"{"type":"a","room":null}"#,
        r#"{"type":"a","id":1}"#,
        r#"{"type":"a"} x"#,
        r#"{"type":"\ud800"}"#,
    ] {
        assert_eq!(RoomMessage::parse(frame.as_bytes()), None, "{frame}");
    }
    assert_eq!(RoomMessage::parse(b"{\"type\":\"\xff\"}"), None);
    let lenient = r#"{"type":"a","kind":"","payload":[1],"more":{},"session_id":5}"#;
    let message = RoomMessage::parse(lenient.as_bytes()).unwrap();
    assert_eq!(message.kind, "event");
    assert_eq!(message.payload.as_str(), "{}");
}

#[test]
fn payloads_pass_unchanged() {
    let payload = r#"{"text":"Hello","n":5,"f":1.50,"b":true,"arr":[1],"obj":{"a":1}, "n":6}"#;
    let body = format!(r#"{{"type":"a","payload":{payload}}}"#);
    assert_eq!(send(&body).unwrap().message.payload.as_str(), payload);
    let message = RoomMessage::parse(body.as_bytes()).unwrap();
    assert!(text(message.to_frame()).contains(payload));
}

#[test]
fn a_send_says_what_is_wrong_with_it() {
    for (body, error) in [
        ("", "JSON body must be an object"),
        (" \n", "JSON body must be an object"),
        ("[]", "JSON body must be an object"),
        ("5", "JSON body must be an object"),
        ("null", "JSON body must be an object"),
        ("{", "invalid JSON body"),
        ("hello", "invalid JSON body"),
        (r#"{"type":"a"}}"#, "invalid JSON body"),
        ("{}", "missing 'type' field"),
        (r#"{"type":""}"#, "missing 'type' field"),
        (r#"{"type":5}"#, "'type' must be a string"),
        (r#"{"type":"a","room":null}"#, "'room' must be a string"),
        (
            r#"{"type":"a","session_id":1}"#,
            "'session_id' must be a string",
        ),
    ] {
        assert_eq!(send(body).unwrap_err().to_string(), error, "{body}");
    }
    let request = send("{/* who */\"type\":\"a\", // what\n\"session_id\":\"x\"}").unwrap();
    assert_eq!(request.session.as_deref(), Some("x"));
    assert_eq!(request.message.kind, "event");
    assert_eq!(
        send(r#"{"type":"a","session_id":""}"#).unwrap().session,
        None
    );
}

#[test]
fn publications_are_messages_or_become_some() {
    let of = |data| text(RoomMessage::of(&publication(data)).to_json());
    let message = r#"{"id":"1","kind":"event","payload":{"n":[1]},"room":"r","ts":"T","type":"x"}"#;
    assert_eq!(of(message), message);
    assert_eq!(
        of(r#"{"text":"hi","type":"x"}"#),
        r#"{"kind":"event","payload":{"text":"hi","type":"x"},"room":"general","type":"message"}"#
    );
    assert_eq!(
        of("hi"),
        r#"{"kind":"event","payload":{"data":"hi"},"room":"general","type":"message"}"#
    );
    let mut presence = publication("{}");
    presence.meta.broadcast_type = Some("presence".into());
    assert_eq!(RoomMessage::of(&presence).topic, "presence");
}

#[test]
fn fields_are_found_by_name() {
    let message =
        RoomMessage::parse(br#"{"type":"t","payload":{"user_id":7,"a":"b","c":{},"d":""}}"#)
            .unwrap();
    assert_eq!(message.field("type").as_deref(), Some("t"));
    assert_eq!(message.field("payload.user_id").as_deref(), Some("7"));
    assert_eq!(message.field("payload.a").as_deref(), Some("b"));
    for absent in [
        "room",
        "payload.c",
        "payload.d",
        "payload.x",
        "payload",
        "x",
    ] {
        assert_eq!(message.field(absent), None, "{absent}");
    }
}

#[test]
fn missing_members_are_added_to_a_payload() {
    let with = |payload: &str| {
        let message = RoomMessage::new("t", Payload::from_text(payload));
        message
            .payload_with(&[("room", "r"), ("user", "u")])
            .as_str()
            .to_owned()
    };
    assert_eq!(with("{}"), r#"{"room":"r","user":"u"}"#);
    assert_eq!(with("{ }"), r#"{"room":"r","user":"u" }"#);
    assert_eq!(with(r#"{"n":1}"#), r#"{"room":"r","user":"u","n":1}"#);
    assert_eq!(with(r#"{"user":5}"#), r#"{"room":"r","user":5}"#);
    assert_eq!(
        with(r#"{"room":"x","user":"y"}"#),
        r#"{"room":"x","user":"y"}"#
    );
}
