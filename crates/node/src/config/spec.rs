//! What a row of the option table can say.

use std::{fmt, iter};

/// One option: everything the command line, the environment, the file, the help and the
/// reference page know about it.
#[derive(Debug)]
pub(super) struct OptionSpec {
    /// The TOML key, the flag and the field of `Config`; snake_case.
    pub(super) name: &'static str,
    /// The heading it stands under.
    pub(super) section: Section,
    /// How its text is read.
    pub(super) kind: Kind,
    /// The default as an operator would write it. Empty means absent.
    pub(super) default: &'static str,
    /// Older names that work wherever the name does.
    pub(super) aliases: &'static [&'static str],
    /// Variables beyond the prefixed ones, weakest last.
    pub(super) other_variables: &'static [&'static str],
    /// Whole sentences: the meaning, the unit, what zero and absent mean.
    pub(super) help: &'static str,
}

impl OptionSpec {
    /// The same row, also known by other names.
    pub(super) const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The same row, also read from variables without our prefixes.
    pub(super) const fn variable(mut self, variables: &'static [&'static str]) -> Self {
        self.other_variables = variables;
        self
    }

    /// The name and its aliases.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The variables that set it, strongest first.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        PREFIXES
            .into_iter()
            .flat_map(|prefix| self.names().map(move |name| variable(prefix, name)))
            .chain(self.other_variables.iter().map(|&name| name.to_owned()))
    }
}

/// A row without aliases or variables of its own.
pub(super) const fn row(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        section,
        kind,
        default,
        aliases: &[],
        other_variables: &[],
        help,
    }
}

/// Our prefix first, because it wins; the other is what operators of AnyCable have set.
pub(super) const PREFIXES: [&str; 2] = [OUR_PREFIX, ANYCABLE_PREFIX];

/// The prefix of variables that only we read, so that an unknown one is a mistake.
pub(super) const OUR_PREFIX: &str = "POLLUX_";

/// The prefix of variables that another server may read as well, so that an unknown one is
/// only worth a warning.
pub(super) const ANYCABLE_PREFIX: &str = "ANYCABLE_";

/// The variable for an option's name.
pub(super) fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.to_ascii_uppercase())
}

/// How the text of an option is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown; `none` clears it.
    Secret,
    /// The address of another server, which may carry a password; shown without it.
    Url,
    /// Yes or no.
    Bool,
    /// A whole number.
    Number,
    /// A part of the whole, from 0 to 1.
    Ratio,
    /// A TCP port.
    Port,
    /// A size; a bare number is bytes.
    Bytes,
    /// A duration; a bare number is seconds.
    Seconds,
    /// A duration; a bare number is milliseconds.
    Millis,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts separated by commas.
    List,
}

impl Kind {
    /// Whether its values must not be shown whole.
    pub(super) const fn is_confidential(self) -> bool {
        matches!(self, Self::Secret | Self::Url)
    }

    /// Whether an empty text says something. Where it does not, an empty variable counts as
    /// unset, because `POLLUX_PORT=${PORT:-}` is how compose files pass nothing.
    pub(super) const fn may_be_empty(self) -> bool {
        matches!(self, Self::Text | Self::Secret | Self::Url | Self::List)
    }

    /// The placeholder of a flag's value.
    pub(super) const fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Secret => "SECRET",
            Self::Url => "URL",
            Self::Bool => "BOOL",
            Self::Number => "NUMBER",
            Self::Ratio => "RATIO",
            Self::Port => "PORT",
            Self::Bytes => "BYTES",
            Self::Seconds => "SECONDS",
            Self::Millis => "MILLISECONDS",
            Self::Choice(_) => "CHOICE",
            Self::List => "LIST",
        }
    }
}

/// What a value of the kind looks like, for messages: "expected …".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text | Self::Secret | Self::Url => f.write_str("text"),
            Self::Bool => f.write_str("true or false"),
            Self::Number => f.write_str("a whole number, 0 or more"),
            Self::Ratio => f.write_str("a number from 0 to 1, such as 0.01"),
            Self::Port => f.write_str("a port, 0 to 65535"),
            Self::Bytes => f.write_str("a number of bytes such as 65536, 64KiB or 1MiB"),
            Self::Seconds => f.write_str("seconds such as 15, 0.5, 15s or 500ms"),
            Self::Millis => f.write_str("milliseconds such as 500, 500ms or 0.5s"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::List => f.write_str("a list separated by commas"),
        }
    }
}

/// The headings of the help and of the reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Server,
    LongPolling,
    WebSocket,
    Sse,
    Category,
    Mailbox,
    Room,
    Rpc,
    Streams,
    Broadcasting,
    Broker,
    Redis,
    Operations,
    Limits,
}

impl Section {
    /// The headings in reading order.
    pub(super) const ALL: [Self; 14] = [
        Self::Server,
        Self::LongPolling,
        Self::WebSocket,
        Self::Sse,
        Self::Category,
        Self::Mailbox,
        Self::Room,
        Self::Rpc,
        Self::Streams,
        Self::Broadcasting,
        Self::Broker,
        Self::Redis,
        Self::Operations,
        Self::Limits,
    ];

    /// The heading.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::LongPolling => "Long polling",
            Self::WebSocket => "WebSocket",
            Self::Sse => "Server-sent events",
            Self::Category => "Category polling",
            Self::Mailbox => "Mailboxes",
            Self::Room => "Rooms",
            Self::Rpc => "Backend (RPC)",
            Self::Streams => "Streams",
            Self::Broadcasting => "Broadcasting",
            Self::Broker => "Broker",
            Self::Redis => "Redis",
            Self::Operations => "Operations",
            Self::Limits => "Limits",
        }
    }
}
