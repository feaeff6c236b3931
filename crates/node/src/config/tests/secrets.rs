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

#[test]
fn secrets_come_from_files_too() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let path = write("secret", "hunter2\n");
    let flag = format!("--secret_file={path}");
    let dashed = format!("--secret-file={path}");
    let toml = format!("secret_file = '{path}'");
    type Pairs<'a> = Vec<(&'a str, &'a str)>;
    let given: [(Vec<&str>, Pairs<'_>, &str); 7] = [
        (vec![flag.as_str()], vec![], ""),
        (vec![&dashed], vec![], ""),
        (vec![], vec![("POLLUX_SECRET_FILE", path.as_str())], ""),
        (vec![], vec![("ANYCABLE_SECRET_FILE", path.as_str())], ""),
        (
            vec![],
            vec![("POLLUX_SECRET", ""), ("POLLUX_SECRET_FILE", &path)],
            "",
        ),
        (vec![], vec![], toml.as_str()),
        // The environment wins over the file, wherever each has it from.
        (
            vec![],
            vec![("POLLUX_SECRET_FILE", path.as_str())],
            "secret = 'weaker'",
        ),
    ];
    for (flags, env, file) in given {
        assert_eq!(config(&flags, &env, file).secret.expose(), Some("hunter2"));
        let text = printed(&flags, &env, file);
        assert!(
            text.contains("# secret = \"[set]\"  # ") && text.contains(&path),
            "{text}"
        );
        assert!(!text.contains("hunter2"));
    }
    let both = error(&[&flag, "--secret=hunter3"], &[], "");
    assert!(
        both.contains("are both given") && !both.contains("hunter"),
        "{both}"
    );
    let url = write("url", "redis://:hunter2@cache");
    let flag = format!("--redis_url_file={url}");
    let redis = config(&[&flag], &[], "").redis_url.unwrap();
    assert_eq!(redis.expose_secret(), "redis://:hunter2@cache");
    let empty = write("empty", "\n");
    let large = write("large", &"x".repeat(70_000));
    for (path, why) in [
        (empty.as_str(), "is empty"),
        (&large, "is larger than"),
        ("/nowhere/at/all", "cannot be read"),
    ] {
        let message = error(&["--jwt_secret_file", path], &[], "");
        assert!(message.contains(why) && message.contains(path), "{message}");
    }
    let text = error(&[], &[], "secret_file = 7");
    assert!(text.contains("the path of a file"), "{text}");
    // Options that hide nothing have no files.
    assert!(error(&["--port_file=x"], &[], "").contains("port_file is not an option"));
}
