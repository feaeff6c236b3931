//! Answers to polls and publishers.

use bytes::Bytes;

/// `{"events":[…]}` of encoded events.
pub fn events(events: &[Bytes]) -> Bytes {
    let length: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 12);
    let mut before: &[u8] = b"{\"events\":[";
    for event in events {
        body.extend_from_slice(before);
        body.extend_from_slice(event);
        before = b",";
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// What a poll is told if nothing happened. `timestamp` is in milliseconds since 1970: what
/// happens from then on, a poll since then is told.
pub fn timeout(timestamp: i64) -> Bytes {
    let text = "no events before timeout";
    format!("{{\"timeout\":\"{text}\",\"timestamp\":{timestamp}}}").into()
}

/// `{"error": "…"}`, with the space that golongpoll puts there.
pub fn error(text: &str) -> Bytes {
    let mut body = b"{\"error\": ".to_vec();
    crate::json::push_string(&mut body, text);
    body.push(b'}');
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_golongpolls_byte_for_byte() {
        assert_eq!(
            events(&[Bytes::from_static(b"{1}"), Bytes::from_static(b"{2}")]),
            r#"{"events":[{1},{2}]}"#
        );
        assert_eq!(
            timeout(1_616_210_844_178),
            r#"{"timeout":"no events before timeout","timestamp":1616210844178}"#
        );
        assert_eq!(
            error("Invalid 'since_time' arg."),
            r#"{"error": "Invalid 'since_time' arg."}"#
        );
    }
}
