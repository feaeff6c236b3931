//! A client's token. The secret is known here, so whatever is forged is forged
//! by luck; what follows a good signature is read too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{Identity, TokenVerifier};

fuzz_target!(|data: &[u8]| {
    let verifier = TokenVerifier::new([b"s3Krit".to_vec(), b"old".to_vec()]);
    let verifier = verifier.expect("there are secrets");
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(identity) = verifier.verify(text, 1) {
        assert_eq!(verifier.verify(&verifier.sign(&identity), 1), Ok(identity));
    }
    let identity = Identity {
        identifiers: text.to_owned(),
        expires: None,
    };
    assert_eq!(verifier.verify(&verifier.sign(&identity), 1), Ok(identity));
});
