//! The texts for operators, and the table they come from.

use std::collections::BTreeSet;

use super::{
    super::{
        Action, cli,
        options::{COMMAND, OPTIONS},
        spec::Section,
        value,
    },
    config, load_all, printed,
};

fn help() -> String {
    cli::command().term_width(100).render_help().to_string()
}

#[test]
fn print_config_says_where_values_come_from() {
    let env = [("ANYCABLE_POLL_PATH", "/env"), ("PORT", "5000")];
    let file = "poll_interval = 20\nnode_id = 'a'";
    let text = printed(&["--poll_flush_interval=0.1s", "--public"], &env, file);
    for line in [
        "host = \"127.0.0.1\"  # default",
        "poll_path = \"/env\"  # environment ANYCABLE_POLL_PATH",
        "port = 5000  # environment PORT",
        "poll_flush_interval = \"100ms\"  # flag --poll_flush_interval",
        "public = true  # flag --public",
        "# secret = \"[not set]\"  # default",
        "redis_url = \"\"  # default",
    ] {
        assert!(
            text.lines().any(|printed| printed == line),
            "{line}\n{text}"
        );
    }
    let of_file = text
        .lines()
        .find(|line| line.starts_with("poll_interval"))
        .unwrap();
    assert!(of_file.starts_with("poll_interval = \"20s\"  # /") && of_file.ends_with(".toml"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let flags = [
        "--allowed_origins=a,b",
        "--redis_channel=a\"\\\n\u{7f}ü",
        "--poll=false",
    ];
    let text = printed(&flags, &[], "");
    let (before, after) = (config(&flags, &[], ""), config(&[], &[], &text));
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[test]
fn origins_are_known_for_every_option() {
    let loaded = load_all(&["--port=1"], &[("POLLUX_POLL_PATH", "/e")], "").unwrap();
    assert_eq!(loaded.origins.len(), OPTIONS.len());
    assert_eq!(loaded.origins["port"], "flag --port");
    assert_eq!(loaded.origins["poll_path"], "environment POLLUX_POLL_PATH");
    assert_eq!(loaded.origins["host"], "default");
    assert_eq!(loaded.action, Action::Serve);
}

#[test]
fn help_teaches_every_option() {
    let help = help();
    for option in OPTIONS.iter().chain(COMMAND) {
        assert!(
            help.contains(&format!("--{}", option.name)),
            "{}",
            option.name
        );
        let variable = format!("POLLUX_{}", option.name.to_uppercase());
        assert!(help.contains(&format!("[env: {variable}")), "{variable}");
    }
    for section in Section::ALL {
        assert!(
            help.contains(&format!("\n{}:\n", section.title())),
            "{help}"
        );
    }
    assert!(help.find("--version") < help.find("--help"));
    assert!(help.contains(
        "      --poll_path <TEXT>
          Path of the long polls.
          [default: /lp] [env: POLLUX_POLL_PATH]
"
    ));
    assert!(
        help.contains("[default: 8080] [env: POLLUX_PORT, PORT]"),
        "{help}"
    );
}

#[test]
fn help_and_version_come_before_mistakes() {
    let bad = [("POLLUX_PORT", "abc")];
    for flag in ["--help", "-h"] {
        let action = load_all(&[flag], &bad, "nope = 1").unwrap().action;
        assert!(matches!(action, Action::Help(text) if text.contains("Usage: pollux")));
    }
    for flag in ["--version", "-V"] {
        let action = load_all(&[flag], &bad, "").unwrap().action;
        let version = format!("pollux {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(action, Action::Version(version));
    }
}

#[test]
fn names_are_unique_and_plain() {
    let mut seen = BTreeSet::new();
    for option in OPTIONS.iter().chain(COMMAND) {
        for name in option.names() {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert!(seen.insert(name.to_owned()), "{name} twice");
        }
        for variable in option.variables() {
            assert!(seen.insert(variable.clone()), "{variable} twice");
        }
        assert!(option.help.ends_with('.'), "{}", option.name);
        assert!(
            !option.help.contains('|'),
            "{} breaks the page's table",
            option.name
        );
        assert!(
            value::parse(option.kind, option.default).is_some(),
            "{}",
            option.name
        );
    }
}
