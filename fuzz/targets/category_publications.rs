//! A publication to a category, and the event that becomes of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::category::{Event, PublishRequest, StoredEvent};

fuzz_target!(|data: &[u8]| {
    let Ok(request) = PublishRequest::parse(data) else {
        return;
    };
    let event = Event::of(&request.stream, &request.data, 1_616_040_198_889_123);
    assert_eq!(Event::decode(event.json.clone()).as_ref(), Some(&event));
    let stored = StoredEvent::parse(&event.json).expect("it is an event");
    assert_eq!((stored.stream, stored.data), (request.stream, request.data));
});
