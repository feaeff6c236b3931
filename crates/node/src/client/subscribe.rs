//! `pollux subscribe`.

use super::{
    Failure, finish,
    reach::{self, path, place},
};
use crate::{
    config::{Config, SubscribeRequest, Way},
    program::complain,
};
use pollux_client::{Message, Said, Subscriber, Transport, Trouble, Wish};
use serde_json::json;
use std::{
    future::pending,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

/// Prints messages until it is told to stop.
pub(crate) fn subscribe(request: &SubscribeRequest, config: &Config) -> ExitCode {
    finish(run(request, config))
}

async fn run(request: &SubscribeRequest, config: &Config) -> Result<(), Failure> {
    let no_signals = |error: io::Error| Failure::Failed(format!("failed to listen: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    // Boxed: what it holds of a node is large, and there is one.
    let listening = Box::pin(listen(request, config));
    tokio::select! {
        outcome = listening => outcome,
        () = over(request.timeout) => match request.count {
            Some(_) => Err(Failure::OutOfTime),
            None => Ok(()),
        },
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn over(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => sleep(timeout).await,
        None => pending().await,
    }
}

async fn listen(request: &SubscribeRequest, config: &Config) -> Result<(), Failure> {
    let token = format!("x-{}", config.jwt_param);
    let mut more = Vec::new();
    more.extend(request.token.as_ref().map(|jwt| (token.as_str(), jwt)));
    more.extend(request.cookie.as_ref().map(|cookie| ("cookie", cookie)));
    let wire = reach::wire(&request.reach, config, config.port, &more)?;
    let configured = match request.way.transport {
        Transport::LongPoll => config.poll_path.as_str(),
        Transport::WebSocket => config.path.first().map_or("/cable", String::as_str),
        Transport::Events => &config.sse_path,
    };
    let path = path(&wire, configured).to_owned();
    let place = place(&wire, &path);
    let wish = Wish {
        transport: request.way.transport,
        path,
        subscriptions: subscriptions(&request.way)?,
    };
    let mut subscriber = Subscriber::new(wire, wish);
    let mut printed = 0_u64;
    loop {
        match subscriber.next().await {
            Ok(Said::Message(message)) => {
                let raw = request.raw;
                // Whoever reads it may stop to, and signals must be heard then, too.
                let printing = spawn_blocking(move || print(&message, raw));
                match printing.await.unwrap_or_else(|error| Err(error.into())) {
                    Ok(()) => {}
                    // Whoever read this has enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => {
                        let why = format!("standard output can't be written: {error}");
                        return Err(Failure::Failed(why));
                    }
                }
                printed += 1;
                if request.count == Some(printed) {
                    return Ok(());
                }
            }
            Ok(Said::Away(why)) => complain(&format!("{place}: {why}; trying again")),
            Ok(Said::Gap) => complain(&format!(
                "{place}: the node does not keep as much as was missed; messages may be lost"
            )),
            Ok(_) => {}
            Err(trouble) => {
                let hint = hint(&trouble, request);
                return Err(Failure::Failed(format!("{place}: {trouble}{hint}")));
            }
        }
    }
}

/// The identifiers to subscribe to, each with its stream where that is plain.
fn subscriptions(way: &Way) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut all: Vec<(String, Option<String>)> = Vec::new();
    for stream in &way.streams {
        let identifier = json!({"channel": "$pubsub", "stream_name": stream});
        all.push((identifier.to_string(), Some(stream.clone())));
    }
    for name in &way.signed {
        let identifier = json!({"channel": "$pubsub", "signed_stream_name": name});
        all.push((identifier.to_string(), None));
    }
    for identifier in &way.identifiers {
        if serde_json::from_str::<serde::de::IgnoredAny>(identifier).is_err() {
            let why = "--identifier is no JSON, such as '{\"channel\":\"ChatChannel\",\"id\":1}'";
            return Err(Failure::Asked(why.to_owned()));
        }
        all.push((identifier.clone(), None));
    }
    let mut known = std::collections::HashSet::new();
    all.retain(|(identifier, _)| known.insert(identifier.clone()));
    Ok(all)
}

/// A line, at once.
fn print(message: &Message, raw: bool) -> io::Result<()> {
    let mut line = match raw {
        false => serde_json::to_string(message)?,
        true => {
            let text = message.message.get();
            serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())
        }
    };
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()
}

/// What to do about a refusal.
fn hint(trouble: &Trouble, request: &SubscribeRequest) -> &'static str {
    match trouble {
        Trouble::Refused {
            status: Some(401), ..
        } if request.token.is_none() => "; say who this is with --token or --token_file",
        Trouble::Refused {
            status: Some(401), ..
        } => "; the token is not one of the node's secret, or its time is over",
        Trouble::Refused {
            status: Some(404 | 405),
            ..
        } => "; the door may be off, or at another path: name the whole address with --url",
        Trouble::Refused { status, .. }
            if matches!(status, None | Some(400)) && !request.way.streams.is_empty() =>
        {
            "; plain names of streams take public_streams at the node: else sign them (pollux \
             sign) and use --signed"
        }
        _ => "",
    }
}
