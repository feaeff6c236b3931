//! `pollux-bench`: opens many long polls from one process and measures how messages reach them.
//!
//! Modules in reading order: `cli` and `plan` say what is wanted, `fanout`, `idle`, `clients` and
//! `compare` are the commands, `driver` leads a `swarm` of `poller`s and a `publisher` through them, each
//! on a `conn`; its `roster` says who is to start. `cluster` has the commands for several nodes
//! on one Redis. `dialect`, `http` and `mark` are bytes only. `tally` counts, `server` and
//! `metrics` ask about the measured server, `report` prints.

mod cli;
mod clients;
mod clock;
mod cluster;
mod compare;
mod conn;
mod dialect;
mod driver;
mod failure;
mod fanout;
mod http;
mod idle;
mod ledger;
mod limits;
mod mark;
mod metrics;
mod plan;
mod poller;
mod progress;
mod publisher;
mod report;
mod roster;
mod server;
mod stop;
mod swarm;
mod table;
mod tally;
mod target;
mod weigh;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};
use crate::clock::Clock;
use crate::driver::Context;
use crate::idle::Delivery;
use crate::mark::RunId;
use crate::plan::{Load, Plan};
use crate::stop::Stop;

/// Messages were lost, or the run was cut short.
const EXIT_LOSS: u8 = 1;
/// The run could not take place; clap uses the same for a wrong command line.
const EXIT_TROUBLE: u8 = 2;

/// Whether every message arrived.
enum Outcome {
    Clean,
    Loss,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Loss) => ExitCode::from(EXIT_LOSS),
        Err(error) => {
            // Nothing is left to tell the user if stderr is gone too.
            if writeln!(io::stderr(), "pollux-bench: {error:#}").is_err() {
                return ExitCode::FAILURE;
            }
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}

fn run(command: Command) -> Result<Outcome> {
    let context = Context {
        clock: Clock::start(),
        stop: Stop::on_ctrl_c()?,
    };
    let clean = match command {
        Command::Fanout(args) => {
            let plan = Plan::make(&args.server, &args.load.polls, new_run())?;
            let report = fanout::run(&plan, Load::new(&args.load), &context)?;
            report::print(&report, &args.load.polls.report)?;
            report.is_clean()
        }
        Command::Idle(args) => {
            let plan = Plan::make(&args.server, &args.polls, new_run())?;
            let delivery = if args.after_delivery {
                Delivery::Once
            } else {
                Delivery::Never
            };
            let report = idle::run(&plan, args.hold, delivery, &context)?;
            report::print(&report, &args.polls.report)?;
            report.is_clean()
        }
        Command::Clients(args) => {
            let report = clients::run(&args, &context)?;
            report::print(&report, &args.report)?;
            report.is_clean()
        }
        Command::Compare(args) => {
            let report = compare::run(&args, new_run, &context)?;
            report::print(&report, &args.load.polls.report)?;
            report.is_clean()
        }
        Command::Latency(args) => {
            let report = cluster::latency::run(&args, new_run, &context)?;
            report::print(&report, &args.cluster.report)?;
            report.is_clean()
        }
        Command::Throughput(args) => {
            let report = cluster::throughput::run(&args, new_run, &context)?;
            report::print(&report, &args.cluster.report)?;
            report.is_clean()
        }
        Command::Interest(args) => {
            let report = cluster::interest::run(&args, new_run, &context)?;
            report::print(&report, &args.cluster.report)?;
            report.is_clean()
        }
    };
    Ok(if clean { Outcome::Clean } else { Outcome::Loss })
}

/// A number no earlier run had, taken from the seed the standard library gives its hash maps.
fn new_run() -> RunId {
    #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
    let number = RandomState::new().hash_one(std::process::id()) as u32;
    RunId(number)
}
