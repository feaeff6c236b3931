//! What runs the blocks of each language, and what has to be installed for that.

use crate::{block::Block, terminal::programs};
use anyhow::{Context, Result, bail};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// A program that runs examples, and whatever libraries they take.
struct Tool {
    program: &'static str,
    /// It succeeds if the libraries are there.
    probe: &'static [&'static str],
    packages: &'static str,
    found: OnceLock<Option<PathBuf>>,
}

impl Tool {
    const fn new(
        program: &'static str,
        probe: &'static [&'static str],
        packages: &'static str,
    ) -> Self {
        let found = OnceLock::new();
        Self {
            program,
            probe,
            packages,
            found,
        }
    }

    /// The first of that name which has the libraries: a Python of one's own often has none, and
    /// the system's has.
    fn path(&self) -> Result<String> {
        let found = self.found.get_or_init(|| {
            let mut programs = programs(self.program);
            programs.find(|program| {
                let mut probe = Command::new(program);
                // As at the terminal, whose home is empty.
                probe.env("HOME", "/nonexistent").args(self.probe);
                let probe = probe.stdin(Stdio::null()).stdout(Stdio::null());
                let status = probe.stderr(Stdio::null()).status();
                status.is_ok_and(|status| status.success())
            })
        });
        let Some(path) = found else {
            bail!(
                "examples are run by {}, and none here has their libraries; tests/run installs \
                 these packages of Debian: {}",
                self.program,
                self.packages
            );
        };
        let path = path.to_str().context("a path that is no text")?;
        Ok(path.to_owned())
    }
}

static PYTHON: Tool = Tool::new(
    "python3",
    &["-c", "import jwt, redis"],
    "python3 python3-jwt python3-redis",
);
static RUBY: Tool = Tool::new(
    "ruby",
    &["-rjwt", "-rredis", "-e", "exit"],
    "ruby ruby-jwt ruby-redis",
);
static PHP: Tool = Tool::new(
    "php",
    &["-r", "exit(extension_loaded('redis') ? 0 : 1);"],
    "php-cli php-redis",
);
static NODE: Tool = Tool::new("node", &["--version"], "nodejs");
static CC: Tool = Tool::new("cc", &["--version"], "gcc");

/// What runs a block that is saved as a file.
pub(crate) fn command(block: &Block, file: &str) -> Result<String> {
    let tool = match block.language.as_str() {
        "sh" => return Ok(format!(". '{file}' </dev/null")),
        // What is in an example's file has to be options, with values of their kind.
        "toml" => {
            return Ok(format!(
                "pollux --config_path='{file}' --print_config >/dev/null"
            ));
        }
        "c" => {
            let options = "-std=gnu11 -Wall -Wextra -Werror";
            let build = format!("'{}' {options} -o '{file}.out' '{file}'", CC.path()?);
            return Ok(format!("{build} && exec '{file}.out'"));
        }
        "python" => &PYTHON,
        "js" => &NODE,
        "ruby" => &RUBY,
        "php" => &PHP,
        other => bail!("nobody has said how {other} is run"),
    };
    Ok(format!("'{}' '{file}' </dev/null", tool.path()?))
}

/// What a block is called as a file.
pub(crate) fn file_name(block: &Block, number: usize) -> String {
    let ending = match block.language.as_str() {
        "python" => "py",
        "ruby" => "rb",
        "js" if block.text.contains("require(") => "cjs",
        "js" => "mjs",
        other => other,
    };
    format!("example{number}.{ending}")
}
