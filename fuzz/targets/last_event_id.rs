//! `Last-Event-ID`, in both orders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{StreamName, sse::last_event_id};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (id, stream) = text.split_once('\n').unwrap_or((text, "chat/1"));
    let Ok(stream) = StreamName::try_new(stream) else {
        return;
    };
    if let Some(position) = last_event_id(id, &stream) {
        let (offset, epoch) = (position.offset, position.epoch.as_str());
        let again = format!("{}/{epoch}/{}", offset.get(), stream.as_str());
        assert_eq!(last_event_id(&again, &stream), Some(position));
    }
});
