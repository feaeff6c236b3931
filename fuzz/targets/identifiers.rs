//! An identifier, and the replies that repeat it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{Channel, IDENTIFIER_MAX, Identifier, action_cable::reply};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let Ok(identifier) = Identifier::try_new(text) else {
        assert!(text.is_empty() || text.len() > IDENTIFIER_MAX);
        return;
    };
    let _ = Channel::parse(&identifier);
    let frame = reply::confirm_subscription(&identifier);
    let json: serde_json::Value = serde_json::from_slice(&frame.json()).expect("a frame is JSON");
    assert_eq!(json["identifier"], text);
});
