//! Text and TOML to values.

use std::time::Duration;

use super::{
    super::{Broker, Console, LogFormat, LogLevel, options::OPTIONS, spec::Kind, value},
    config, load_all,
};

#[test]
fn text_stays_text() {
    for text in ["12345", "0123", "true", "\"quoted\"", "[1]", "none"] {
        let env = [("ANYCABLE_REDIS_CHANNEL", text)];
        assert_eq!(config(&[], &env, "").redis_channel, text);
    }
    let secret = config(&[], &[("POLLUX_SECRET", "00123")], "").secret;
    assert_eq!(secret.expose(), Some("00123"));
}

#[test]
fn durations_have_suffixes() {
    let seconds = |text: &str| value::parse(Kind::Seconds, text).and_then(|v| v.to_u128());
    let millis = |text: &str| value::parse(Kind::Millis, text).and_then(|v| v.to_u128());
    for (text, expected) in [
        ("15", 15_000),
        ("0.5", 500),
        ("15s", 15_000),
        ("500ms", 500),
    ] {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    assert_eq!(seconds(" 1.5 s "), Some(1500));
    assert_eq!(seconds("0"), Some(0));
    assert_eq!(millis("500"), Some(500));
    assert_eq!(millis("0.5s"), Some(500));
    for text in [
        "",
        "s",
        ".",
        "-1",
        "+1",
        "1e3",
        "inf",
        "NaN",
        "1m",
        "0.0001",
        "99999999s",
    ] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn sizes_and_numbers_have_limits() {
    let bytes = |text: &str| value::parse(Kind::Bytes, text).and_then(|v| v.to_u128());
    assert_eq!(bytes("65536"), Some(65536));
    assert_eq!(bytes("64KiB"), Some(65536));
    assert_eq!(bytes("1 MiB"), Some(1 << 20));
    for text in [
        "-1",
        "1.5",
        "1kb",
        "99999999999GiB",
        "18446744073709551616",
        "\u{fffd}",
    ] {
        assert_eq!(bytes(text), None, "{text}");
    }
    assert!(value::parse(Kind::Number, "1000000000001").is_none());
    assert!(value::parse(Kind::Port, "65536").is_none());
}

#[test]
fn the_file_has_types() {
    let file = "
        poll_interval = 0.5
        poll_keepalive_timeout = '2s'
        poll_flush_interval = 20
        poll_max_request_size = '1KiB'
        poll = false
        allowed_origins = ['a.test', ' b.test:80 ']
        log_format = 'json'
    ";
    let config = config(&[], &[], file);
    assert_eq!(config.poll_interval, Duration::from_millis(500));
    assert_eq!(config.poll_keepalive_timeout, Duration::from_secs(2));
    assert_eq!(config.poll_flush_interval, Duration::from_millis(20));
    assert_eq!(config.poll_max_request_size, 1024);
    assert!(!config.poll);
    assert_eq!(config.allowed_origins, ["a.test", "b.test:80"]);
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn empty_variables_are_unset_unless_empty_says_something() {
    let env = [
        ("POLLUX_PORT", ""),
        ("ANYCABLE_PORT", "7000"),
        ("POLLUX_METRICS_HTTP", ""),
    ];
    let config = config(&[], &env, "");
    assert_eq!(config.port, 7000);
    assert_eq!(config.metrics_http, None);
}

#[test]
fn every_choice_of_the_table_is_a_variant() {
    for option in OPTIONS {
        let Kind::Choice(words) = option.kind else {
            continue;
        };
        for word in words {
            let flags = [format!("--{}={}", option.name, word.to_uppercase())];
            let flags = [flags[0].as_str(), "--redis_url=redis://localhost"];
            assert!(load_all(&flags, &[], "").is_ok(), "{flags:?}");
        }
    }
    let chosen = ["--console=off", "--broker=memory", "--log_level=warn"];
    let config = config(&chosen, &[], "");
    assert_eq!(config.console, Console::Off);
    assert_eq!(config.broker, Broker::Memory);
    assert_eq!(config.log_level, LogLevel::Warn);
}
