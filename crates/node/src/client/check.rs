//! `pollux config check`, after the configuration has been read.

use crate::{
    config::{ConfigError, Loaded},
    program::complain,
    proxies::TrustedProxies,
    rooms::Resolver,
    tls::Tls,
};
use std::{io::Write as _, process::ExitCode};

/// Says what is odd, and what a node would find out only when it starts.
pub(crate) fn check(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    let problems = problems(loaded);
    if !problems.is_empty() {
        complain("the configuration is not valid:");
        for problem in problems {
            complain(&format!("  - {problem}"));
        }
        return ExitCode::from(ConfigError::EXIT_CODE);
    }
    match writeln!(std::io::stdout(), "ok") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn problems(loaded: &Loaded) -> Vec<String> {
    let config = &loaded.config;
    let mut problems = Vec::new();
    if let Err(error) = TrustedProxies::try_new(&config.trusted_proxies) {
        problems.push(format!("trusted_proxies: {error}"));
    }
    if let Err(template) = Resolver::parse(&config.room_resolver) {
        problems.push(format!("room_resolver: {template:?} names no field"));
    }
    let files = config.ssl_cert.as_ref().zip(config.ssl_key.as_ref());
    if let Some(Err(error)) = files.map(|(cert, key)| Tls::load(cert, key)) {
        problems.push(format!("ssl_cert, ssl_key: failed to {error}"));
    }
    problems
}
