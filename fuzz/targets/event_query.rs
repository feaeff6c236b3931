//! The query of `/events`.
#![no_main]

#[path = "../../crates/node/src/http/events/query.rs"]
mod query;

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{Channel, Identifier};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let query = query::EventQuery::parse(text);
    if let Some(identifier) = query.identifier
        && let Ok(identifier) = Identifier::try_new(&identifier)
    {
        let _ = Channel::parse(&identifier);
    }
    let _ = (query.history_since, query.raw, query.last_event_id);
});
