//! The configuration of a node.
//!
//! One table, `OPTIONS` in `options`, names every option. From it come the command line, the
//! variables of the environment, the keys of `pollux.toml`, `--help`, `--print-config` and
//! `docs/configuration.md`.
//!
//! # Layout
//!
//! `spec` and `options` are the table, `value` reads and writes values, `secret_file` takes secrets from files, `cli`, `env` and `file`
//! make layers of them, `health`, `sign` and `commands` are the sub-commands, `load` merges the layers into
//! `settings`, `derived` says what follows from it, `otlp` how traces are sent, and `rules` what it must obey.

mod cli;
mod commands;
mod derived;
mod env;
mod error;
mod file;
mod health;
mod kubernetes;
mod layer;
mod load;
mod options;
mod otlp;
mod print;
#[cfg(test)]
mod reference;
mod rules;
mod secret_file;
mod settings;
mod sign;
mod spec;
mod suggest;
#[cfg(test)]
mod tests;
mod value;

pub use self::{
    commands::{Hidden, LookRequest, PublishRequest, Reach, Subject, SubscribeRequest, Way},
    derived::{Mode, OPEN_BROADCAST_PORT},
    env::process_environment,
    error::{ConfigError, Problem},
    health::{HealthQuestion, HealthRequest},
    load::{Action, Loaded},
    settings::{
        Broker, Config, Console, DisconnectMode, LogFormat, LogLevel, OtlpProtocol, PollOverflow,
        Secret,
    },
    sign::{SignRequest, SignedChannel},
};
