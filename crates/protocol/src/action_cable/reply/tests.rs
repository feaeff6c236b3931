use super::*;
use crate::position::{Epoch, Offset};

fn line(frame: &Frame) -> &str {
    str::from_utf8(frame.line()).unwrap()
}

fn chat() -> Identifier {
    Identifier::try_new(r#"{"channel":"ChatChannel","id":42}"#).unwrap()
}

#[test]
fn control_frames_are_written_as_anycable_writes_them() {
    let identifier = r#""identifier":"{\"channel\":\"ChatChannel\",\"id\":42}""#;
    let cases = [
        (
            welcome("Ic5Hz"),
            r#"{"type":"welcome","sid":"Ic5Hz"}"#.to_owned(),
        ),
        (welcome(""), r#"{"type":"welcome"}"#.to_owned()),
        (
            ping(1_694_041_735),
            r#"{"type":"ping","message":1694041735}"#.to_owned(),
        ),
        (pong(), r#"{"type":"pong"}"#.to_owned()),
        (
            confirm_subscription(&chat()),
            format!(r#"{{"type":"confirm_subscription",{identifier}}}"#),
        ),
        (
            reject_subscription(&chat()),
            format!(r#"{{"type":"reject_subscription",{identifier}}}"#),
        ),
        (
            confirm_history(&chat()),
            format!(r#"{{"type":"confirm_history",{identifier}}}"#),
        ),
        (
            reject_history(&chat()),
            format!(r#"{{"type":"reject_history",{identifier}}}"#),
        ),
        (
            disconnect(DisconnectReason::ServerRestart, true),
            r#"{"type":"disconnect","reason":"server_restart","reconnect":true}"#.to_owned(),
        ),
        (
            disconnect(DisconnectReason::Unauthorized, false),
            r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#.to_owned(),
        ),
    ];
    for (frame, expected) in cases {
        assert_eq!(line(&frame), format!("{expected}\n"));
    }
}

#[test]
fn a_message_has_a_type_and_a_position_if_known() {
    let data = Payload::from_text(r#"{"text":"hi"}"#);
    let identifier = Identifier::try_new("chat_1").unwrap();
    assert_eq!(
        line(&message(&identifier, &data, None, None)),
        "{\"identifier\":\"chat_1\",\"message\":{\"text\":\"hi\"}}\n"
    );
    assert_eq!(
        line(&message(&identifier, &data, Some(""), None)),
        line(&message(&identifier, &data, None, None))
    );
    let stream = StreamName::try_new("chat_42").unwrap();
    let position = Position {
        epoch: Epoch::new("x123"),
        offset: Offset::new(32),
    };
    assert_eq!(
        line(&message(
            &identifier,
            &data,
            Some("presence"),
            Some((&stream, &position))
        )),
        concat!(
            r#"{"type":"presence","identifier":"chat_1","message":{"text":"hi"},"#,
            r#""stream_id":"chat_42","epoch":"x123","offset":32}"#,
            "\n"
        )
    );
}
