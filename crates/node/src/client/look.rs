//! `pollux nodes`, `pollux streams` and `pollux sessions`.

use super::{
    Failure, finish,
    reach::{self, place},
    table,
};
use crate::{
    config::{Config, Hidden, LookRequest, Subject},
    node::redis_config_of,
    program::complain,
};
use bytes::Bytes;
use http::Method;
use pollux_broker::{NodeSeen, RedisGuest};
use pollux_client::{Http, Trouble};
use serde_json::{Map, Value, json};
use std::{io, process::ExitCode, time::Duration};
use tokio::time::timeout;

type Row = Map<String, Value>;

/// A node that has missed three reports.
const SILENT_AFTER: Duration = Duration::from_secs(15);

const NODES: [(&str, &str); 9] = [
    ("id", "NODE"),
    ("address", "ADDRESS"),
    ("state", "STATE"),
    ("sessions", "SESSIONS"),
    ("parked_polls", "PARKED"),
    ("streams", "STREAMS"),
    ("version", "VERSION"),
    ("uptime_seconds", "UPTIME S"),
    ("seen_seconds_ago", "SEEN S AGO"),
];

const COUNTS: [(&str, &str); 6] = [
    ("node", "NODE"),
    ("sessions", "SESSIONS"),
    ("long_polls", "LONG POLLS"),
    ("websockets", "WEBSOCKETS"),
    ("event_streams", "EVENT STREAMS"),
    ("subscriptions", "SUBSCRIPTIONS"),
];

const SESSIONS: [(&str, &str); 6] = [
    ("sid", "SID"),
    ("transport", "BY"),
    ("identifiers", "IDENTIFIERS"),
    ("subscriptions", "SUBSCRIPTIONS"),
    ("waits", "WAITS"),
    ("outbox_frames", "OUTBOX"),
];

const STREAMS: [(&str, &str); 4] = [
    ("stream", "STREAM"),
    ("offset", "OFFSET"),
    ("history", "HISTORY"),
    ("nodes", "NODES"),
];

const STREAMS_HERE: [(&str, &str); 2] = [("stream", "STREAM"), ("subscriptions", "SUBSCRIPTIONS")];

/// Looks, and prints what there is.
pub(crate) fn look(request: &LookRequest, config: &Config) -> ExitCode {
    finish(run(request, config))
}

async fn run(request: &LookRequest, config: &Config) -> Result<(), Failure> {
    let by_redis = request.reach.address.is_none() && config.uses_redis();
    let redis = redis_config_of(config).filter(|_| by_redis);
    let looking = async {
        match redis {
            Some(redis) => {
                let guest = RedisGuest::new(redis);
                let guest = guest.map_err(|error| Failure::Asked(format!("failed to {error}")))?;
                at_redis(&guest, request).await
            }
            None => at_node(request, config).await,
        }
    };
    let looked = timeout(request.timeout, Box::pin(looking)).await;
    let (rows, columns) = looked.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", request.timeout.as_secs_f64());
        Err(Failure::Failed(why))
    })?;
    match table::print(&rows, columns, request.json) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!(
            "standard output can't be written: {error}"
        ))),
        _ => Ok(()),
    }
}

type Looked = (Vec<Row>, &'static [(&'static str, &'static str)]);

async fn at_redis(guest: &RedisGuest, request: &LookRequest) -> Result<Looked, Failure> {
    let failed = |error| Failure::Failed(format!("failed to {error}"));
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let (mut rows, columns): (Vec<Row>, &'static [_]) = match request.subject {
        Subject::Nodes => {
            let nodes = guest.nodes().await.map_err(failed)?;
            (nodes.iter().map(node).collect(), &NODES)
        }
        Subject::Sessions => {
            let nodes = guest.nodes().await.map_err(failed)?;
            (nodes.iter().map(node).map(counts).collect(), &COUNTS)
        }
        Subject::Streams => {
            let seen = guest.streams(&request.prefix, limit).await;
            let seen = seen.map_err(failed)?;
            if seen.is_cut {
                cut();
            }
            let rows = seen.streams.iter().map(|seen| {
                row(json!({
                    "stream": seen.stream.as_str(),
                    "offset": seen.offset,
                    "history": seen.history,
                    "nodes": seen.nodes,
                }))
            });
            (rows.collect(), &STREAMS)
        }
    };
    if rows.len() > limit {
        rows.truncate(limit);
        cut();
    }
    Ok((rows, columns))
}

/// A node as it said, and when that was.
fn node(seen: &NodeSeen) -> Row {
    let said = serde_json::from_str::<Value>(&seen.report).unwrap_or_default();
    let mut row = row(said);
    row.insert("id".to_owned(), json!(seen.id));
    row.insert("seen_seconds_ago".to_owned(), json!(seen.silence.as_secs()));
    if seen.silence >= SILENT_AFTER {
        row.insert("state".to_owned(), json!("silent"));
    }
    row
}

/// Of a node only what it says of its sessions.
fn counts(mut node: Row) -> Row {
    let mut counts = Row::new();
    counts.insert("node".to_owned(), node.remove("id").unwrap_or_default());
    for (field, _) in COUNTS.into_iter().skip(1) {
        let count = node.remove(field).unwrap_or_default();
        counts.insert(field.to_owned(), count);
    }
    counts
}

async fn at_node(request: &LookRequest, config: &Config) -> Result<Looked, Failure> {
    let key = request.key.clone();
    let key = key.or_else(|| config.api_key().map(Hidden::new));
    let key = key.map(|key| Hidden::new(format!("Bearer {}", key.expose())));
    let more = key.as_ref().map(|key| ("authorization", key));
    let wire = reach::wire(&request.reach, config, config.port, more.as_slice())?;
    // One more than is shown says that there are more.
    let limit = request.limit.saturating_add(1);
    let (path, columns): (_, &'static [_]) = match request.subject {
        Subject::Nodes => ("/admin/node".to_owned(), &NODES),
        Subject::Sessions => (format!("/admin/sessions?limit={limit}"), &SESSIONS),
        Subject::Streams => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            query.append_pair("prefix", &request.prefix);
            (format!("/admin/streams?{}", query.finish()), &STREAMS_HERE)
        }
    };
    let place = place(&wire, &path);
    let mut http = Http::new(wire);
    let asked = http.exchange(Method::GET, &path, &[], Bytes::new(), request.timeout);
    let failed = |trouble: Trouble| {
        let hint = hint(&trouble);
        Failure::Failed(format!("{place}: {trouble}{hint}"))
    };
    let answer = asked.await.map_err(failed)?;
    if !answer.status.is_success() {
        return Err(failed(answer.trouble()));
    }
    let said = serde_json::from_slice::<Value>(&answer.body);
    let said = said.map_err(|_| Failure::Failed(format!("{place}: that is no node's answer")))?;
    let mut rows = match said {
        Value::Array(rows) => rows.into_iter().map(row).collect(),
        said => vec![row(said)],
    };
    let shown = usize::try_from(request.limit).unwrap_or(usize::MAX);
    if rows.len() > shown {
        rows.truncate(shown);
        cut();
    }
    if request.subject == Subject::Nodes {
        for row in &mut rows {
            row.insert("seen_seconds_ago".to_owned(), json!(0));
        }
    }
    Ok((rows, columns))
}

fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

fn cut() {
    complain("there are more; --limit says how many are shown");
}

fn hint(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Refused {
            status: Some(401), ..
        } => "; set secret or api_secret as the node has them, or give --key or --key_file",
        Trouble::Refused {
            status: Some(404), ..
        } => "; outside of development mode a node tells only with a key: api_secret or secret",
        _ => "",
    }
}
