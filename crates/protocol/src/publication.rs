//! One message to one stream.

use crate::json;
use crate::names::StreamName;
use crate::payload::Payload;

/// One message to one stream, before a broker has given it a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where it goes.
    pub stream: StreamName,
    /// What it says.
    pub data: Payload,
    /// How it is to be treated.
    pub meta: Meta,
}

/// How a publication is to be treated. The default asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Id of the session that must not get it, usually its author.
    pub exclude_socket: Option<Box<str>>,
    /// Deliver, but keep no history of it.
    pub transient: bool,
    /// The `type` of the frame sent to clients.
    pub broadcast_type: Option<Box<str>>,
    /// W3C trace context of the publisher.
    pub traceparent: Option<Box<str>>,
    /// What tracing systems add to that; passed on as it is.
    pub tracestate: Option<Box<str>>,
}

impl Publication {
    /// The wire form, which [`Inbound::parse`](crate::Inbound::parse) reads back as an equal
    /// publication: `{"stream":"…","data":"<JSON text>"}` and `meta` if it asks for something.
    ///
    /// The JSON `null` is the one payload written without quotes, as inside of a string it would
    /// come back as text.
    pub fn to_json(&self) -> Vec<u8> {
        let data = self.data.as_str();
        let mut out = Vec::with_capacity(
            64 + json::string_len(self.stream.as_str()) + json::string_len(data),
        );
        out.extend_from_slice(b"{\"stream\":");
        json::push_string(&mut out, self.stream.as_str());
        out.extend_from_slice(b",\"data\":");
        if data == "null" {
            out.extend_from_slice(b"null");
        } else {
            json::push_string(&mut out, data);
        }
        self.meta.push_json(&mut out);
        out.push(b'}');
        out
    }
}

impl Meta {
    /// Appends `,"meta":{…}`, or nothing for the default.
    pub(crate) fn push_json(&self, out: &mut Vec<u8>) {
        let mut before: &[u8] = b",\"meta\":{";
        let mut key = |out: &mut Vec<u8>, key: &str| {
            out.extend_from_slice(before);
            before = b",";
            json::push_string(out, key);
            out.push(b':');
        };
        if let Some(socket) = &self.exclude_socket {
            key(out, "exclude_socket");
            json::push_string(out, socket);
        }
        if self.transient {
            key(out, "transient");
            out.extend_from_slice(b"true");
        }
        if let Some(kind) = &self.broadcast_type {
            key(out, "broadcast_type");
            json::push_string(out, kind);
        }
        if let Some(traceparent) = &self.traceparent {
            key(out, "traceparent");
            json::push_string(out, traceparent);
        }
        if let Some(tracestate) = &self.tracestate {
            key(out, "tracestate");
            json::push_string(out, tracestate);
        }
        if before == b"," {
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(data: &str, meta: Meta) -> String {
        let publication = Publication {
            stream: StreamName::try_new("chat/42").unwrap(),
            data: Payload::from_text(data),
            meta,
        };
        String::from_utf8(publication.to_json()).unwrap()
    }

    #[test]
    fn the_wire_form_is_anycables() {
        assert_eq!(
            json_of(r#"{"text":"Hi"}"#, Meta::default()),
            r#"{"stream":"chat/42","data":"{\"text\":\"Hi\"}"}"#
        );
        assert_eq!(
            json_of("Hi", Meta::default()),
            r#"{"stream":"chat/42","data":"\"Hi\""}"#
        );
    }

    #[test]
    fn meta_holds_only_what_is_asked_for() {
        let transient = Meta {
            transient: true,
            ..Meta::default()
        };
        assert_eq!(
            json_of("1", transient),
            r#"{"stream":"chat/42","data":"1","meta":{"transient":true}}"#
        );
        let full = Meta {
            exclude_socket: Some("s\"1".into()),
            transient: true,
            broadcast_type: Some("presence".into()),
            traceparent: Some("00-1-2-01".into()),
            tracestate: Some("a=1".into()),
        };
        assert_eq!(
            json_of("1", full),
            concat!(
                r#"{"stream":"chat/42","data":"1","meta":{"exclude_socket":"s\"1","#,
                r#""transient":true,"broadcast_type":"presence","traceparent":"00-1-2-01","#,
                r#""tracestate":"a=1"}}"#
            )
        );
    }
}
