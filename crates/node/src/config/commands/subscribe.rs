//! `pollux subscribe` on the command line.

use super::{
    Asked,
    flags::{Hidden, Reader, flag, switch, valued},
    reach::{self, Reach},
};
use crate::config::{
    error::Problem,
    spec::{
        Kind::{Choice, Number, Seconds, Secret, Text},
        OptionSpec,
    },
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use pollux_client::Transport;
use std::time::Duration;

pub(super) const NAME: &str = "subscribe";

const STREAMS: &str = "streams";
const RAW: &str = "raw";

const IDENTIFIER: OptionSpec = flag(
    "identifier",
    Text,
    "",
    "A subscription by its whole identifier, which is JSON. May be given several times.",
);

const SIGNED: OptionSpec = flag(
    "signed",
    Text,
    "",
    "A stream by its signed name, as pollux sign prints it. May be given several times.",
);

const TRANSPORT: OptionSpec = flag(
    "transport",
    Choice(&["lp", "ws", "sse"]),
    "lp",
    "By what way: long polling, WebSocket or server-sent events.",
);

const TOKEN: OptionSpec = flag(
    "token",
    Secret,
    "",
    "The token that says who this is. Others on this machine can read it in the list of processes.",
);

const TOKEN_FILE: OptionSpec = flag("token_file", Text, "", "File that holds the token.");

const COOKIE: OptionSpec = flag(
    "cookie",
    Secret,
    "",
    "Cookies for every request, as NAME=VALUE; NAME=VALUE.",
);

const COUNT: OptionSpec = flag(
    "count",
    Number,
    "",
    "End after so many messages. More than 0. Absent: go on.",
);

const TIMEOUT: OptionSpec = flag(
    "timeout",
    Seconds,
    "",
    "End after this time. More than 0. Absent: go on.",
);

const AFTER_HELP: &str = "\
It prints a line of JSON for each message: stream (or identifier), message, and epoch and offset if \
it has a position. When the connection breaks or the node is restarted it comes back by itself, and \
goes on behind the last message it printed; what the node can't tell it any more is said on standard \
error.

It exits with 0 after --count messages, at SIGINT or SIGTERM, and when nobody reads its output any \
more; with 1 if the node refuses, with 2 if --timeout was over before --count messages came, \
and with 64 if it was asked wrongly. Without --count, a --timeout that is over is no failure.

Examples:
  pollux subscribe chat/1 chat/2
  pollux subscribe --url https://example.com --token_file token --signed \"$(pollux sign chat/1)\"
  pollux subscribe --transport ws --raw --count 1 --timeout 10s chat/1";

/// What `pollux subscribe` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The node.
    pub reach: Reach,
    /// To what, and by what way.
    pub way: Way,
    /// The token.
    pub token: Option<Hidden>,
    /// Cookies.
    pub cookie: Option<Hidden>,
    /// After how many messages to end.
    pub count: Option<u64>,
    /// After what time to end.
    pub timeout: Option<Duration>,
    /// Whether to print nothing but the messages.
    pub raw: bool,
}

/// What to listen to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Streams by their plain names.
    pub streams: Vec<String>,
    /// Subscriptions by their identifiers.
    pub identifiers: Vec<String>,
    /// Streams by their signed names.
    pub signed: Vec<String>,
    /// The transport.
    pub transport: Transport,
}

pub(super) fn read(matches: &ArgMatches) -> (Option<Asked>, Vec<Problem>) {
    let mut reader = Reader::new(matches);
    let transport = match &*reader.choice(&TRANSPORT) {
        "ws" => Transport::WebSocket,
        "sse" => Transport::Events,
        _ => Transport::LongPoll,
    };
    let way = Way {
        streams: reader.texts(STREAMS),
        identifiers: reader.texts(IDENTIFIER.name),
        signed: reader.texts(SIGNED.name),
        transport,
    };
    let request = SubscribeRequest {
        reach: reach::read(&mut reader),
        way,
        token: reader.secret(&TOKEN, &TOKEN_FILE),
        cookie: reader.text(COOKIE.name).map(Hidden::new),
        count: reader.positive(&COUNT),
        timeout: reader.duration(&TIMEOUT),
        raw: reader.is_on(RAW),
    };
    (Some(Asked::Subscribe(request)), reader.problems)
}

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Print the messages of streams as they come")
        .after_help(AFTER_HELP)
        .next_line_help(true)
        .arg(
            Arg::new(STREAMS)
                .value_name("STREAM")
                .action(ArgAction::Append)
                .num_args(0..)
                .required_unless_present_any([IDENTIFIER.name, SIGNED.name])
                .help("Streams by their plain names, where the node allows that."),
        )
        .arg(
            valued(&IDENTIFIER)
                .value_name("JSON")
                .action(ArgAction::Append),
        )
        .arg(valued(&SIGNED).value_name("NAME").action(ArgAction::Append))
        .arg(valued(&TRANSPORT))
        .args(reach::args())
        .arg(
            valued(&TOKEN)
                .value_name("JWT")
                .conflicts_with(TOKEN_FILE.name),
        )
        .arg(valued(&TOKEN_FILE).value_name("PATH"))
        .arg(valued(&COOKIE).value_name("COOKIES"))
        .arg(valued(&COUNT))
        .arg(valued(&TIMEOUT))
        .arg(switch(
            RAW,
            "Print nothing but the messages, those that are strings as their text.",
        ))
}
