//! `pollux token` and `pollux sign` on the command line.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{
    error::Problem,
    layer::parse_text,
    spec::{Kind::Seconds, OptionSpec, Section::Operations, row},
};

const TOKEN: &str = "token";
const SIGN: &str = "sign";

const IDENTIFIERS: &str = "identifiers";
const STREAM: &str = "stream";
const TURBO: &str = "turbo";
const CABLE_READY: &str = "cable_ready";

const TTL: OptionSpec = row(
    Operations,
    "ttl",
    Seconds,
    "",
    "How long the token counts. Absent: for ever.",
);

const TOKEN_HELP: &str = "\
It prints the token, signed with the first of jwt_secret, or with secret, from the environment, the \
file or the flags in front. A client sends it as the header x-jid, or as jid in the query.

Examples:
  POLLUX_SECRET=… pollux token '{\"user_id\":42}' --ttl=3600
  curl http://127.0.0.1:8080/lp -H \"x-jid: $(pollux token '{\"user_id\":42}')\" -d ''";

const SIGN_HELP: &str = "\
It prints the name, signed with the first of streams_secret, or with secret, from the environment, \
the file or the flags in front. A client sends it as signed_stream_name.

Examples:
  POLLUX_SECRET=… pollux sign chat/1
  pollux --turbo_streams --turbo_streams_secret=… sign --turbo posts/1";

/// What is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignRequest {
    /// A token for a client.
    Token {
        /// Its connection identifiers, JSON.
        identifiers: String,
        /// How long it counts; absent means for ever.
        ttl: Option<Duration>,
    },
    /// The name of a stream.
    Stream {
        /// The name.
        name: String,
        /// The channel whose secret signs it.
        channel: SignedChannel,
    },
}

/// Channels with signed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedChannel {
    /// `$pubsub`.
    PubSub,
    /// Turbo's.
    Turbo,
    /// CableReady's.
    CableReady,
}

/// The request, if one of the commands was given, and what is wrong with it.
pub(super) fn request(matches: &ArgMatches) -> (Option<SignRequest>, Vec<Problem>) {
    match matches.subcommand() {
        Some((TOKEN, matches)) => token(matches),
        Some((SIGN, matches)) => {
            let name = matches.get_one::<String>(STREAM).cloned();
            let channel = match (matches.get_flag(TURBO), matches.get_flag(CABLE_READY)) {
                (true, _) => SignedChannel::Turbo,
                (_, true) => SignedChannel::CableReady,
                _ => SignedChannel::PubSub,
            };
            let request = name.map(|name| SignRequest::Stream { name, channel });
            (request, Vec::new())
        }
        _ => (None, Vec::new()),
    }
}

fn token(matches: &ArgMatches) -> (Option<SignRequest>, Vec<Problem>) {
    let text = matches.get_one::<String>(TTL.name);
    let place = format!("flag --{}", TTL.name);
    let parsed = text.map(|text| parse_text(&TTL, text, &place)).transpose();
    let ttl = match parsed {
        Ok(value) => value.and_then(|value| u64::try_from(value.to_u128()?).ok()),
        Err(problem) => return (None, vec![problem]),
    };
    let identifiers = matches.get_one::<String>(IDENTIFIERS).cloned();
    let request = identifiers.map(|identifiers| SignRequest::Token {
        identifiers,
        ttl: ttl.map(Duration::from_millis),
    });
    (request, Vec::new())
}

/// The commands, as the command line describes them.
pub(super) fn commands() -> [Command; 2] {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let token = Command::new(TOKEN)
        .about("Make a token with which a client proves who it is")
        .after_help(TOKEN_HELP)
        .next_line_help(true)
        .arg(
            Arg::new(IDENTIFIERS)
                .value_name("IDENTIFIERS")
                .required(true)
                .help("Who the client is: JSON, which remote commands name it by."),
        )
        .arg(
            Arg::new(TTL.name)
                .long(TTL.name)
                .value_name(TTL.kind.placeholder())
                .action(ArgAction::Set)
                .help(TTL.help),
        );
    let sign = Command::new(SIGN)
        .about("Sign the name of a stream")
        .after_help(SIGN_HELP)
        .next_line_help(true)
        .arg(
            Arg::new(STREAM)
                .value_name("STREAM")
                .required(true)
                .help("The name."),
        )
        .arg(switch(TURBO, "With the secret of Turbo's streams."))
        .arg(switch(CABLE_READY, "With the secret of CableReady's streams.").conflicts_with(TURBO));
    [token, sign]
}
