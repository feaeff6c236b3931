//! What is refused, and in which words.

use std::ffi::OsString;

use super::{
    super::{ConfigError, Problem, load::load_with},
    error, errors, load_all,
};

#[test]
fn a_bad_value_names_its_place_itself_and_what_was_expected() {
    assert_eq!(
        error(&[], &[("ANYCABLE_POLL_INTERVAL", "soon")], ""),
        "environment ANYCABLE_POLL_INTERVAL: \"soon\" is not valid, expected seconds such as 15, \
         0.5, 15s or 500ms"
    );
    assert_eq!(
        error(&["--port=99999"], &[], ""),
        "flag --port: \"99999\" is not valid, expected a port, 0 to 65535"
    );
    let message = error(&[], &[], "broker = 'nats'");
    assert!(message.contains(".toml, key broker: \"nats\""), "{message}");
    assert!(
        message.ends_with("expected one of auto, memory, redis"),
        "{message}"
    );
    let message = error(&[], &[], "redis_channel = 12345");
    assert!(
        message.ends_with("12345 is not valid, expected text in quotes"),
        "{message}"
    );
}

#[test]
fn unknown_names_get_a_suggestion() {
    let message = error(&["--pol-path=/x"], &[], "");
    assert_eq!(
        message,
        "command line: --pol_path is not an option, did you mean --poll_path?"
    );
    let message = error(&[], &[("POLLUX_POL_PATH", "/x")], "");
    assert!(
        message.ends_with("did you mean POLLUX_POLL_PATH?"),
        "{message}"
    );
    let message = error(&[], &[], "poll-intervall = 3");
    assert!(
        message.ends_with("did you mean poll_interval?"),
        "{message}"
    );
    let message = error(&[], &[], "[redis]\nurl = 'redis://h'");
    assert!(
        message.ends_with("only keys such as redis_url at the top"),
        "{message}"
    );
    assert!(error(&["--zzz"], &[], "").ends_with("--zzz is not an option"));
}

#[test]
fn unknown_variables_of_anycable_are_warned_about() {
    let env = [
        ("ANYCABLE_CONFIG_PATH", "/x"),
        ("ANYCABLE_NATS_SERVERS", "h"),
        ("ANYCABLE_POLL_PAHT", "/x"),
        ("OTHER", "x"),
    ];
    let warnings = load_all(&[], &env, "").unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "ANYCABLE_CONFIG_PATH has no effect here, did you mean POLLUX_CONFIG_PATH?",
            "ANYCABLE_NATS_SERVERS has no effect here",
            "ANYCABLE_POLL_PAHT has no effect here, did you mean ANYCABLE_POLL_PATH?",
        ]
    );
}

#[test]
fn a_redis_that_nobody_listens_to_is_warned_about() {
    let env = [
        ("ANYCABLE_BROKER", "memory"),
        ("ANYCABLE_REDIS_URL", "redis://h"),
    ];
    let [warning] = &load_all(&[], &env, "").unwrap().warnings[..] else {
        panic!("not one warning");
    };
    assert!(warning.starts_with("redis_url has no effect"), "{warning}");
    for sound in [&env[..1], &env[1..]] {
        let warnings = load_all(&[], sound, "").unwrap().warnings;
        assert_eq!(warnings, [""; 0], "{sound:?}");
    }
}

#[test]
fn variables_of_kubernetes_are_ignored() {
    let env = [
        ("POLLUX_PORT", "tcp://10.0.0.1:8080"),
        ("POLLUX_SERVICE_HOST", "10.0.0.1"),
        ("POLLUX_SERVICE_PORT", "8080"),
        ("POLLUX_SERVICE_PORT_HTTP", "8080"),
        ("POLLUX_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("POLLUX_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("ANYCABLE_PORT", "9000"),
    ];
    let loaded = load_all(&[], &env, "").unwrap();
    assert_eq!(loaded.config.port, 9000);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn all_mistakes_are_reported_together() {
    let env = [("POLLUX_PORT", "abc"), ("POLLUX_NOPE", "1")];
    let file = "poll_interval = 'x'\nnope = 1";
    let flags = ["--zzz=1", "--workers=many", "--poll_path=lp", "--yyy", "v"];
    let error = load_all(&flags, &env, file).unwrap_err();
    let shown = error.to_string();
    assert_eq!(error.problems().len(), 8, "{shown}");
    let is_shown = |problem: &Problem| shown.contains(&problem.to_string());
    assert!(error.problems().iter().all(is_shown), "{shown}");
    assert_eq!(ConfigError::EXIT_CODE, 64);
}

#[test]
fn arguments_that_make_no_sense_do_not_panic() {
    for args in [
        vec!["-x"],
        vec!["-p8080"],
        vec!["--"],
        vec!["--", "x"],
        vec!["---port"],
        vec!["--=1"],
        vec!["--redis_url"],
        vec!["--print_config=x"],
        vec!["", ""],
        vec!["--p", "--p", "1"],
    ] {
        let expected = args == ["--"];
        assert_eq!(load_all(&args, &[], "").is_ok(), expected, "{args:?}");
    }
    for file in [
        "= 1",
        "port = 1\nport = 2",
        "port = 1979-05-27",
        "'' = 1",
        "a.b.c = 1",
        "\0",
    ] {
        assert_eq!(errors(&[], &[], file).len(), 1, "{file:?}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;

    let args = ["pollux".into(), OsString::from_vec(b"--host=\xff".to_vec())];
    assert!(load_with(args, [], &[]).is_err());
    let message = error(&[], &[("POLLUX_REDIS_CHANNEL", "a\u{fffd}")], "");
    assert!(message.ends_with("expected UTF-8"), "{message}");
}
