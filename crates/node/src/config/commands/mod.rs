//! The commands beside the server: what each is asked for on the command line.
//!
//! `reach` holds what those that go to a node have in common. Their flags are rows like those of
//! the option table, but only flags: a node's own options stand in front of the command.

mod flags;
mod look;
mod publish;
mod reach;
mod subscribe;

use super::{
    error::Problem,
    health::{self, HEALTH, HealthRequest},
    options::{COMMAND, OPTIONS},
    sign::{self, SignRequest},
};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};
use clap_complete::{Shell, generate};

pub use self::{
    flags::Hidden,
    look::{LookRequest, Subject},
    publish::PublishRequest,
    reach::Reach,
    subscribe::{SubscribeRequest, Way},
};

const SERVE: &str = "serve";
const CONFIG: &str = "config";
const CHECK: &str = "check";
const PRINT: &str = "print";
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";

/// What a command wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Health(HealthRequest),
    Sign(SignRequest),
    Publish(PublishRequest),
    Subscribe(SubscribeRequest),
    Look(LookRequest),
    Check,
    Print,
    Completions(Shell),
}

/// What is asked for, if a command other than the server's was given, and what could not be read.
pub(super) fn asked(matches: &ArgMatches) -> (Option<Asked>, Vec<Problem>) {
    let Some((name, inner)) = matches.subcommand() else {
        return (None, Vec::new());
    };
    match name {
        HEALTH => {
            let (request, problems) = HealthRequest::from_matches(inner);
            (Some(Asked::Health(request)), problems)
        }
        publish::NAME => publish::read(inner),
        subscribe::NAME => subscribe::read(inner),
        CONFIG => match inner.subcommand_name() {
            Some(PRINT) => (Some(Asked::Print), Vec::new()),
            _ => (Some(Asked::Check), Vec::new()),
        },
        COMPLETIONS => {
            let shell = inner.get_one::<String>(SHELL);
            let shell = shell.and_then(|shell| shell.parse().ok());
            (shell.map(Asked::Completions), Vec::new())
        }
        SERVE => (None, Vec::new()),
        name => match Subject::of(name) {
            Some(subject) => look::read(subject, inner),
            None => {
                let (request, problems) = sign::request(matches);
                (request.map(Asked::Sign), problems)
            }
        },
    }
}

/// Where flags of the server may stand: in front of a command, or behind one that is about them.
pub(super) fn places_of_options(matches: &ArgMatches) -> Vec<&ArgMatches> {
    let mut places = vec![matches];
    let mut innermost = matches;
    while let Some((SERVE | CONFIG | CHECK | PRINT, inner)) = innermost.subcommand() {
        places.push(inner);
        innermost = inner;
    }
    // The last one said wins.
    places.reverse();
    places
}

/// Every command, as the command line describes it. `options` are the server's flags, the same
/// ones in front and hidden where they would hide the rest.
pub(super) fn all(options: impl Fn(bool) -> Vec<Arg>) -> Vec<Command> {
    let mut commands = vec![
        Command::new(SERVE)
            .about("Run a node; the same as no command at all")
            .after_help(SERVE_HELP)
            .next_line_help(true)
            .args(options(false)),
        publish::command(),
        subscribe::command(),
    ];
    commands.extend(Subject::ALL.map(look::command));
    commands.push(health::command());
    commands.extend(sign::commands());
    commands.push(config_command(&options));
    commands.push(
        Command::new(COMPLETIONS)
            .about("Print a script that completes commands and flags in a shell")
            .after_help(COMPLETIONS_HELP)
            .arg(
                Arg::new(SHELL)
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
                    .help("The shell."),
            ),
    );
    commands
}

fn config_command(options: &impl Fn(bool) -> Vec<Arg>) -> Command {
    let part = |name: &'static str, about: &'static str, help: &'static str| {
        Command::new(name)
            .about(about)
            .after_help(help)
            .next_line_help(true)
            .args(options(true))
    };
    Command::new(CONFIG)
        .about("Check or print the configuration")
        .after_help(CONFIG_HELP)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(part(
            CHECK,
            "Say what is wrong with the configuration, all at once",
            CHECK_HELP,
        ))
        .subcommand(part(
            PRINT,
            "Print every option, its value and where it came from",
            PRINT_HELP,
        ))
}

/// The script for a shell.
pub(super) fn completions(shell: Shell, mut command: Command) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The flags of all commands but those that the server has, for suggestions.
pub(super) fn flag_names(command: &Command) -> Vec<String> {
    let of_server = |name: &str| {
        let options = OPTIONS.iter().chain(COMMAND);
        options
            .clone()
            .any(|option| option.names().any(|own| own == name))
    };
    let mut names = Vec::new();
    for inner in command.get_subcommands() {
        names.extend(flag_names(inner));
        let longs = inner.get_arguments().filter_map(Arg::get_long);
        names.extend(longs.filter(|name| !of_server(name)).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

const SERVE_HELP: &str = "\
The flags are those of pollux alone; 'pollux --help' tells how they go together with the \
environment and the file.

Examples:
  pollux serve                              development mode, for this machine only
  pollux serve --redis_url=redis://localhost --secret_file=/run/secrets/pollux";

const CONFIG_HELP: &str = "\
Examples:
  pollux config check --config_path=pollux.toml
  POLLUX_SECRET=… pollux config print";

const CHECK_HELP: &str = "\
It takes every flag of the server, reads the same variables and the same file, and opens no port. \
It prints ok and exits with 0, after a warning for whatever is odd; or it prints every problem, one \
a line, and exits with 64.

Examples:
  pollux config check --config_path=deploy/pollux.toml
  pollux config check --host=0.0.0.0 --secret_file=/run/secrets/pollux";

const PRINT_HELP: &str = "\
It takes every flag of the server and prints TOML that the server would read again, but for \
secrets, which are never shown. The same as --print_config.

Examples:
  pollux config print
  POLLUX_POLL_INTERVAL=20s pollux config print --config_path=pollux.toml";

const COMPLETIONS_HELP: &str = "\
Examples:
  pollux completions bash > /etc/bash_completion.d/pollux
  source <(pollux completions zsh)
  pollux completions fish > ~/.config/fish/completions/pollux.fish";
