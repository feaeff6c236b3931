//! `pollux publish` on the command line.

use super::{
    Asked,
    flags::{Hidden, Reader, flag, switch, valued},
    reach::{self, Reach},
};
use crate::config::{
    error::Problem,
    spec::{
        Kind::{Seconds, Secret, Text},
        OptionSpec,
    },
};
use clap::{Arg, ArgMatches, Command};
use std::time::Duration;

pub(super) const NAME: &str = "publish";

const STREAM: &str = "stream";
const DATA: &str = "data";
const LINES: &str = "lines";
const REDIS: &str = "redis";
const VERBOSE: &str = "verbose";

const KEY: OptionSpec = flag(
    "key",
    Secret,
    "",
    "The broadcast key. Others on this machine can read it in the list of processes. Absent: \
     broadcast_key, or what is derived from secret.",
);

const KEY_FILE: OptionSpec = flag("key_file", Text, "", "File that holds the broadcast key.");

const TIMEOUT: OptionSpec = flag(
    "timeout",
    Seconds,
    "10s",
    "How long each answer may take. More than 0.",
);

const AFTER_HELP: &str = "\
Where the options name a Redis and no node is named, publications go into Redis (XADD to \
redisx_stream, or PUBLISH to redis_channel if that is empty), so the configuration of a node is all \
it needs. It prints nothing and exits with 0 if all was taken, with 1 if not, and with 64 if it was \
asked wrongly. With --lines it stops at the first line that is not taken, and says which.

Examples:
  pollux publish chat/1 '{\"text\":\"hi\"}'
  pollux publish --url http://127.0.0.1:8080 chat/1 hello
  tail -f app.log | pollux publish --lines logs
  POLLUX_REDIS_URL=redis://localhost pollux publish chat/1 < message.json";

/// What `pollux publish` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// The node.
    pub reach: Reach,
    /// Whether to publish through Redis, whatever else is said.
    pub redis: bool,
    /// The stream.
    pub stream: String,
    /// The message; absent means that it comes by standard input.
    pub data: Option<String>,
    /// Whether each line of standard input is a message.
    pub lines: bool,
    /// The key; absent means that of the configuration.
    pub key: Option<Hidden>,
    /// How long each answer may take.
    pub timeout: Duration,
    /// Whether to say what was done.
    pub verbose: bool,
}

pub(super) fn read(matches: &ArgMatches) -> (Option<Asked>, Vec<Problem>) {
    let mut reader = Reader::new(matches);
    let request = PublishRequest {
        reach: reach::read(&mut reader),
        redis: reader.is_on(REDIS),
        stream: reader.text(STREAM).unwrap_or_default(),
        data: reader.text(DATA),
        lines: reader.is_on(LINES),
        key: reader.secret(&KEY, &KEY_FILE),
        timeout: reader.duration(&TIMEOUT).unwrap_or_default(),
        verbose: reader.is_on(VERBOSE),
    };
    (Some(Asked::Publish(request)), reader.problems)
}

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Publish to a stream, through a node or through Redis")
        .after_help(AFTER_HELP)
        .next_line_help(true)
        .arg(
            Arg::new(STREAM)
                .value_name("STREAM")
                .required(true)
                .help("The stream."),
        )
        .arg(
            Arg::new(DATA)
                .value_name("DATA")
                .allow_negative_numbers(true)
                .help(
                    "The message. What is JSON reaches clients as JSON, anything else as a \
                     string. Absent: all of standard input, without the line break at its end.",
                ),
        )
        .arg(
            switch(LINES, "Publish every line of standard input as it comes.").conflicts_with(DATA),
        )
        .args(reach::args())
        .arg(
            switch(
                REDIS,
                "Publish through the Redis that the options name, or say that they name none.",
            )
            .conflicts_with_all(["url", KEY.name, KEY_FILE.name]),
        )
        .arg(valued(&KEY).conflicts_with(KEY_FILE.name))
        .arg(valued(&KEY_FILE).value_name("PATH"))
        .arg(valued(&TIMEOUT))
        .arg(switch(VERBOSE, "Say what was done, on standard error.").short('v'))
}
