//! The command line as a layer.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    commands::{self, Asked},
    error::Problem,
    layer::Layer,
    options::{COMMAND, OPTIONS},
    secret_file,
    spec::{ANYCABLE_PREFIX, Kind, OUR_PREFIX, OptionSpec, variable},
    suggest,
};

const COMMAND_NAME: &str = "pollux";
const PRINT_CONFIG: &str = "print_config";

const ABOUT: &str = "Pollux, a realtime server that does long polling first.";

const AFTER_HELP: &str = "\
Every option is also a key of pollux.toml and a variable of the environment: poll_path is \
--poll_path or --poll-path, POLLUX_POLL_PATH or ANYCABLE_POLL_PATH. Flags win over the \
environment, the environment over the file, and the file over the defaults. Secrets and addresses \
of servers are also read from files of their own: --secret_file, POLLUX_SECRET_FILE and the key \
secret_file name one.

Examples:
  pollux                                    development mode, for this machine only
  pollux --host=0.0.0.0 --secret=…          for others, with signed streams
  pollux --redis_url=redis://localhost      one of several nodes
  pollux --print_config                     what would be used, and why
  pollux config check                       what is wrong with the configuration
  pollux publish chat/1 '{\"text\":\"hi\"}'    publish, through a node or Redis
  pollux subscribe chat/1                   print messages as they come
  pollux nodes                              the nodes, and what they hold
  pollux health --ready                     whether the node of this machine wants traffic
  pollux token '{\"user_id\":42}' --ttl=60  a token for a client
  pollux sign chat/1                        the signed name of a stream

Exit codes: 0 done, or stopped as asked; 1 failed, or refused; 2 subscribe: out of time; 64 bad \
options.";

/// What the arguments ask for.
pub(super) enum Request {
    /// `--help`, rendered.
    Help(String),
    /// `--version`, rendered.
    Version(String),
    /// Anything else.
    Run(Flags),
}

/// Flags as text.
pub(super) struct Flags {
    matches: ArgMatches,
}

impl Flags {
    /// The layer, and what could not be read.
    pub(super) fn layer(&self) -> (Layer, Vec<Problem>) {
        let mut layer = Layer::default();
        let mut problems = Vec::new();
        for option in OPTIONS {
            if let Some((place, text)) = self.get(option)
                && let Err(problem) = layer.insert_text(option, text, place)
            {
                problems.push(problem);
            }
        }
        for (option, name) in secret_file::names() {
            let Some(path) = self.text(name) else {
                continue;
            };
            let place = format!("flag --{name}");
            let added = if layer.has(option) {
                Err(secret_file::both(option, place))
            } else {
                secret_file::read(path).and_then(|text| {
                    layer.insert_text(option, &text, secret_file::place(path, &place))
                })
            };
            problems.extend(added.err());
        }
        (layer, problems)
    }

    /// The text of an option, and its flag.
    pub(super) fn get(&self, option: &OptionSpec) -> Option<(String, &str)> {
        let text = self.text(option.name)?;
        Some((format!("flag --{}", option.name), text))
    }

    fn text(&self, name: &str) -> Option<&String> {
        commands::places_of_options(&self.matches)
            .into_iter()
            .find_map(|matches| matches.try_get_one::<String>(name).ok().flatten())
    }

    /// What a command other than the server's is asked for, and what could not be read.
    pub(super) fn asked(&self) -> (Option<Asked>, Vec<Problem>) {
        commands::asked(&self.matches)
    }

    /// Whether the configuration is to be printed.
    pub(super) fn print_config(&self) -> bool {
        self.matches.get_flag(PRINT_CONFIG)
    }
}

/// Reads the arguments, the first of which is the program: what they ask for, if that can be
/// said, and what is wrong with them.
///
/// clap stops at the first argument that it does not know. To report them all, each is taken
/// out and the rest is read again.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> (Option<Request>, Vec<Problem>) {
    let mut only_texts = false;
    let args = args.into_iter().map(|arg| {
        only_texts |= arg == OsStr::new("--");
        if only_texts { arg } else { underscored(arg) }
    });
    let mut args: Vec<_> = args.collect();
    let mut problems = Vec::new();
    loop {
        let error = match command().try_get_matches_from(&args) {
            Ok(matches) => return (Some(Request::Run(Flags { matches })), problems),
            Err(error) => error,
        };
        let text = error.render().to_string();
        match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::DisplayHelp, _) => return (Some(Request::Help(text)), problems),
            (ErrorKind::DisplayVersion, _) => return (Some(Request::Version(text)), problems),
            (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => {
                problems.push(unknown_argument(unknown));
                if !remove(&mut args, unknown) {
                    return (None, problems);
                }
            }
            (ErrorKind::InvalidSubcommand, _) => {
                let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand)
                else {
                    problems.push(usage(&text));
                    return (None, problems);
                };
                problems.push(unknown_argument(unknown));
                if !remove(&mut args, unknown) {
                    return (None, problems);
                }
            }
            _ => {
                problems.push(usage(&text));
                return (None, problems);
            }
        }
    }
}

