//! From the outside to a [`Config`]: read the layers, merge them, check the result.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use figment::Figment;

use super::{
    cli::{self, Flags, Request},
    commands::{self, Asked, LookRequest, PublishRequest, SubscribeRequest},
    env::Environment,
    error::{ConfigError, Problem},
    file,
    health::HealthRequest,
    layer::{Layer, parse_text},
    options::{CONFIG_PATH, IGNORE_CONFIG_PATH, OPTIONS},
    print,
    settings::Config,
    sign::SignRequest,
};

/// A configuration that the node can run with, and what to do with it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; the default if the action is help or version.
    pub config: Config,
    /// What is odd but no error, as sentences for the log.
    pub warnings: Vec<String>,
    /// Where the value of each option came from: `default`, the path of the file,
    /// `environment NAME` or `flag --name`.
    pub origins: BTreeMap<&'static str, String>,
    /// What the command line asks for.
    pub action: Action,
}

/// What the command line asks for. Texts are for standard output and end with a newline; the
/// process then exits with success.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the server.
    Serve,
    /// Ask a server that runs, and tell its answer.
    Health(HealthRequest),
    /// Sign something, and print it.
    Sign(SignRequest),
    /// Publish something.
    Publish(PublishRequest),
    /// Print messages as they come.
    Subscribe(SubscribeRequest),
    /// Tell what nodes and Redis know.
    Look(LookRequest),
    /// Nothing more: the configuration is good.
    CheckConfig,
    /// Print a script for a shell.
    Completions(String),
    /// Print the configuration, which is TOML.
    PrintConfig(String),
    /// Print the help.
    Help(String),
    /// Print the version.
    Version(String),
}

impl Config {
    /// Reads the configuration from its four layers: the defaults, the file, the environment
    /// and the flags, of which each wins over those before it.
    ///
    /// The first argument is the program, as in [`std::env::args_os`]. For the environment
    /// there is [`process_environment`](super::process_environment).
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        load_with(args, env, &file::DEFAULT_PATHS.map(PathBuf::from))
    }
}

/// The same with other places to look for a file.
pub(super) fn load_with(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
    default_paths: &[PathBuf],
) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let environment = Environment::new(env);
    let (environment_layer, mut problems) = environment.layer(&mut warnings);
    let (request, more) = cli::parse(args);
    let is_understood = more.is_empty();
    problems.extend(more);
    let flags = match request {
        Some(Request::Run(flags)) => Some(flags),
        Some(Request::Help(text)) => return Ok(Loaded::text(Action::Help(text))),
        Some(Request::Version(text)) => return Ok(Loaded::text(Action::Version(text))),
        None => None,
    };
    let (flag_layer, more) = flags.as_ref().map(Flags::layer).unwrap_or_default();
    problems.extend(more);
    let (asked, more) = flags.as_ref().map(Flags::asked).unwrap_or_default();
    problems.extend(more);
    // A mistake elsewhere must not stand in the way of a shell's start.
    if let (Some(Asked::Completions(shell)), true) = (&asked, is_understood) {
        let script = commands::completions(*shell, cli::command());
        return Ok(Loaded::text(Action::Completions(script)));
    }
    let (file_layer, more) = file_layer(flags.as_ref(), &environment, default_paths);
    problems.extend(more);

    let figment = Figment::from(Layer::defaults())
        .merge(file_layer)
        .merge(environment_layer)
        .merge(flag_layer);
    let origins = origins(&figment);
    let config: Config = match figment.extract() {
        Ok(config) => config,
        Err(error) => {
            problems.push(unextractable(&error, &origins));
            return Err(ConfigError::new(problems));
        }
    };
    let mut broken = config.broken_values();
    // Where a value is missing because it was not valid, it would only be blamed for that. And
    // who only asks need not know what the server was given as flags.
    let is_for_server = matches!(asked, None | Some(Asked::Check | Asked::Print));
    if problems.is_empty() && broken.is_empty() && is_for_server {
        broken.extend(config.broken_combinations());
    }
    problems.extend(broken.into_iter().map(|rule| {
        let place = origins.get(rule.option).cloned();
        rule.found_at(place)
    }));
    ConfigError::check(problems)?;

    warnings.extend(config.oddities());
    let prints = flags.is_some_and(|flags| flags.print_config());
    let action = match asked {
        _ if prints => Action::PrintConfig(print::toml(&figment, &origins)),
        Some(Asked::Print) => Action::PrintConfig(print::toml(&figment, &origins)),
        Some(Asked::Check) => Action::CheckConfig,
        Some(Asked::Health(request)) => Action::Health(request),
        Some(Asked::Sign(request)) => Action::Sign(request),
        Some(Asked::Publish(request)) => Action::Publish(request),
        Some(Asked::Subscribe(request)) => Action::Subscribe(request),
        Some(Asked::Look(request)) => Action::Look(request),
        Some(Asked::Completions(_)) | None => Action::Serve,
    };
    Ok(Loaded {
        config,
        warnings,
        origins,
        action,
    })
}

impl Loaded {
    /// Nothing but a text to print.
    fn text(action: Action) -> Self {
        Self {
            config: Config::default(),
            warnings: Vec::new(),
            origins: BTreeMap::new(),
            action,
        }
    }
}

impl Config {
    /// What an operator should know, although it may be meant.
    fn oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if let (false, true, Some(port)) = (
            self.is_local(),
            self.open_broadcast(),
            self.own_broadcast_port(),
        ) {
            odd.push(format!(
                "port {port} takes publications from anyone who can reach it: keep it private or \
                 set broadcast_key"
            ));
        }
        if self.redis_url.is_some() && !self.uses_redis() {
            odd.push(
                "redis_url has no effect: broker is memory, and this node hears of nothing that \
                 is published through Redis; leave broker out"
                    .to_owned(),
            );
        }
        odd
    }
}

/// The layer of the file that is to be read, if any.
fn file_layer(
    flags: Option<&Flags>,
    environment: &Environment,
    default_paths: &[PathBuf],
) -> (Layer, Vec<Problem>) {
    // Without flags it is not known which file was meant.
    let Some(flags) = flags else {
        return (Layer::default(), Vec::new());
    };
    let setting = |option| flags.get(option).or_else(|| environment.command(option));
    if let Some((place, text)) = setting(&IGNORE_CONFIG_PATH) {
        match parse_text(&IGNORE_CONFIG_PATH, text, &place) {
            Ok(ignore) if ignore.to_bool() == Some(true) => {
                return (Layer::default(), Vec::new());
            }
            Ok(_) => {}
            Err(problem) => return (Layer::default(), vec![problem]),
        }
    }
    let named = setting(&CONFIG_PATH).map(|(_, path)| Path::new(path));
    named
        .or_else(|| file::first_existing(default_paths))
        .map(file::layer)
        .unwrap_or_default()
}

/// The kinds have been checked, so what is left is a number for which this machine's words
/// are too short.
fn unextractable(error: &figment::Error, origins: &BTreeMap<&'static str, String>) -> Problem {
    let option = error.path.first().map_or("", String::as_str);
    Problem::Value {
        place: origins.get(option).cloned().unwrap_or_default(),
        value: option.to_owned(),
        expected: "a number that fits this machine".to_owned(),
    }
}

/// Where each value came from.
fn origins(figment: &Figment) -> BTreeMap<&'static str, String> {
    OPTIONS
        .iter()
        .filter_map(|option| {
            let metadata = figment.find_metadata(option.name)?;
            Some((
                option.name,
                metadata.interpolate(figment.profile(), &[option.name]),
            ))
        })
        .collect()
}
