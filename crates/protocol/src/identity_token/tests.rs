use super::*;

const SECRET: &str = "s3Krit";
const NOW: u64 = 1_700_000_000;

fn verifier(secrets: &[&str]) -> TokenVerifier {
    let secrets = secrets.iter().map(|secret| secret.as_bytes().to_vec());
    TokenVerifier::new(secrets).unwrap()
}

fn part(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

/// A token of these parts, signed by `HS256` with [`SECRET`] whatever its header says.
fn token(header: &str, claims: &str) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let mut mac = Key::new(SECRET.as_bytes()).hs256;
    mac.update(text.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{text}.{signature}")
}

fn verify(claims: &str) -> Result<Identity, TokenError> {
    verifier(&[SECRET]).verify(&token(r#"{"alg":"HS256"}"#, claims), NOW)
}

#[test]
fn a_token_of_another_implementation_is_understood() {
    // As PyJWT makes them.
    for token in [
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHQiOiJ7XCJ1c2VyX2lkXCI6NDJ9In0.d_8Rvy1tqQ_PYceBe6rugQxrM07OPy3PyJJsbc4pbHI",
        "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHQiOiJ7XCJ1c2VyX2lkXCI6NDJ9In0.3A2uiM90BFYoN9KXXIXmSguNjjBbj19SuO5HY3IX8PvHVYsE-Cplg78l71UU4Zdb",
        "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHQiOiJ7XCJ1c2VyX2lkXCI6NDJ9In0.84QzHaz877Gre84V8tgu1QQLdkBEo1y7EwHjYeRMrnNPk_bjXc-225vJQvZCUSGP0ffao9uSsQ4PS3QjhVu-FQ",
    ] {
        let identity = verifier(&[SECRET]).verify(token, NOW).unwrap();
        assert_eq!(identity.identifiers, r#"{"user_id":42}"#);
        assert_eq!(identity.expires, None);
    }
}

#[test]
fn what_is_signed_here_is_understood_here() {
    let identity = Identity {
        identifiers: r#"{"name":"Zoë \"Z\""}"#.to_owned(),
        expires: Some(NOW + 60),
    };
    let token = verifier(&[SECRET]).sign(&identity);
    assert_eq!(
        verifier(&["new", SECRET]).verify(&token, NOW),
        Ok(identity.clone())
    );
    assert_eq!(
        verifier(&["new"]).verify(&token, NOW),
        Err(TokenError::BadSignature)
    );
    assert!(TokenVerifier::new([Vec::new()]).is_none());
}

#[test]
fn times_are_exact() {
    let at = |name: &str, time: &str| verify(&format!(r#"{{"ext":"a","{name}":{time}}}"#));
    assert_eq!(at("exp", "1700000001").unwrap().expires, Some(NOW + 1));
    assert_eq!(at("exp", "1700000000"), Err(TokenError::Expired));
    assert_eq!(at("exp", "1700000000.9"), Err(TokenError::Expired));
    assert_eq!(at("exp", "-5"), Err(TokenError::Expired));
    assert_eq!(at("exp", "1e300").unwrap().expires, Some(u64::MAX));
    assert_eq!(at("exp", "null").unwrap().expires, None);
    assert!(at("nbf", "1700000000").is_ok());
    assert_eq!(at("nbf", "1700000000.1"), Err(TokenError::NotYet));
    assert_eq!(at("nbf", "1700000001"), Err(TokenError::NotYet));
    for wrong in ["\"1700000001\"", "true", "[]", "{}"] {
        assert_eq!(at("exp", wrong), Err(TokenError::BadClaims), "{wrong}");
        assert_eq!(at("nbf", wrong), Err(TokenError::BadClaims), "{wrong}");
    }
    // The time of issue is nobody's business.
    assert!(at("iat", "1800000000").is_ok());
}

#[test]
fn identifiers_are_a_string() {
    for claims in [
        "{}",
        r#"{"ext":{"user_id":42}}"#,
        r#"{"ext":null}"#,
        r#"{"ext":7}"#,
        "[]",
        "",
        r#"{"ext":"a""#,
    ] {
        assert_eq!(verify(claims), Err(TokenError::BadClaims), "{claims}");
    }
}

#[test]
fn algorithms_can_not_be_confused() {
    let claims = r#"{"ext":"a"}"#;
    let with = |header: &str| verifier(&[SECRET]).verify(&token(header, claims), NOW);
    for algorithm in [
        "none", "None", "NONE", "RS256", "ES256", "EdDSA", "hs256", "HS1", "",
    ] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        assert_eq!(with(&header), Err(TokenError::Algorithm), "{algorithm}");
    }
    // Signed by another algorithm than the header says.
    assert_eq!(with(r#"{"alg":"HS384"}"#), Err(TokenError::BadSignature));
    for header in [
        "{}",
        "[]",
        "",
        r#"{"alg":7}"#,
        r#"{"alg":"HS256","crit":["b64"]}"#,
    ] {
        assert_eq!(with(header), Err(TokenError::Malformed), "{header}");
    }
}

#[test]
fn every_change_and_every_cut_is_noticed() {
    let verifier = verifier(&[SECRET]);
    let whole = token(r#"{"alg":"HS256"}"#, r#"{"ext":"a"}"#);
    assert!(verifier.verify(&whole, NOW).is_ok());
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap();
        assert!(verifier.verify(cut, NOW).is_err(), "{cut}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&changed, NOW).is_err(), "{changed}");
    }
    for extra in [
        format!("{whole}."),
        format!("{whole}="),
        format!(".{whole}"),
        format!("{whole} "),
    ] {
        assert!(verifier.verify(&extra, NOW).is_err(), "{extra}");
    }
    let (text, _) = whole.rsplit_once('.').unwrap();
    assert_eq!(
        verifier.verify(&format!("{text}."), NOW),
        Err(TokenError::BadSignature)
    );
}