/// The command, as the table describes it.
pub(super) fn command() -> Command {
    Command::new(COMMAND_NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .next_line_help(true)
        .disable_version_flag(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        // The last of several wins, so that a wrapper script can be overruled.
        .args_override_self(true)
        .arg(
            Arg::new("version")
                .short('V')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(help_flag())
        .arg(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Print every option, its value and where it came from, and exit"),
        )
        .args(server_flags(false))
        .subcommands(commands::all(server_flags).into_iter().map(with_help_flag))
}

/// The flags of the server, as they stand behind a command.
fn server_flags(hidden: bool) -> Vec<Arg> {
    let own = COMMAND.iter().map(|option| flag(option, None));
    let options = OPTIONS
        .iter()
        .map(|option| flag(option, Some(option.section.title())));
    own.chain(options)
        .map(|arg| arg.hide(hidden))
        .chain(secret_file::names().map(|(_, name)| file_flag(name)))
        .collect()
}

fn with_help_flag(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .arg(help_flag())
        .mut_subcommands(with_help_flag)
}

fn help_flag() -> Arg {
    Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .help("Print this help")
}

/// Not in the help, which says in a sentence that there are these.
fn file_flag(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("PATH")
        .hide(true)
        .action(ArgAction::Set)
}

fn flag(option: &'static OptionSpec, heading: Option<&'static str>) -> Arg {
    let arg = Arg::new(option.name)
        .long(option.name)
        .aliases(option.aliases)
        .value_name(option.kind.placeholder())
        .help(help(option))
        .help_heading(heading)
        .action(ArgAction::Set);
    if option.kind == Kind::Bool {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    }
}

/// The meaning, then on a line of its own what the option is without the flag.
fn help(option: &OptionSpec) -> String {
    let mut text = option.help.to_owned();
    let mut tag = |name: &str, content: &str| {
        let separator = if text.contains('\n') { ' ' } else { '\n' };
        text.push_str(&format!("{separator}[{name}: {content}]"));
    };
    if let Kind::Choice(words) = option.kind {
        tag("one of", &words.join(", "));
    }
    if !option.default.is_empty() {
        tag("default", option.default);
    }
    let variables = [variable(OUR_PREFIX, option.name)];
    // The one under the other prefix is a misspelling that is understood, not taught.
    let bare = |name: &&str| !name.starts_with(ANYCABLE_PREFIX);
    let bare = option.other_variables.iter().copied().filter(bare);
    let variables: Vec<_> = variables.iter().map(String::as_str).chain(bare).collect();
    tag("env", &variables.join(", "));
    text
}

/// The same argument with the underscores that our names have.
fn underscored(arg: OsString) -> OsString {
    let Some(flag) = arg.to_str().and_then(|arg| arg.strip_prefix("--")) else {
        return arg;
    };
    match flag.split_once('=') {
        Some((name, text)) => format!("--{}={text}", name.replace('-', "_")).into(),
        None => format!("--{}", flag.replace('-', "_")).into(),
    }
}

fn unknown_argument(unknown: &str) -> Problem {
    let place = "command line".to_owned();
    // What stands alone may be the second word of a secret, so it is not shown.
    if !unknown.starts_with('-') {
        return Problem::Unknown {
            place,
            name: "an argument without --".to_owned(),
            hint: format!(
                ": text with spaces is quoted, a switch is turned off by --name=false, and the \
                 commands are {}",
                command_names()
            ),
        };
    }
    let of_commands = commands::flag_names(&command());
    let mut known: Vec<&str> = suggest::all_names().collect();
    known.extend(of_commands.iter().map(String::as_str));
    known.extend([PRINT_CONFIG, "help", "version"]);
    let nearest = suggest::nearest(unknown.trim_start_matches('-'), known.into_iter());
    Problem::Unknown {
        place,
        name: unknown.to_owned(),
        hint: suggest::hint(nearest.map(|name| format!("--{name}"))),
    }
}

/// The commands, for messages.
fn command_names() -> String {
    let command = command();
    let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Takes an unknown argument out, with the value that seems to belong to it: the value may be
/// a secret, and must not be reported as the next unknown argument.
fn remove(args: &mut Vec<OsString>, unknown: &str) -> bool {
    let is_it = |arg: &OsString| {
        arg.to_str().is_some_and(|arg| {
            arg == unknown
                || arg
                    .strip_prefix(unknown)
                    .is_some_and(|rest| rest.starts_with('='))
        })
    };
    let Some(at) = args.iter().skip(1).position(is_it).map(|at| at + 1) else {
        return false;
    };
    let arg = args.remove(at);
    let takes_next = unknown.starts_with("--") && arg == OsStr::new(unknown);
    let next_is_value = |next: &OsString| !next.as_encoded_bytes().starts_with(b"-");
    if takes_next && args.get(at).is_some_and(next_is_value) {
        args.remove(at);
    }
    true
}

/// clap's message without its own frame and without the usage line.
fn usage(text: &str) -> Problem {
    let first = text.split("\n\n").next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).trim();
    Problem::Usage(message.replace('\n', ", "))
}
