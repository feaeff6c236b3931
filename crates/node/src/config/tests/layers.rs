//! Which of several places wins.

use std::time::Duration;

use super::{
    super::{Config, PollOverflow},
    File, config, error, load_all,
};

#[test]
fn nothing_given_is_the_default() {
    let config = config(&[], &[], "");
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert!(config.validate().is_ok());
    assert_eq!((config.host.as_str(), config.port), ("127.0.0.1", 8080));
    assert_eq!(config.poll_interval, Duration::from_secs(15));
    assert_eq!(config.poll_flush_interval, Duration::from_millis(500));
    assert_eq!(config.poll_max_request_size, 65536);
    assert_eq!(config.poll_overflow, PollOverflow::Expire);
    assert_eq!(config.history_ttl, Duration::from_secs(300));
    assert_eq!(config.metrics_http.as_deref(), Some("/metrics"));
    assert_eq!(config.node_id, None);
    assert!(config.redis_url.is_none() && !config.secret.is_set());
}

#[test]
fn later_layers_win() {
    let file = "poll_path = '/file'";
    assert_eq!(config(&[], &[], file).poll_path, "/file");
    let env = [("ANYCABLE_POLL_PATH", "/theirs")];
    assert_eq!(config(&[], &env, file).poll_path, "/theirs");
    let env = [
        ("ANYCABLE_POLL_PATH", "/theirs"),
        ("POLLUX_POLL_PATH", "/ours"),
    ];
    assert_eq!(config(&[], &env, file).poll_path, "/ours");
    assert_eq!(
        config(&["--poll_path=/flag"], &env, file).poll_path,
        "/flag"
    );
    let twice = ["--poll_path=/flag", "--poll-path", "/last"];
    assert_eq!(config(&twice, &env, file).poll_path, "/last");
}

#[test]
fn bare_variables_are_the_weakest() {
    let env = [("PORT", "5000"), ("REDIS_URL", "redis://bare")];
    let weak = config(&[], &env, "port = 1");
    assert_eq!(weak.port, 5000);
    assert_eq!(weak.redis_address().as_deref(), Some("redis://bare"));
    let env = [("PORT", "5000"), ("ANYCABLE_PORT", "6000")];
    assert_eq!(config(&[], &env, "").port, 6000);
}

#[test]
fn the_misspelt_variable_is_read() {
    let misspelt = ("ANYCABLE_POLL_MAX_REQEUEST_SIZE", "10");
    let loaded = load_all(&[], &[misspelt], "").unwrap();
    assert_eq!(loaded.config.poll_max_request_size, 10);
    assert!(loaded.warnings.is_empty());
    let env = [misspelt, ("ANYCABLE_POLL_MAX_REQUEST_SIZE", "20")];
    assert_eq!(config(&[], &env, "").poll_max_request_size, 20);
}

#[test]
fn switches_are_bare_or_have_a_value() {
    assert!(config(&["--public"], &[], "").public);
    assert!(config(&["--public=true"], &[], "").public);
    assert!(!config(&["--poll=false"], &[], "").poll);
    assert!(!config(&["--public=0"], &[("POLLUX_PUBLIC", "1")], "").public);
    let message = error(&["--poll", "false"], &[], "");
    assert!(message.contains("--name=false"), "{message}");
}

#[test]
fn aliases_work_in_every_layer() {
    let key = |config: Config| config.broadcast_key();
    let expected = Some("k".to_owned());
    assert_eq!(
        key(config(&["--http-broadcast-secret=k"], &[], "")),
        expected
    );
    let env = [("ANYCABLE_HTTP_BROADCAST_SECRET", "k")];
    assert_eq!(key(config(&[], &env, "")), expected);
    assert_eq!(
        key(config(&[], &[], "http_broadcast_secret = 'k'")),
        expected
    );
    let both = "broadcast_key = 'k'\nhttp_broadcast_secret = 'j'";
    assert!(error(&[], &[], both).contains("another name of broadcast_key"));
}

#[test]
fn the_file_is_the_one_that_is_named() {
    let named = File::new("port = 9");
    let path = named.0.to_str().unwrap();
    let other = "port = 8";
    assert_eq!(config(&["--config-path", path], &[], other).port, 9);
    let env = [("POLLUX_CONFIG_PATH", path)];
    assert_eq!(config(&[], &env, other).port, 9);
    assert_eq!(
        config(&["--ignore_config_path"], &env, "port = 'x'").port,
        8080
    );
    let message = error(&["--config_path=/nowhere/pollux.toml"], &[], other);
    assert!(
        message.starts_with("/nowhere/pollux.toml: cannot be read"),
        "{message}"
    );
}
