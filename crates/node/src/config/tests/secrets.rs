//! Secrets stay secret, and stand in for each other.

use secrecy::ExposeSecret;

use super::{
    super::{Mode, value},
    config, error, load_all, printed,
};

#[test]
fn secrets_are_never_shown() {
    let env = [
        ("POLLUX_SECRET", "hunter2"),
        (
            "POLLUX_REDIS_URL",
            "redis://user:hunter2@cache:6379/0?pass=hunter2",
        ),
    ];
    let flags = ["--streams_secret=hunter2"];
    let file = "broadcast_key = 'hunter2'";
    let text = printed(&flags, &env, file);
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains("# secret = \"[set]\"  # environment POLLUX_SECRET\n"),
        "{text}"
    );
    assert!(
        text.contains("# streams_secret = \"[set]\"  # flag --streams_secret\n"),
        "{text}"
    );
    assert!(
        text.contains("# redis_url = \"redis://***@cache:6379/0?***\"  # env"),
        "{text}"
    );
    let loaded = load_all(&flags, &env, file).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let url = loaded
        .config
        .redis_url
        .as_ref()
        .map(|url| url.expose_secret().to_owned());
    assert_eq!(url.as_deref(), Some(env[1].1));
}

#[test]
fn mistakes_do_not_show_secrets() {
    for (args, file) in [
        (vec!["--secrt=hunter2"], ""),
        (vec!["--secrt", "hunter2"], ""),
        (vec!["--secret=my", "hunter2"], ""),
        (vec!["--secret", "hunter2\u{fffd}"], ""),
        (vec![], "secret = hunter2"),
        (vec![], "secret = 'hunter2"),
        (vec![], "secret = ['hunter2']"),
        (vec![], "secret = { hunter = 'hunter2' }"),
        (vec![], "secrt = 'hunter2'"),
        (vec![], "redis_url = ['redis://:hunter2@h']"),
    ] {
        let message = error(&args, &[], file);
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(!error(&[], &[], "secret = 123456").contains("123456"));
}

#[test]
fn addresses_are_masked() {
    for (url, shown) in [
        ("redis://localhost:6379/5", "redis://localhost:6379/5"),
        ("redis://:p@h:1/0", "redis://***@h:1/0"),
        ("rediss://u:a,b@h1,rediss://u:c@h2", "rediss://***@h2"),
        ("u:p@h:6379", "***@h:6379"),
        (":p://q@h", "***@h"),
        (
            "unix:///tmp/redis.sock?pass=p",
            "unix:///tmp/redis.sock?***",
        ),
        ("redis://u:p?q@h", "***"),
    ] {
        assert_eq!(value::mask(url), shown, "{url}");
    }
}

#[test]
fn none_clears_a_secret() {
    let cleared = config(&["--secret=none"], &[("POLLUX_SECRET", "s")], "");
    assert!(!cleared.secret.is_set());
    assert_eq!(cleared.mode(), Mode::Development);
    let flags = [
        "--secret=s",
        "--streams_secret=none",
        "--broadcast_key=none",
    ];
    let config = config(&flags, &[], "");
    assert!(config.streams_secrets().is_empty());
    assert_eq!(config.broadcast_key(), None);
    assert_eq!(config.own_broadcast_port(), Some(8090));
    assert!(printed(&flags, &[], "").contains("\nstreams_secret = \"none\"  # flag"));
}
