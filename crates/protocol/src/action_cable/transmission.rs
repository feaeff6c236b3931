//! Frames that a backend wrote for a client.

use super::{DisconnectReason, reply};
use crate::{Frame, Identifier, Payload, json};
use serde_json::value::RawValue;

/// A frame in a backend's words, and what it means here.
///
/// What backends of every language write with the same meaning gets the same
/// bytes, whatever the order of its fields; all else is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// The frame, on one line.
    pub frame: Frame,
    /// What it means.
    pub kind: TransmissionKind,
}

/// What a backend's frame means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransmissionKind {
    /// This subscription is confirmed.
    Confirm(Identifier),
    /// This subscription is rejected.
    Reject(Identifier),
    /// The client is sent away.
    Disconnect {
        /// Why, if it is a reason with a name; backends have others too.
        reason: Option<DisconnectReason>,
        /// Whether it should come back.
        reconnect: bool,
    },
    /// Nothing that the server need know.
    Other,
}

/// A frame of a backend's is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transmission is not JSON")]
pub struct TransmissionError;

/// The fields that mean something here.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    identifier: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    reason: Option<&'a RawValue>,
    reconnect: Option<&'a RawValue>,
    /// There are others.
    more: bool,
}

impl Transmission {
    /// Reads one of a backend's `transmissions`.
    ///
    /// # Errors
    /// It is not JSON, which no client could read.
    pub fn parse(text: &str) -> Result<Self, TransmissionError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| TransmissionError)?;
        let known = understood(raw.get());
        Ok(known.unwrap_or_else(|| Self {
            frame: Frame::from_json(Payload::from_raw(raw).as_bytes().to_vec()),
            kind: TransmissionKind::Other,
        }))
    }
}

/// A frame that means something. `None`: it stays as it is.
fn understood(text: &str) -> Option<Transmission> {
    let mut fields = Fields::default();
    json::fields(text, |name, value| match name {
        "type" => fields.kind = Some(value),
        "identifier" => fields.identifier = Some(value),
        "message" => fields.message = Some(value),
        "reason" => fields.reason = Some(value),
        "reconnect" => fields.reconnect = Some(value),
        _ => fields.more = true,
    })
    .ok()?;
    let kind = match fields.kind {
        Some(kind) => Some(json::text(kind).ok()?),
        None => None,
    };
    if kind.as_deref() == Some("disconnect") {
        let reason = fields.reason.and_then(|reason| json::text(reason).ok());
        return Some(Transmission {
            frame: Frame::from_json(line(text)),
            kind: TransmissionKind::Disconnect {
                reason: reason.and_then(|reason| DisconnectReason::from_name(&reason)),
                reconnect: fields.reconnect.is_some_and(|raw| raw.get() == "true"),
            },
        });
    }
    if fields.more || fields.reason.is_some() || fields.reconnect.is_some() {
        return None;
    }
    let identifier = json::text(fields.identifier?).ok()?;
    let identifier = Identifier::try_new(&identifier).ok()?;
    let (frame, kind) = match (kind.as_deref(), fields.message) {
        (Some("confirm_subscription"), None) => (
            reply::confirm_subscription(&identifier),
            TransmissionKind::Confirm(identifier),
        ),
        (Some("reject_subscription"), None) => (
            reply::reject_subscription(&identifier),
            TransmissionKind::Reject(identifier),
        ),
        (kind, Some(message)) => {
            let message = Payload::from_raw(message);
            let frame = reply::message(&identifier, &message, kind, None);
            (frame, TransmissionKind::Other)
        }
        _ => return None,
    };
    Some(Transmission { frame, kind })
}

fn line(valid: &str) -> Vec<u8> {
    let line = |byte| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            byte
        }
    };
    valid.trim().bytes().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, TransmissionKind) {
        let Transmission { frame, kind } = Transmission::parse(text).unwrap();
        (String::from_utf8(frame.json().to_vec()).unwrap(), kind)
    }

    #[test]
    fn a_confirmation_is_known_whatever_the_order_of_its_fields() {
        let identifier = Identifier::try_new(r#"{"channel":"Chat"}"#).unwrap();
        let expected = r#"{"type":"confirm_subscription","identifier":"{\"channel\":\"Chat\"}"}"#;
        let theirs = "{\"identifier\":\"{\\\"channel\\\":\\\"Chat\\\"}\",\n \
                      \"type\":\"confirm_subscription\"}";
        for text in [expected, theirs] {
            let (frame, kind) = parse(text);
            assert_eq!(frame, expected);
            assert_eq!(kind, TransmissionKind::Confirm(identifier.clone()));
        }
        let (frame, kind) = parse(r#"{"identifier":"x","type":"reject_subscription"}"#);
        assert_eq!(frame, r#"{"type":"reject_subscription","identifier":"x"}"#);
        let identifier = Identifier::try_new("x").unwrap();
        assert_eq!(kind, TransmissionKind::Reject(identifier));
    }

    #[test]
    fn a_message_begins_with_its_identifier() {
        let (frame, kind) = parse(r#"{"message": {"b":1.10},"identifier":"x"}"#);
        assert_eq!(frame, r#"{"identifier":"x","message":{"b":1.10}}"#);
        assert_eq!(kind, TransmissionKind::Other);
    }

    #[test]
    fn a_disconnect_says_whether_to_come_back() {
        for (text, reason, reconnect) in [
            (
                r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#,
                Some(DisconnectReason::Unauthorized),
                false,
            ),
            (
                r#"{"type":"disconnect","reason":"moved","reconnect":true,"to":"x"}"#,
                None,
                true,
            ),
            (r#"{"type":"disconnect"}"#, None, false),
        ] {
            let (frame, kind) = parse(text);
            assert_eq!(frame, text);
            assert_eq!(kind, TransmissionKind::Disconnect { reason, reconnect });
        }
    }

    #[test]
    fn what_means_nothing_here_stays_as_it_is_on_one_line() {
        for text in [
            r#"{"type":"welcome","sid":"x"}"#,
            r#"{"type":"confirm_subscription","identifier":"x","extra":1}"#,
            r#"{"type":7,"identifier":"x"}"#,
            r#"{"identifier":""}"#,
            "[1]",
            "null",
            "\"text\"",
        ] {
            assert_eq!(parse(text), (text.to_owned(), TransmissionKind::Other));
        }
        assert_eq!(parse(" [1,\r\n2] ").0, "[1,  2]");
        assert_eq!(Transmission::parse("{"), Err(TransmissionError));
        assert_eq!(Transmission::parse(""), Err(TransmissionError));
    }

    #[test]
    fn every_reason_is_found_by_its_name() {
        let names = ["unauthorized", "token_expired", "server_restart", "remote"];
        for name in names {
            let reason = DisconnectReason::from_name(name).unwrap();
            assert_eq!(reason.as_str(), name);
        }
        assert_eq!(DisconnectReason::from_name("other"), None);
    }
}
