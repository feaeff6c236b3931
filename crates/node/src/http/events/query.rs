//! What a `GET` says in its query.

/// The parameters that are known here; others are for whoever authenticates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventQuery {
    /// The subscription's identifier, given whole or made of its parts.
    pub(super) identifier: Option<String>,
    /// Unix seconds from which on history is wanted.
    pub(super) history_since: Option<i64>,
    /// Only publications, and nothing of the protocol.
    pub(super) raw: bool,
    /// For clients that can't send the header, as after a page was loaded
    /// again.
    pub(super) last_event_id: Option<String>,
}

impl EventQuery {
    pub(super) fn parse(query: &str) -> Self {
        let mut known = Self::default();
        let (mut whole, mut channel) = (None, None);
        let (mut stream, mut signed, mut turbo) = (None, None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "identifier" => whole = Some(value),
                "channel" => channel = Some(value),
                "stream" => stream = Some(value),
                "signed_stream" => signed = Some(value),
                "turbo_signed_stream_name" => turbo = Some(value),
                "history_since" => known.history_since = value.parse().ok(),
                "raw" => {
                    known.raw = matches!(value.as_str(), "1" | "true" | "t" | "y" | "yes");
                }
                "lastEventId" | "last-event-id" | "last_event_id" => {
                    known.last_event_id = Some(value);
                }
                _ => {}
            }
        }
        let pubsub = |field: &str, name: String| object(&[("channel", "$pubsub"), (field, &name)]);
        known.identifier = whole
            .or_else(|| channel.map(|channel| object(&[("channel", &channel)])))
            .or_else(|| stream.map(|name| pubsub("stream_name", name)))
            .or_else(|| signed.map(|name| pubsub("signed_stream_name", name)))
            .or_else(|| {
                turbo.map(|name| {
                    object(&[
                        ("channel", "Turbo::StreamsChannel"),
                        ("signed_stream_name", &name),
                    ])
                })
            });
        known
    }
}

/// A JSON object of texts, in this order.
fn object(members: &[(&str, &str)]) -> String {
    let text = |text| serde_json::to_string(text).unwrap_or_default();
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("{}:{}", text(key), text(value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(query: &str) -> Option<String> {
        EventQuery::parse(query).identifier
    }

    #[test]
    fn subscriptions_are_named_in_several_ways() {
        for (query, expected) in [
            (
                "stream=chat%2F1",
                Some(r#"{"channel":"$pubsub","stream_name":"chat/1"}"#),
            ),
            (
                "signed_stream=a--b",
                Some(r#"{"channel":"$pubsub","signed_stream_name":"a--b"}"#),
            ),
            ("channel=Chat%22", Some(r#"{"channel":"Chat\""}"#)),
            (
                "turbo_signed_stream_name=x",
                Some(r#"{"channel":"Turbo::StreamsChannel","signed_stream_name":"x"}"#),
            ),
            ("stream=a&identifier=%7B%7D", Some("{}")),
            ("jid=token", None),
            ("", None),
        ] {
            assert_eq!(identifier(query).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn the_rest_is_read_too() {
        let query = EventQuery::parse("stream=a&raw=1&history_since=17&lastEventId=7%2Fe%2Fa");
        assert!(query.raw);
        assert_eq!(query.history_since, Some(17));
        assert_eq!(query.last_event_id.as_deref(), Some("7/e/a"));
        let query = EventQuery::parse("raw=no&history_since=soon");
        assert_eq!(query, EventQuery::default());
    }
}
