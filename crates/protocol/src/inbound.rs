//! What backends send, through whichever door.

use serde_json::value::RawValue;

use crate::json::{self, Shape};
use crate::names::{NameError, StreamName};
use crate::payload::Payload;
use crate::publication::{Meta, Publication};
use crate::publication_error::{PublicationError, PublicationErrorKind};

/// What a backend asks for in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// One publication or more, in the order they are to be published.
    Publications(Vec<Publication>),
    /// Close the connections of somebody.
    Disconnect(RemoteDisconnect),
}

/// Asks to close every connection that has these identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDisconnect {
    /// Compared byte for byte with what the connection was authenticated as; never empty, so that
    /// it cannot match connections without any.
    pub identifier: String,
    /// Whether the clients may come back.
    pub reconnect: bool,
}

impl Inbound {
    /// Reads an object with `stream`, an array of such objects, or an object with `command`.
    ///
    /// `data` is normally a string ([`Payload::from_text`]); any other JSON is taken as it is. One
    /// bad element rejects its whole array.
    pub fn parse(body: &[u8]) -> Result<Self, PublicationError> {
        let text = str::from_utf8(body)
            .map_err(|error| PublicationError::not_utf8(body, error.valid_up_to()))?;
        match Shape::of(text) {
            Shape::Array => batch(text).map(Self::Publications),
            Shape::Object => single(text),
            shape => Err(match serde_json::from_str::<&RawValue>(text) {
                Err(error) => PublicationError::syntax(&error),
                Ok(_) => {
                    PublicationError::wrong_type(String::new(), "an object or an array", shape)
                }
            }),
        }
    }
}

impl RemoteDisconnect {
    /// The wire form, which [`Inbound::parse`] reads back.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + json::string_len(&self.identifier));
        out.extend_from_slice(b"{\"command\":\"disconnect\",\"payload\":{\"identifier\":");
        json::push_string(&mut out, &self.identifier);
        out.extend_from_slice(b",\"reconnect\":");
        out.extend_from_slice(self.reconnect.to_string().as_bytes());
        out.extend_from_slice(b"}}");
        out
    }
}

/// Where in the body a value stands.
#[derive(Clone, Copy)]
enum Place {
    Body,
    Element(usize),
}

impl Place {
    fn whole(self) -> String {
        match self {
            Self::Body => String::new(),
            Self::Element(index) => format!("[{index}]"),
        }
    }

    fn field(self, name: &str) -> String {
        match self {
            Self::Body => name.to_owned(),
            Self::Element(index) => format!("[{index}].{name}"),
        }
    }
}

/// The fields we know of one object.
#[derive(Default)]
struct Fields<'a> {
    stream: Option<&'a RawValue>,
    /// The only field in which `null` is a value.
    data: Option<&'a RawValue>,
    meta: Option<&'a RawValue>,
    command: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, PublicationError> {
        let mut known = Self::default();
        json::fields(text, |key, value| match key {
            "stream" => known.stream = json::present(value),
            "data" => known.data = Some(value),
            "meta" => known.meta = json::present(value),
            "command" => known.command = json::present(value),
            "payload" => known.payload = json::present(value),
            _ => {}
        })
        .map_err(|error| PublicationError::syntax(&error))?;
        Ok(known)
    }

    /// AnyCable treats an empty stream name like none when it looks for a command.
    fn is_command(&self) -> bool {
        self.command.is_some() && self.stream.is_none_or(|stream| stream.get() == "\"\"")
    }
}

fn single(text: &str) -> Result<Inbound, PublicationError> {
    let fields = Fields::read(text)?;
    if fields.is_command() {
        return command(&fields).map(Inbound::Disconnect);
    }
    publication(&fields, Place::Body).map(|one| Inbound::Publications(vec![one]))
}

fn batch(text: &str) -> Result<Vec<Publication>, PublicationError> {
    let elements = json::elements(text).map_err(|error| PublicationError::syntax(&error))?;
    if elements.is_empty() {
        return Err(PublicationError::new(
            PublicationErrorKind::EmptyBatch,
            String::new(),
            "the array holds no publication",
        ));
    }
    let read = |(index, element): (usize, &RawValue)| {
        let place = Place::Element(index);
        let shape = Shape::of(element.get());
        if shape != Shape::Object {
            return Err(PublicationError::wrong_type(
                place.whole(),
                "an object",
                shape,
            ));
        }
        // The element is known to be JSON, so a line and column, which would be relative to it, are
        // not needed.
        let fields =
            Fields::read(element.get()).map_err(|_| PublicationError::bad_key(place.whole()))?;
        if fields.is_command() {
            return Err(PublicationError::new(
                PublicationErrorKind::CommandInBatch,
                place.field("command"),
                "an array may hold publications only",
            ));
        }
        publication(&fields, place)
    };
    elements.into_iter().enumerate().map(read).collect()
}

