//! A signed stream's name. The secret is known here, so whatever is forged is
//! forged by luck.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{StreamName, StreamVerifier};

fuzz_target!(|data: &[u8]| {
    let verifier = StreamVerifier::new([b"s3Krit".to_vec(), b"old".to_vec()]);
    let verifier = verifier.expect("there are secrets");
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = verifier.verify(text) {
        assert_eq!(verifier.verify(&verifier.sign(&name)), Ok(name));
    }
    if let Ok(name) = StreamName::try_new(text) {
        assert_eq!(verifier.verify(&verifier.sign(&name)), Ok(name));
    }
});
