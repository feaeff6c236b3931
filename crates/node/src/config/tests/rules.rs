//! What follows from several options, and what they must obey.

use super::{
    super::{Config, LogLevel, Mode},
    config, error, errors, load_all,
};

#[test]
fn modes_follow_from_what_is_set() {
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "LOCALHOST",
    ] {
        let config = config(&["--host", host], &[], "");
        assert_eq!(config.mode(), Mode::Development, "{host}");
        assert!(config.accepts_connections() && config.public_streams());
        assert!(config.open_broadcast() && config.console_enabled());
        assert_eq!(config.own_broadcast_port(), None);
    }
    let public = config(&["--public", "--host=0.0.0.0", "--secret=s"], &[], "");
    assert_eq!(public.mode(), Mode::Public);
    assert!(public.accepts_connections() && public.public_streams() && public.open_broadcast());
    assert!(!public.console_enabled());
    let keyed = config(&["--public", "--broadcast_key=k"], &[], "");
    assert!(!keyed.open_broadcast());

    let secured = config(&["--secret=s", "--host=::"], &[], "");
    assert_eq!(secured.mode(), Mode::Secured);
    assert!(!secured.accepts_connections() && !secured.public_streams());
    assert!(!secured.open_broadcast());
    assert_eq!(secured.own_broadcast_port(), None);

    let noauth = config(&["--noauth"], &[], "");
    assert_eq!(noauth.mode(), Mode::Secured);
    assert!(noauth.accepts_connections() && !noauth.public_streams());
    assert!(noauth.open_broadcast());
    assert_eq!(noauth.own_broadcast_port(), Some(8090));
}

#[test]
fn secrets_stand_in_for_each_other() {
    let alone = config(&["--secret=qwerty"], &[], "");
    assert_eq!(alone.streams_secrets(), [b"qwerty".to_vec()]);
    assert_eq!(
        alone.broadcast_key().as_deref(),
        Some("42923a28b760e667fc92f7c6123bb07a282822b329dd2ef48e7aee7830d98485")
    );
    let flags = [
        "--secret=qwerty",
        "--streams_secret=new, old,",
        "--broadcast_key=k",
    ];
    let own = config(&flags, &[], "");
    assert_eq!(own.streams_secrets(), [b"new".to_vec(), b"old".to_vec()]);
    assert_eq!(own.broadcast_key().as_deref(), Some("k"));
    assert!(config(&[], &[], "").streams_secrets().is_empty());
}

#[test]
fn debug_lowers_the_level() {
    let level = |flags: &[&str]| config(flags, &[], "").effective_log_level();
    assert_eq!(level(&[]), LogLevel::Info);
    assert_eq!(level(&["--debug"]), LogLevel::Debug);
    assert_eq!(level(&["--debug", "--log_level=error"]), LogLevel::Debug);
}

#[test]
fn the_broker_follows_the_address() {
    assert!(!config(&[], &[], "").uses_redis());
    assert!(config(&["--redis_url=redis://h"], &[], "").uses_redis());
    assert!(!config(&["--redis_url=redis://h", "--broker=memory"], &[], "").uses_redis());
    assert!(error(&["--broker=redis"], &[], "").contains("which takes redis_url"));
}

#[test]
fn listening_for_others_takes_a_decision() {
    let message = error(&[], &[("ANYCABLE_HOST", "0.0.0.0")], "");
    assert!(
        message.contains("set secret or rpc_host, or public"),
        "{message}"
    );
    assert!(
        message.ends_with("(environment ANYCABLE_HOST)"),
        "{message}"
    );
    for flag in [
        "--public",
        "--noauth",
        "--rpc_host=http://app:3000/_anycable",
        "--secret=s",
        "--broadcast_key=k",
        "--streams_secret=s",
    ] {
        assert!(
            load_all(&["--host=0.0.0.0", flag], &[], "").is_ok(),
            "{flag}"
        );
    }
    let warnings = load_all(&["--host=0.0.0.0", "--noauth"], &[], "")
        .unwrap()
        .warnings;
    assert!(warnings.concat().contains("port 8090"), "{warnings:?}");
}

#[test]
fn values_obey_rules() {
    for flag in [
        "--poll_path=lp",
        "--poll_path=/{id}",
        "--poll_path=/a b",
        "--poll_path=",
        "--ready_path=/health",
        "--metrics_http=/",
        "--poll_interval=0",
        "--poll_max_waiting=0",
        "--max_publication_size=0",
        "--workers=5000",
        "--node_id=a b",
        "--metrics_prefix=1x",
        "--redis_channel=",
        "--host=",
    ] {
        error(&[flag], &[], "");
    }
    // Not an address, and not the loopback interface either.
    assert!(
        errors(&["--host=0.0.0.0:80"], &[], "")
            .concat()
            .contains("without port")
    );
    let message = error(&["--noauth", "--http_broadcast_port=8080"], &[], "");
    assert!(message.contains("set broadcast_key"), "{message}");
    assert!(load_all(&["--poll=false", "--poll_path=/health"], &[], "").is_ok());
    assert!(load_all(&["--metrics_http=", "--max_sessions=0"], &[], "").is_ok());
    let broken = Config {
        workers: 5000,
        ..Config::default()
    };
    let message = broken.validate().unwrap_err().to_string();
    assert!(
        message.contains("\n  - workers must be at most 1024\n"),
        "{message}"
    );
}

