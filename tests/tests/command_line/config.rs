//! `pollux serve`, `pollux config`, `pollux completions`, and the help of them all.

use anyhow::Result;
use pollux_testkit::{Node, run};
use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

const COMMANDS: [(&str, &[&str]); 13] = [
    ("serve", &["--port", "--redis_url", "--config_path"]),
    (
        "publish",
        &[
            "--url",
            "--lines",
            "--redis",
            "--key",
            "--key_file",
            "--timeout",
            "--verbose",
            "--ca",
        ],
    ),
    (
        "subscribe",
        &[
            "--url",
            "--transport",
            "--identifier",
            "--signed",
            "--token",
            "--token_file",
            "--cookie",
            "--header",
            "--count",
            "--timeout",
            "--raw",
            "--ca",
            "--insecure",
        ],
    ),
    (
        "streams",
        &[
            "--url",
            "--prefix",
            "--limit",
            "--json",
            "--key",
            "--key_file",
        ],
    ),
    ("sessions", &["--url", "--limit", "--json", "--key"]),
    ("nodes", &["--url", "--limit", "--json", "--key"]),
    ("health", &["--url", "--ready", "--timeout"]),
    ("token", &["--ttl"]),
    ("sign", &["--turbo", "--cable_ready"]),
    ("config", &["check", "print"]),
    ("config check", &["--config_path"]),
    ("config print", &["--config_path"]),
    ("completions", &["bash", "zsh", "fish"]),
];

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_help_of_each_command_names_its_flags_and_has_examples() -> Result<()> {
    let all = stdout(&run(&["--help"], &[])?);
    for (command, words) in COMMANDS {
        let mut arguments: Vec<_> = command.split(' ').collect();
        assert!(all.contains(arguments[0]), "no {command} in the help");
        arguments.push("--help");
        let output = run(&arguments, &[])?;
        let help = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{command}");
        for word in words {
            assert!(
                help.contains(word),
                "no {word} in the help of {command}:\n{help}"
            );
        }
        let (_, examples) = help.split_once("Examples:").unwrap_or_default();
        let number = examples.matches("pollux").count();
        assert!(number >= 2, "{number} examples in the help of {command}");
    }
    Ok(())
}

#[tokio::test]
async fn serve_is_what_happens_without_a_command() -> Result<()> {
    // The testkit puts its own flags in front; these come behind.
    let node = Node::builder()
        .command("serve")
        .flag("health_path", "/alive")
        .spawn()
        .await?;
    assert_eq!(node.get("/alive").await?.status, 200);
    let output = run(&["serve", "--prot=1"], &[])?;
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--port?"), "{output:?}");
    Ok(())
}

#[test]
fn config_check_tells_every_problem_and_prints_nothing_secret() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pollux.toml");
    let path = format!("--config_path={}", file.display());
    std::fs::write(&file, "port = 8081\nsecret = \"s3Krit\"\n")?;
    for arguments in [&["config", "check", &path][..], &[&path, "config", "check"]] {
        let output = run(arguments, &[])?;
        let seen = (stdout(&output), stderr(&output), output.status.code());
        assert_eq!(
            seen,
            ("ok\n".to_owned(), String::new(), Some(0)),
            "{arguments:?}"
        );
    }
    std::fs::write(
        &file,
        "prot = 1\npoll_interval = \"soon\"\nsecret = \"s3Krit\"\n",
    )?;
    let output = run(&["config", "check", &path, "--log_level=loud"], &[])?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for word in ["prot", "port", "poll_interval", "loud"] {
        assert!(said.contains(word), "no {word} in {said}");
    }
    assert!(output.stdout.is_empty() && !said.contains("s3Krit"));

    // What only a start would find out.
    let certificate = file.to_string_lossy().into_owned();
    for (flags, word) in [
        (
            vec!["--trusted_proxies=nonsense".to_owned()],
            "trusted_proxies",
        ),
        (
            vec!["--room_resolver=x{nothing}".to_owned()],
            "room_resolver",
        ),
        (
            vec![
                format!("--ssl_cert={certificate}"),
                format!("--ssl_key={certificate}"),
            ],
            "ssl_cert",
        ),
    ] {
        let flags = flags.iter().map(String::as_str);
        let arguments: Vec<_> = ["--ignore_config_path", "config", "check"]
            .into_iter()
            .chain(flags)
            .collect();
        let output = run(&arguments, &[])?;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(word), "{said}");
    }
    let warned = [
        "config",
        "check",
        "--ignore_config_path",
        "--host=0.0.0.0",
        "--noauth",
        "--broadcast_key=none",
    ];
    let output = run(&warned, &[])?;
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("ok\n", Some(0))
    );
    assert!(
        stderr(&output).starts_with("warning: port 8090"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn config_print_is_print_config() -> Result<()> {
    let variables = [("POLLUX_POLL_INTERVAL", "20s")];
    let printed = run(
        &["config", "print", "--ignore_config_path", "--port=81"],
        &variables,
    )?;
    let by_flag = run(
        &["--print_config", "--ignore_config_path", "--port=81"],
        &variables,
    )?;
    assert_eq!(stdout(&printed), stdout(&by_flag));
    assert!(
        stdout(&printed).contains("poll_interval = \"20s\"  # environment"),
        "{printed:?}"
    );
    let neither = run(&["config"], &[])?;
    assert_eq!(neither.status.code(), Some(64), "{neither:?}");
    Ok(())
}

#[test]
fn completions_are_scripts_that_bash_takes() -> Result<()> {
    let script = stdout(&run(&["completions", "bash"], &[])?);
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ask = "\nCOMP_WORDS=(pollux subscribe --tr); COMP_CWORD=2\n\
               _pollux pollux --tr subscribe; echo \"got ${COMPREPLY[*]}\"\n";
    if let Some(mut input) = bash.stdin.take() {
        input.write_all(script.as_bytes())?;
        input.write_all(ask.as_bytes())?;
    }
    let output = bash.wait_with_output()?;
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output).trim_end(), "got --transport");

    for (shell, word) in [("zsh", "#compdef pollux"), ("fish", "complete -c pollux")] {
        let output = run(&["completions", shell], &[])?;
        assert!(stdout(&output).contains(word), "{shell}");
    }
    // A mistake elsewhere does not stand in the way of a shell's start.
    let output = run(&["completions", "bash"], &[("POLLUX_PORT", "x")])?;
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["completions", "tcsh"], &[])?;
    assert_eq!(output.status.code(), Some(64));
    Ok(())
}
