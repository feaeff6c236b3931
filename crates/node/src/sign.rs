//! `pollux token` and `pollux sign`: what a backend signs, made by hand.

use crate::{
    config::{Config, ConfigError, SignRequest, SignedChannel},
    program::complain,
};
use pollux_protocol::{Identity, StreamName, StreamVerifier, TokenVerifier};
use std::{
    io::Write as _,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Prints what is asked for, or says why it can't be made.
pub(crate) fn run(request: &SignRequest, config: &Config) -> ExitCode {
    match signed(request, config) {
        Ok(signed) => match writeln!(std::io::stdout(), "{signed}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(reason) => {
            complain(&reason);
            ExitCode::from(ConfigError::EXIT_CODE)
        }
    }
}

fn signed(request: &SignRequest, config: &Config) -> Result<String, String> {
    match request {
        SignRequest::Token { identifiers, ttl } => {
            let verifier = TokenVerifier::new(config.token_secrets())
                .ok_or("nothing to sign with: set jwt_secret or secret")?;
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(identifiers) {
                return Err(format!(
                    "the identifiers are not JSON, such as '{{\"user_id\":42}}': {error}"
                ));
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default();
            let identity = Identity {
                identifiers: identifiers.clone(),
                expires: ttl.map(|ttl| now.saturating_add(ttl).as_secs()),
            };
            Ok(verifier.sign(&identity))
        }
        SignRequest::Stream { name, channel } => {
            let (secrets, wanted) = match channel {
                SignedChannel::PubSub => (config.streams_secrets(), "streams_secret or secret"),
                SignedChannel::Turbo => (
                    config.turbo_secrets(),
                    "turbo_streams, and turbo_streams_secret, streams_secret or secret",
                ),
                SignedChannel::CableReady => (
                    config.cable_ready_secrets(),
                    "cable_ready, and cable_ready_secret, streams_secret or secret",
                ),
            };
            let verifier = StreamVerifier::new(secrets)
                .ok_or_else(|| format!("nothing to sign with: set {wanted}"))?;
            let name = StreamName::try_new(name);
            let name = name.map_err(|error| format!("the stream's name {error}"))?;
            Ok(verifier.sign(&name))
        }
    }
}
