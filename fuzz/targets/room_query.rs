//! The query of a room's poll.
#![no_main]

#[path = "../../crates/node/src/http/room/query.rs"]
mod query;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        let query = query::PollQuery::parse(text);
        assert!(!query.session.is_empty());
        let _ = (query.max, query.wait);
    }
});
