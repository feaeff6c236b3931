//! The calls as protocol buffers. The numbers are those of `anycable.RPC`'s messages.

use super::call::{Call, Kind, Map, Presence, Reply};
use anyhow::{Context, Result, bail, ensure};

/// A field's value; the other two wire types are in none of the messages.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> Result<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(number) => bail!("the number {number}, not bytes"),
        }
    }

    fn text(&self) -> Result<String> {
        Ok(str::from_utf8(self.bytes()?)?.to_owned())
    }
}

// === reading ===

/// The call of a method.
pub(super) fn call(method: &str, message: &[u8]) -> Result<Call> {
    let fields = fields(message)?;
    let mut call = Call::new(match method {
        "Connect" => Kind::Connect,
        "Disconnect" => Kind::Disconnect,
        "Command" => {
            let verb = fields.iter().find(|(number, _)| *number == 1);
            let verb = verb.context("no command")?.1.text()?;
            Kind::of_command(&verb).with_context(|| format!("command {verb:?}"))?
        }
        _ => bail!("no method {method:?}"),
    });
    for (number, value) in fields {
        match (method, number) {
            ("Connect", 3) | ("Command", 5) | ("Disconnect", 5) => env(&mut call, value.bytes()?)?,
            ("Command", 1) => {}
            ("Command", 2) => call.identifier = value.text()?,
            ("Command", 3) | ("Disconnect", 1) => call.identifiers = value.text()?,
            ("Command", 4) => call.data = value.text()?,
            ("Disconnect", 2) => call.subscriptions.push(value.text()?),
            _ => bail!("{method} has no field {number}"),
        }
    }
    Ok(call)
}

fn env(call: &mut Call, message: &[u8]) -> Result<()> {
    for (number, value) in fields(message)? {
        match number {
            1 => call.url = value.text()?,
            2 => entry(&mut call.headers, &value)?,
            3 => entry(&mut call.cstate, &value)?,
            4 => entry(&mut call.istate, &value)?,
            _ => bail!("an env has no field {number}"),
        }
    }
    Ok(())
}

/// An entry of a map is a message of a key and a value.
fn entry(map: &mut Map, value: &Value<'_>) -> Result<()> {
    let (mut key, mut content) = (String::new(), String::new());
    for (number, value) in fields(value.bytes()?)? {
        match number {
            1 => key = value.text()?,
            2 => content = value.text()?,
            _ => bail!("an entry has no field {number}"),
        }
    }
    ensure!(map.insert(key, content).is_none(), "a key twice");
    Ok(())
}

fn fields(mut message: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = number(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(number(&mut message)?),
            2 => {
                let length = usize::try_from(number(&mut message)?)?;
                let (bytes, rest) = message.split_at_checked(length).context("cut short")?;
                message = rest;
                Value::Bytes(bytes)
            }
            other => bail!("wire type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    Ok(fields)
}

fn number(message: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().context("cut short")?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("a number of more than 64 bits")
}

// === writing ===

/// The answer to a call of this kind.
pub(super) fn reply(kind: Kind, reply: &Reply) -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, reply.status as u64);
    let mut env = Message::default();
    env.map(1, &reply.cstate);
    match kind {
        Kind::Connect => {
            message.text(2, &reply.identifiers);
            message.texts(3, &reply.transmissions);
            message.text(4, &reply.error);
            message.bytes(5, &env.0);
        }
        Kind::Disconnect => message.text(2, &reply.error),
        Kind::Subscribe | Kind::Unsubscribe | Kind::Message => {
            env.map(2, &reply.istate);
            message.number(2, u64::from(reply.disconnect));
            message.number(3, u64::from(reply.stop_streams));
            message.texts(4, &reply.streams);
            message.texts(5, &reply.transmissions);
            message.text(6, &reply.error);
            message.bytes(7, &env.0);
            message.texts(8, &reply.stopped_streams);
            if let Some(presence) = &reply.presence {
                message.bytes(9, &presence_message(presence).0);
            }
        }
    }
    message.0
}

fn presence_message(presence: &Presence) -> Message {
    let mut message = Message::default();
    message.text(1, &presence.kind);
    message.text(2, &presence.id);
    message.text(3, &presence.info);
    message
}

/// A message being written; what is empty or zero is left out, as everywhere.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, texts: &[String]) {
        for text in texts {
            self.bytes(field, text.as_bytes());
        }
    }

    fn map(&mut self, field: u64, map: &Map) {
        for (key, value) in map {
            let mut entry = Self::default();
            entry.text(1, key);
            entry.text(2, value);
            self.bytes(field, &entry.0);
        }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}
