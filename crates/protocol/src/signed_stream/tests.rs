use super::*;

/// Signed by other implementations with the secret `s3Krit`.
const VECTORS: [(&str, &str); 2] = [
    (
        "chat/2023",
        "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c",
    ),
    (
        "room?~>1",
        "InJvb20/fj4xIg==--0781ed886a1caac8deeea13b43882f35addc287177670f4879d9fb8265726419",
    ),
];

fn verifier(secrets: &[&str]) -> StreamVerifier {
    StreamVerifier::new(secrets.iter().map(|secret| secret.as_bytes().to_vec())).unwrap()
}

/// Signs any text, as a buggy or foreign signer might.
fn signed(secret: &str, encoded: &str) -> String {
    format!("{encoded}--{}", derived_key(secret.as_bytes(), encoded))
}

#[test]
fn vectors_verify_and_are_made_again() {
    let verifier = verifier(&["s3Krit"]);
    for (name, signed) in VECTORS {
        let name = StreamName::try_new(name).unwrap();
        assert_eq!(verifier.verify(signed), Ok(name.clone()));
        assert_eq!(verifier.sign(&name), signed);
    }
}

#[test]
fn both_alphabets_with_and_without_padding() {
    let verifier = verifier(&["k"]);
    for encoded in [
        "InJvb20/fj4xIg==",
        "InJvb20/fj4xIg",
        "InJvb20_fj4xIg==",
        "InJvb20_fj4xIg",
    ] {
        let name = verifier.verify(&signed("k", encoded)).unwrap();
        assert_eq!(name.as_str(), "room?~>1");
    }
}

#[test]
fn the_last_separator_counts() {
    let verifier = verifier(&["k"]);
    // The URL-safe text of `"\u{7fe}"` holds a separator itself.
    let name = verifier.verify(&signed("k", "It--Ig==")).unwrap();
    assert_eq!(name.as_str(), "\u{7fe}");
    let standard = verifier.verify(&signed("k", "It++Ig==")).unwrap();
    assert_eq!(standard, name);
}

#[test]
fn an_older_secret_still_counts_and_the_first_signs() {
    let rotated = verifier(&["new", "s3Krit"]);
    assert!(rotated.verify(VECTORS[0].1).is_ok());
    let name = StreamName::try_new("a").unwrap();
    assert_eq!(rotated.sign(&name), verifier(&["new"]).sign(&name));
}

#[test]
fn without_a_secret_there_is_no_verifier() {
    assert!(StreamVerifier::new([]).is_none());
    assert!(StreamVerifier::new([Vec::new()]).is_none());
}

#[test]
fn an_empty_secret_beside_a_real_one_signs_nothing() {
    let both = verifier(&["", "s3Krit"]);
    let forged = signed("", "ImEi");
    assert_eq!(both.verify(&forged), Err(SignedStreamError::BadSignature));
    assert!(both.verify(VECTORS[0].1).is_ok());
}

#[test]
fn forged_and_malformed_names_are_told_apart() {
    let verifier = verifier(&["s3Krit"]);
    let (_, good) = VECTORS[0];
    let upper = good.replace("2b2e", "2B2E");
    let other = good.replace("2b2e", "2b2f");
    for malformed in [
        "",
        "--",
        "ImEi",
        "ImEi--",
        "ImEi--00",
        &upper,
        &format!("{good}0"),
    ] {
        assert_eq!(
            verifier.verify(malformed),
            Err(SignedStreamError::Malformed),
            "{malformed}"
        );
    }
    assert_eq!(
        verifier.verify(&other),
        Err(SignedStreamError::BadSignature)
    );
}

#[test]
fn what_was_signed_must_be_a_stream_name() {
    let verifier = verifier(&["k"]);
    let cases = [
        ("é", SignedStreamError::NotBase64),
        ("aGVsbG8=", SignedStreamError::NotAString),
        ("NDI=", SignedStreamError::NotAString),
        ("IiI=", SignedStreamError::BadName(NameError::Empty)),
    ];
    for (encoded, error) in cases {
        assert_eq!(verifier.verify(&signed("k", encoded)), Err(error));
    }
}

#[test]
fn derived_keys_match_the_vectors() {
    let vectors = [
        (
            "broadcast-cable",
            "42923a28b760e667fc92f7c6123bb07a282822b329dd2ef48e7aee7830d98485",
        ),
        (
            "rpc-cable",
            "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd",
        ),
        (
            "api-cable",
            "bdd0244b3664404d03b7d0c2f1b946dc4fc6c13fdcbfa2be62a4a28deb04d096",
        ),
    ];
    for (phrase, key) in vectors {
        assert_eq!(derived_key(b"qwerty", phrase), key);
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", verifier(&["s3Krit", "old"]));
    assert_eq!(shown, "StreamVerifier { secrets: 2, .. }");
}
