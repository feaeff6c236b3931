//! What a client says of encodings.
#![no_main]

#[path = "../../crates/node/src/http/accept_encoding.rs"]
mod accept_encoding;

use accept_encoding::{accepts_gzip, may_compress};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let several = accepts_gzip(data.split(|byte| *byte == b'\n'));
    // Several headers are one with commas.
    let one: Vec<_> = data
        .iter()
        .map(|byte| if *byte == b'\n' { b',' } else { *byte })
        .collect();
    assert_eq!(several, accepts_gzip([one.as_slice()]));
    assert_eq!(several, may_compress(Some(1), [one.as_slice()]));
    assert!(!may_compress(None, [one.as_slice()]));
});
