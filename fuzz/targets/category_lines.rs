//! A line of the file of events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::category::{Event, StoredEvent};

fuzz_target!(|data: &[u8]| {
    let Ok(stored) = StoredEvent::parse(data) else {
        return;
    };
    let event = Event::of(&stored.stream, &stored.data, stored.time);
    assert_eq!(StoredEvent::parse(&event.json), Ok(stored));
});