#[test]
fn the_ports_of_operators_obey_rules() {
    for (flags, reason) in [
        (
            ["--metrics_port=8099", "--http_broadcast_port=8099"],
            "takes publications",
        ),
        (
            ["--console_port=8099", "--http_broadcast_port=8099"],
            "takes publications",
        ),
        (
            ["--console_port=8099", "--console_host=0.0.0.0"],
            "nothing says who may connect",
        ),
        (
            ["--console_port=8099", "--console_host=[::1]"],
            "without port and brackets",
        ),
        (
            ["--console=on", "--metrics_http=/pollux.js"],
            "the path of console",
        ),
    ] {
        let said = errors(&flags, &[], "").concat();
        assert!(said.contains(reason), "{flags:?}: {said}");
    }
    let flags = [
        "--console_port=8099",
        "--console_host=127.0.0.2",
        "--metrics_port=8099",
    ];
    assert!(error(&flags, &[], "").contains("metrics_port is the same port"));

    let own = config(&flags[..2], &[], "");
    assert_eq!(own.own_console_port(), Some(8099));
    assert_eq!(own.console_address(), "127.0.0.2");
    for flags in [
        ["--console_port=8080", "--console_host=0.0.0.0"],
        ["--console_port=8099", "--console=off"],
        ["--console_port=8099", "--secret=s"],
    ] {
        let config = config(&flags, &[], "");
        assert_eq!(config.own_console_port(), None, "{flags:?}");
    }
    let on = ["--secret=s", "--console=on", "--console_port=8099"];
    let shared = config(&[&on[..], &["--metrics_port=8099"]].concat(), &[], "");
    assert_eq!(shared.own_console_port(), shared.own_metrics_port());
    let open = config(&[&on[..], &["--console_host=0.0.0.0"]].concat(), &[], "");
    assert_eq!(open.own_console_port(), Some(8099));
}

#[test]
fn rooms_and_mailboxes_have_rules() {
    for (argument, reason) in [
        ("--mailbox_timeout_status=404", "must be 200 or 204"),
        ("--mailbox_timeout=0", "must be more than 0"),
        ("--room_ttl=0", "must be more than 0"),
        ("--room_resolver=room:{room},user", "names no field"),
        ("--room_path=/ws,/cable", "the path of path"),
        ("--mailbox_push_path=/poll", "the path of mailbox_poll_path"),
    ] {
        let said = error(&[argument], &[], "");
        assert!(said.contains(reason), "{argument}: {said}");
    }
    let config = config(&["--room=false", "--room_path=/cable"], &[], "");
    assert!(!config.room);
}

#[test]
fn backends_are_told_apart_by_commas_but_for_those_of_a_grpc_list() {
    let backends = |hosts: &str| config(&[&format!("--rpc_host={hosts}")], &[], "").backends();
    assert!(backends("").is_empty());
    assert_eq!(backends("app:50051"), ["app:50051"]);
    assert_eq!(
        backends("http://a/_anycable, https://b/_anycable,"),
        ["http://a/_anycable", "https://b/_anycable"]
    );
    assert_eq!(
        backends("grpc-list://a:1,b:2,dns:///c:3"),
        ["grpc-list://a:1,b:2", "dns:///c:3"]
    );
    let asked = config(&["--rpc_host=app:50051"], &[], "");
    assert!(asked.asks_backend() && asked.mode() == Mode::Secured);
    assert!(!asked.accepts_connections() && !asked.public_streams());
    let unasked = config(&["--rpc_host=app:50051", "--norpc"], &[], "");
    assert!(!unasked.asks_backend() && unasked.mode() == Mode::Development);
    // The reference's vector.
    let key = "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd";
    assert_eq!(
        config(&["--secret=qwerty"], &[], "").rpc_key().as_deref(),
        Some(key)
    );
    let given = config(&["--secret=qwerty", "--http_rpc_secret=k"], &[], "");
    assert_eq!(given.rpc_key().as_deref(), Some("k"));
    let none = config(&["--secret=qwerty", "--http_rpc_secret=none"], &[], "");
    assert_eq!(none.rpc_key(), None);
}
