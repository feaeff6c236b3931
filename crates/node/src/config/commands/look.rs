//! `pollux nodes`, `pollux streams` and `pollux sessions` on the command line.

use super::{
    Asked,
    flags::{Hidden, Reader, flag, switch, valued},
    reach::{self, Reach},
};
use crate::config::{
    error::Problem,
    spec::{
        Kind::{Number, Seconds, Secret, Text},
        OptionSpec,
    },
};
use clap::{ArgMatches, Command};
use std::time::Duration;

const JSON: &str = "json";

const KEY: OptionSpec = flag(
    "key",
    Secret,
    "",
    "The key of the REST API. Others on this machine can read it in the list of processes. Absent: \
     api_secret, or what is derived from secret.",
);

const KEY_FILE: OptionSpec = flag("key_file", Text, "", "File that holds that key.");

const LIMIT: OptionSpec = flag("limit", Number, "100", "Lines at most. More than 0.");

const PREFIX: OptionSpec = flag(
    "prefix",
    Text,
    "",
    "Only streams whose names begin with this.",
);

const TIMEOUT: OptionSpec = flag(
    "timeout",
    Seconds,
    "10s",
    "How long all of it may take. More than 0.",
);

const ENDING: &str = "\
On a terminal it prints a table, else a line of JSON for each. It exits with 0, with 1 if nobody \
could tell, and with 64 if it was asked wrongly.";

const NODES_HELP: &str = "\
Where the options name a Redis, it is asked: every node writes there each 5 s what it holds. A node \
that has not for 15 s is shown as silent, and after a minute not at all. Without Redis, or with \
--url, the one node is asked by its REST API.";

const NODES_EXAMPLES: &str = "\
Examples:
  POLLUX_REDIS_URL=redis://localhost pollux nodes
  pollux nodes --url http://127.0.0.1:8080 --json";

const STREAMS_HELP: &str = "\
Where the options name a Redis, it is asked for the streams it knows, with the length of their \
history and the nodes that listen. Without Redis, or with --url, the one node is asked by its REST \
API for the streams that somebody listens to there. Streams come in no order.";

const STREAMS_EXAMPLES: &str = "\
Examples:
  pollux streams --prefix chat/ --limit 20
  pollux streams --url http://127.0.0.1:8080 --json";

const SESSIONS_HELP: &str = "\
Where the options name a Redis, it is asked how many sessions each node has. Without Redis, or with \
--url, the one node is asked by its REST API for its sessions: what is shown of a sid can't be used \
to take it over.";

const SESSIONS_EXAMPLES: &str = "\
Examples:
  pollux sessions --url http://127.0.0.1:8080 --limit 20
  POLLUX_REDIS_URL=redis://localhost pollux sessions";

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Streams.
    Streams,
    /// Sessions.
    Sessions,
    /// Nodes.
    Nodes,
}

/// What one of those commands is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookRequest {
    /// What to look at.
    pub subject: Subject,
    /// The node, if one is asked.
    pub reach: Reach,
    /// Its key; absent means that of the configuration.
    pub key: Option<Hidden>,
    /// Lines at most.
    pub limit: u64,
    /// What the names of streams begin with.
    pub prefix: String,
    /// Whether to print JSON on a terminal, too.
    pub json: bool,
    /// How long all of it may take.
    pub timeout: Duration,
}

impl Subject {
    pub(super) const ALL: [Self; 3] = [Self::Streams, Self::Sessions, Self::Nodes];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Sessions => "sessions",
            Self::Nodes => "nodes",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }
}

pub(super) fn read(subject: Subject, matches: &ArgMatches) -> (Option<Asked>, Vec<Problem>) {
    let mut reader = Reader::new(matches);
    let prefix = match subject {
        Subject::Streams => reader.text(PREFIX.name).unwrap_or_default(),
        _ => String::new(),
    };
    let request = LookRequest {
        subject,
        reach: reach::read(&mut reader),
        key: reader.secret(&KEY, &KEY_FILE),
        limit: reader.positive(&LIMIT).unwrap_or_default(),
        prefix,
        json: reader.is_on(JSON),
        timeout: reader.duration(&TIMEOUT).unwrap_or_default(),
    };
    (Some(Asked::Look(request)), reader.problems)
}

pub(super) fn command(subject: Subject) -> Command {
    let (about, help, examples) = match subject {
        Subject::Streams => ("List streams", STREAMS_HELP, STREAMS_EXAMPLES),
        Subject::Sessions => ("Count or list sessions", SESSIONS_HELP, SESSIONS_EXAMPLES),
        Subject::Nodes => ("List nodes and what they hold", NODES_HELP, NODES_EXAMPLES),
    };
    let command = Command::new(subject.name())
        .about(about)
        .after_help(format!("{help}\n\n{ENDING}\n\n{examples}"))
        .next_line_help(true)
        .args(reach::args())
        .arg(valued(&KEY).conflicts_with(KEY_FILE.name))
        .arg(valued(&KEY_FILE).value_name("PATH"))
        .arg(valued(&LIMIT))
        .arg(valued(&TIMEOUT))
        .arg(switch(
            JSON,
            "Print JSON, a line for each, on a terminal too.",
        ));
    match subject {
        Subject::Streams => command.arg(valued(&PREFIX)),
        _ => command,
    }
}