fn publication(fields: &Fields<'_>, place: Place) -> Result<Publication, PublicationError> {
    let at = || place.field("stream");
    let stream = fields
        .stream
        .ok_or_else(|| PublicationError::missing(at()))?;
    let stream = json::text(stream).map_err(|reason| PublicationError::not_text(at(), reason))?;
    let stream =
        StreamName::try_new(&stream).map_err(|reason| PublicationError::bad_name(at(), reason))?;
    let data = fields
        .data
        .ok_or_else(|| PublicationError::missing(place.field("data")))?;
    Ok(Publication {
        stream,
        data: payload(data, place)?,
        meta: meta(fields.meta, place)?,
    })
}

fn payload(data: &RawValue, place: Place) -> Result<Payload, PublicationError> {
    if Shape::of(data.get()) != Shape::String {
        return Ok(Payload::from_raw(data));
    }
    let text = json::text(data)
        .map_err(|reason| PublicationError::not_text(place.field("data"), reason))?;
    Ok(Payload::from_text(&text))
}

/// Reads the `meta` of one publication.
pub(crate) fn meta_of(raw: Option<&RawValue>) -> Result<Meta, PublicationError> {
    meta(raw, Place::Body)
}

fn meta(raw: Option<&RawValue>, place: Place) -> Result<Meta, PublicationError> {
    let mut meta = Meta::default();
    let Some(raw) = raw else {
        return Ok(meta);
    };
    let (mut exclude_socket, mut transient) = (None, None);
    let (mut broadcast_type, mut traceparent, mut tracestate) = (None, None, None);
    object(raw, &place.field("meta"), |key, value| match key {
        "exclude_socket" => exclude_socket = json::present(value),
        "transient" => transient = json::present(value),
        "broadcast_type" => broadcast_type = json::present(value),
        "traceparent" => traceparent = json::present(value),
        "tracestate" => tracestate = json::present(value),
        _ => {}
    })?;
    let text = |raw: Option<&RawValue>, name: &str| {
        raw.map(|raw| json::text(raw).map(Into::into))
            .transpose()
            .map_err(|reason| PublicationError::not_text(place.field(name), reason))
    };
    meta.exclude_socket = text(exclude_socket, "meta.exclude_socket")?;
    meta.transient = boolean(transient, || place.field("meta.transient"))?;
    meta.broadcast_type = text(broadcast_type, "meta.broadcast_type")?;
    meta.traceparent = text(traceparent, "meta.traceparent")?;
    // Nothing depends on it, so nothing fails because of it.
    meta.tracestate = text(tracestate, "meta.tracestate").unwrap_or_default();
    Ok(meta)
}

fn command(fields: &Fields<'_>) -> Result<RemoteDisconnect, PublicationError> {
    let at = || Place::Body.field("command");
    let name = fields
        .command
        .ok_or_else(|| PublicationError::missing(at()))?;
    let name = json::text(name).map_err(|reason| PublicationError::not_text(at(), reason))?;
    if name != "disconnect" {
        return Err(PublicationError::new(
            PublicationErrorKind::UnknownCommand,
            at(),
            "unknown command, `disconnect` is the only one",
        ));
    }
    let payload = fields
        .payload
        .ok_or_else(|| PublicationError::missing("payload".to_owned()))?;
    let (mut identifier, mut reconnect) = (None, None);
    object(payload, "payload", |key, value| match key {
        "identifier" => identifier = json::present(value),
        "reconnect" => reconnect = json::present(value),
        _ => {}
    })?;
    let at = || "payload.identifier".to_owned();
    let identifier = identifier.ok_or_else(|| PublicationError::missing(at()))?;
    let identifier =
        json::text(identifier).map_err(|reason| PublicationError::not_text(at(), reason))?;
    if identifier.is_empty() {
        return Err(PublicationError::bad_name(at(), NameError::Empty));
    }
    Ok(RemoteDisconnect {
        identifier: identifier.into_owned(),
        reconnect: boolean(reconnect, || "payload.reconnect".to_owned())?,
    })
}

/// Reads a value that is known to be JSON as an object.
fn object<'a>(
    raw: &'a RawValue,
    at: &str,
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), PublicationError> {
    let shape = Shape::of(raw.get());
    if shape != Shape::Object {
        return Err(PublicationError::wrong_type(
            at.to_owned(),
            "an object",
            shape,
        ));
    }
    json::fields(raw.get(), each).map_err(|_| PublicationError::bad_key(at.to_owned()))
}

/// An absent boolean is false.
fn boolean(raw: Option<&RawValue>, at: impl FnOnce() -> String) -> Result<bool, PublicationError> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(PublicationError::wrong_type(
            at(),
            "a boolean",
            Shape::of(other),
        )),
    }
}

#[cfg(test)]
mod tests;
