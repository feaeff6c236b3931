//! What came over Redis, where others can write too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{Announcement, Publication, Source, StreamName};

fuzz_target!(|data: &[u8]| {
    let stream = StreamName::try_new("chat/1").expect("it is a name");
    if let Ok(announcement) = Announcement::parse(stream.clone(), data) {
        assert_eq!(announcement.publication.stream, stream);
    }
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = Source::parse(text);
    let (data, meta) = text.split_once('\n').unwrap_or((text, "{}"));
    for is_json in [false, true] {
        let _ = Publication::from_parts(stream.clone(), data, is_json, Some(meta));
    }
});
