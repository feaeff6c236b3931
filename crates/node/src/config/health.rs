//! `pollux health` on the command line.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use figment::value::Value;

use super::{
    error::Problem,
    layer::parse_text,
    spec::{
        Kind::{Seconds, Url},
        OptionSpec,
        Section::Operations,
        row,
    },
};

/// The command's name.
pub(super) const HEALTH: &str = "health";

const READY: &str = "ready";

const URL: OptionSpec = row(
    Operations,
    "url",
    Url,
    "",
    "Address to ask, such as http://127.0.0.1:8080/health; https:// is for this \
     machine only, and its certificate is not looked at. Absent: the one that follows from \
     host, port and health_path.",
);

const TIMEOUT: OptionSpec = row(
    Operations,
    "timeout",
    Seconds,
    "2s",
    "How long the answer may take. More than 0.",
);

const AFTER_HELP: &str = "\
It prints one line, and exits with 0 if the answer was 2xx, with 1 if there was another one or \
none, and with 64 if it was asked wrongly. Run where the node runs, it reads the same variables \
and the same file; what the node was given as flags is repeated in front: pollux --port=81 health.

Examples:
  pollux health
  pollux health --ready --url http://127.0.0.1:8080/ready";

/// What `pollux health` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRequest {
    /// The address to ask; absent means the node that the configuration describes.
    pub url: Option<String>,
    /// Which of the configured paths to ask; no matter if there is an address.
    pub question: HealthQuestion,
    /// How long the whole exchange may take.
    pub timeout: Duration,
}

/// What a node can be asked about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthQuestion {
    /// Whether its process lives: `health_path`.
    Alive,
    /// Whether it should get traffic: `ready_path`.
    Ready,
}

impl HealthRequest {
    /// The request, and what is wrong with it.
    pub(super) fn from_matches(matches: &ArgMatches) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let text = matches.get_one::<String>(TIMEOUT.name);
        let text = text.map_or(TIMEOUT.default, String::as_str);
        let place = format!("flag --{}", TIMEOUT.name);
        let timeout = match parse_text(&TIMEOUT, text, &place) {
            Ok(value) => millis(&value),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if timeout == Some(Duration::ZERO) {
            problems.push(Problem::Rule {
                option: TIMEOUT.name,
                reason: "must be more than 0".to_owned(),
                place: Some(place),
            });
        }
        let question = if matches.get_flag(READY) {
            HealthQuestion::Ready
        } else {
            HealthQuestion::Alive
        };
        let request = Self {
            url: matches.get_one::<String>(URL.name).cloned(),
            question,
            timeout: timeout.unwrap_or_default(),
        };
        (request, problems)
    }
}

/// The command, as the command line describes it.
pub(super) fn command() -> Command {
    Command::new(HEALTH)
        .about("Ask a running node whether it is alive, for health checks of containers")
        .after_help(AFTER_HELP)
        .next_line_help(true)
        .arg(flag(&URL).help(URL.help))
        .arg(
            Arg::new(READY)
                .long(READY)
                .action(ArgAction::SetTrue)
                .help("Ask whether it wants traffic (ready_path), not only whether it lives."),
        )
        .arg(flag(&TIMEOUT).help(format!("{}\n[default: {}]", TIMEOUT.help, TIMEOUT.default)))
}

fn flag(option: &'static OptionSpec) -> Arg {
    Arg::new(option.name)
        .long(option.name)
        .value_name(option.kind.placeholder())
        .action(ArgAction::Set)
}

/// A duration in its normal shape.
fn millis(value: &Value) -> Option<Duration> {
    let millis = value.to_u128()?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}
