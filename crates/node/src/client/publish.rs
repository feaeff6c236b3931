//! `pollux publish`.

use super::{
    Failure, finish,
    reach::{self, path, place},
};
use crate::{
    config::{Config, Hidden, PublishRequest},
    node::redis_config_of,
    program::complain,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pollux_broker::{Receipt, RedisGuest};
use pollux_client::{Http, Trouble};
use pollux_protocol::StreamName;
use serde_json::json;
use std::{
    io::{self, BufRead as _, Read as _},
    process::ExitCode,
    thread,
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

const JSON: (HeaderName, HeaderValue) = (
    header::CONTENT_TYPE,
    HeaderValue::from_static("application/json"),
);

/// Lines that were read and are not yet published: reading waits for publishing.
const LINES_AHEAD: usize = 16;

/// Publishes what is asked for.
pub(crate) fn publish(request: &PublishRequest, config: &Config) -> ExitCode {
    finish(run(request, config))
}

async fn run(request: &PublishRequest, config: &Config) -> Result<(), Failure> {
    let stream = StreamName::try_new(&request.stream)
        .map_err(|error| Failure::Asked(format!("the stream's name {error}")))?;
    let mut door = Door::open(request, config)?;
    let publisher = |data: &str| json!({"stream": stream.as_str(), "data": data}).to_string();
    if !request.lines {
        let data = match &request.data {
            Some(data) => data.clone(),
            None => standard_input(config.max_publication_size)?,
        };
        return door.publish(publisher(&data), request).await;
    }
    let mut lines = lines(config.max_publication_size);
    let mut number = 0_u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        let of_line = |failure| match failure {
            Failure::Failed(why) => Failure::Failed(format!("line {number}: {why}")),
            failure => failure,
        };
        let line = line.map_err(of_line)?;
        let published = door.publish(publisher(&line), request).await;
        published.map_err(of_line)?;
    }
    Ok(())
}

/// Where publications go.
enum Door {
    Node {
        http: Box<Http>,
        path: String,
        /// How it is called in messages.
        place: String,
        has_key: bool,
    },
    Redis(Box<RedisGuest>),
}

impl Door {
    fn open(request: &PublishRequest, config: &Config) -> Result<Self, Failure> {
        let by_redis = request.reach.address.is_none() && request.key.is_none();
        if request.redis || (by_redis && config.uses_redis()) {
            let config = redis_config_of(config)
                .ok_or_else(|| Failure::Asked("no Redis is named: set redis_url".to_owned()))?;
            let guest = RedisGuest::new(config);
            let guest = guest.map_err(|error| Failure::Asked(format!("failed to {error}")))?;
            return Ok(Self::Redis(Box::new(guest)));
        }
        let key = request.key.clone();
        let key = key.or_else(|| config.broadcast_key().map(Hidden::new));
        let key = key.map(|key| Hidden::new(format!("Bearer {}", key.expose())));
        let more = key.as_ref().map(|key| ("authorization", key));
        let port = config.own_broadcast_port().unwrap_or(config.port);
        let wire = reach::wire(&request.reach, config, port, more.as_slice())?;
        let path = path(&wire, &config.http_broadcast_path).to_owned();
        Ok(Self::Node {
            place: place(&wire, &path),
            http: Box::new(Http::new(wire)),
            path,
            has_key: key.is_some(),
        })
    }

    async fn publish(
        &mut self,
        publication: String,
        request: &PublishRequest,
    ) -> Result<(), Failure> {
        let done = match self {
            Self::Redis(guest) => through_redis(guest, publication, request.timeout).await?,
            Self::Node {
                http,
                path,
                place,
                has_key,
            } => {
                let body = Bytes::from(publication);
                let within = request.timeout;
                let more = [JSON];
                let answer = http.exchange(Method::POST, path, &more, body, within);
                let failed =
                    |trouble| Failure::Failed(format!("{place}: {}", told(&trouble, *has_key)));
                let answer = answer.await.map_err(failed)?;
                if !answer.status.is_success() {
                    return Err(failed(answer.trouble()));
                }
                format!("{place}: {}", answer.status)
            }
        };
        if request.verbose {
            complain(&format!("published to {} at {done}", request.stream));
        }
        Ok(())
    }
}

async fn through_redis(
    guest: &RedisGuest,
    publication: String,
    within: Duration,
) -> Result<String, Failure> {
    let published = timeout(within, guest.publish(publication.into_bytes())).await;
    match published {
        Ok(Ok(Receipt::Waits { key, id })) => Ok(format!("Redis: {key} {id}")),
        Ok(Ok(Receipt::Heard { channel, nodes: 0 })) => Err(Failure::Failed(format!(
            "nobody listens to {channel} at Redis, so it was lost"
        ))),
        Ok(Ok(Receipt::Heard { channel, nodes })) => {
            Ok(format!("Redis: {channel}, heard by {nodes}"))
        }
        Ok(Err(error)) => Err(Failure::Failed(format!("failed to {error}"))),
        Err(_) => Err(Failure::Failed(format!(
            "Redis did not answer within {} s",
            within.as_secs_f64()
        ))),
    }
}

/// What went wrong, and what to do about it.
fn told(trouble: &Trouble, has_key: bool) -> String {
    let hint = match trouble {
        Trouble::Refused {
            status: Some(401), ..
        } if has_key => {
            "; the key is not that of the node: set secret or broadcast_key as it has them, or \
             give --key or --key_file"
        }
        Trouble::Refused {
            status: Some(401), ..
        } => "; set secret or broadcast_key as the node has them, or give --key or --key_file",
        Trouble::Refused {
            status: Some(404), ..
        } => {
            "; see http_broadcast_path and http_broadcast_port of the node, or name the whole \
             address with --url"
        }
        _ => "",
    };
    format!("{trouble}{hint}")
}

/// All of standard input, without the line break at its end.
fn standard_input(max: usize) -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(2);
    io::stdin()
        .lock()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::Failed(format!("standard input can't be read: {error}")))?;
    let text = without_break(&text);
    if text.len() > max {
        return Err(too_large(max));
    }
    Ok(text.to_owned())
}

/// The lines of standard input as they come. Read on a thread of their own: a terminal may take
/// its time.
fn lines(max: usize) -> mpsc::Receiver<Result<String, Failure>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    thread::spawn(move || {
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(2);
        let mut input = io::stdin().lock();
        loop {
            let mut line = String::new();
            let line = match input.by_ref().take(limit).read_line(&mut line) {
                Ok(0) => return,
                Ok(_) if without_break(&line).len() > max => Err(too_large(max)),
                Ok(_) => Ok(without_break(&line).to_owned()),
                Err(error) => Err(Failure::Failed(format!("it can't be read: {error}"))),
            };
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn without_break(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn too_large(max: usize) -> Failure {
    Failure::Failed(format!(
        "a message holds at most {max} bytes: max_publication_size"
    ))
}
