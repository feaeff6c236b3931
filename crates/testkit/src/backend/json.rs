//! The calls as JSON, read as strictly as the strictest of the known backends does: unknown
//! fields and fields of a wrong type are refused.

use super::call::{Call, Kind, Map, Reply};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map as Fields, Value, json};

/// A call of this kind, or, for `None`, a command.
pub(super) fn call(kind: Option<Kind>, body: &[u8]) -> Result<Call> {
    let Value::Object(mut fields) = serde_json::from_slice(body)? else {
        bail!("not an object");
    };
    let verb = match kind {
        Some(_) => String::new(),
        None => text(&mut fields, "command")?,
    };
    let kind = match kind {
        Some(kind) => kind,
        None => Kind::of_command(&verb).with_context(|| format!("command {verb:?}"))?,
    };
    let mut call = Call::new(kind);
    match kind {
        Kind::Connect => {}
        Kind::Disconnect => {
            call.identifiers = text(&mut fields, "identifiers")?;
            call.subscriptions = texts(&mut fields, "subscriptions")?;
        }
        Kind::Subscribe | Kind::Unsubscribe | Kind::Message => {
            call.identifier = text(&mut fields, "identifier")?;
            call.identifiers = text(&mut fields, "connection_identifiers")?;
            call.data = text(&mut fields, "data")?;
        }
    }
    let Some(Value::Object(mut env)) = fields.remove("env") else {
        bail!("no env");
    };
    call.url = text(&mut env, "url")?;
    call.headers = map(&mut env, "headers")?;
    call.cstate = map(&mut env, "cstate")?;
    call.istate = map(&mut env, "istate")?;
    for left in [fields, env] {
        ensure!(left.is_empty(), "unknown fields: {left:?}");
    }
    Ok(call)
}

fn text(fields: &mut Fields<String, Value>, name: &str) -> Result<String> {
    match fields.remove(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => bail!("{name} is {other}"),
    }
}

fn texts(fields: &mut Fields<String, Value>, name: &str) -> Result<Vec<String>> {
    let Some(value) = fields.remove(name) else {
        return Ok(Vec::new());
    };
    let list = value
        .as_array()
        .with_context(|| format!("{name}: {value}"))?;
    let texts = list.iter().map(|item| Some(item.as_str()?.to_owned()));
    let texts: Option<_> = texts.collect();
    texts.with_context(|| format!("{name}: {value}"))
}

fn map(fields: &mut Fields<String, Value>, name: &str) -> Result<Map> {
    let Some(value) = fields.remove(name) else {
        return Ok(Map::new());
    };
    let object = value
        .as_object()
        .with_context(|| format!("{name}: {value}"))?;
    let pairs = object
        .iter()
        .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    let map: Option<_> = pairs.collect();
    map.with_context(|| format!("{name}: {value}"))
}

/// An answer. Lists that are empty are `null` in some backends and left out by others: here by
/// kind of list, so that a node meets both.
pub(super) fn reply(kind: Kind, reply: &Reply) -> String {
    let mut answer = json!({"status": reply.status as u8});
    if !reply.error.is_empty() {
        answer["error_msg"] = reply.error.as_str().into();
    }
    if kind == Kind::Disconnect {
        return answer.to_string();
    }
    answer["transmissions"] = match reply.transmissions.as_slice() {
        [] => Value::Null,
        some => json!(some),
    };
    let mut env = json!({});
    if !reply.cstate.is_empty() {
        env["cstate"] = json!(reply.cstate);
    }
    if kind == Kind::Connect {
        if !reply.identifiers.is_empty() {
            answer["identifiers"] = reply.identifiers.as_str().into();
        }
        answer["env"] = env;
        return answer.to_string();
    }
    env["istate"] = json!(reply.istate);
    answer["env"] = env;
    answer["streams"] = match reply.streams.as_slice() {
        [] => Value::Null,
        some => json!(some),
    };
    answer["stop_streams"] = reply.stop_streams.into();
    if !reply.stopped_streams.is_empty() {
        answer["stopped_streams"] = json!(reply.stopped_streams);
    }
    if reply.disconnect {
        answer["disconnect"] = true.into();
    }
    if let Some(presence) = &reply.presence {
        answer["presence"] =
            json!({"type": presence.kind, "id": presence.id, "info": presence.info});
    }
    answer.to_string()
}
