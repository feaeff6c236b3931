//! What must hold for any input: parsers never panic, encoders are read back as they were.

use pollux_protocol::action_cable::reply;
use pollux_protocol::{
    Channel, Command, DisconnectReason, Epoch, Frame, HistoryRequest, IDENTIFIER_MAX, Identifier,
    Inbound, Meta, Offset, Payload, Position, PresenceRequest, Publication, RemoteDisconnect,
    StreamName, StreamRef, StreamVerifier,
    category::{self, Cursor, Event, EventId, Place, PollQuery, PublishRequest, StoredEvent},
    lines,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// No regression files: a failure becomes a unit test named after what broke.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Any text, control characters included, which `any::<String>()` leaves out.
fn text() -> impl Strategy<Value = String> {
    vec(
        prop_oneof![
            3 => any::<char>(),
            1 => select(vec!['\n', '\r', '\0', '"', '\\', '\u{7f}', '\u{2028}', '\u{feff}']),
        ],
        0..40,
    )
    .prop_map(String::from_iter)
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("names are not empty", |text| !text.is_empty())
}

#[expect(
    clippy::expect_used,
    reason = "a helper of tests, whose input is made to fit"
)]
fn stream() -> impl Strategy<Value = StreamName> {
    name().prop_map(|name| StreamName::try_new(&name).expect("short enough"))
}

#[expect(
    clippy::expect_used,
    reason = "a helper of tests, whose input is made to fit"
)]
fn identifier() -> impl Strategy<Value = Identifier> {
    name().prop_map(|name| Identifier::try_new(&name).expect("short enough"))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(text(), inner, 0..5).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

/// JSON as somebody may lay it out: tight, or over many lines with space around it.
fn json_text() -> impl Strategy<Value = String> {
    let space = || select(vec!["", " ", "\n", "\r\n", "\t \r"]);
    (value(), any::<bool>(), space(), space()).prop_map(|(value, pretty, before, after)| {
        let json = if pretty {
            format!("{value:#}").replace('\n', "\r\n")
        } else {
            value.to_string()
        };
        format!("{before}{json}{after}")
    })
}

#[expect(
    clippy::expect_used,
    reason = "a helper of tests, whose input is made to fit"
)]
fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.trim().to_owned()).expect("valid JSON")
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        text().prop_map(|text| Payload::from_text(&text)),
        json_text().prop_map(|json| Payload::from_text(&json)),
        json_text().prop_map(|json| Payload::from_raw(&raw(&json))),
        Just(Payload::from_raw(&raw("null"))),
    ]
}

fn publication() -> impl Strategy<Value = Publication> {
    let boxed = || option::of(text().prop_map(String::into_boxed_str));
    let meta = (boxed(), any::<bool>(), boxed(), boxed(), boxed()).prop_map(
        |(exclude_socket, transient, broadcast_type, traceparent, tracestate)| Meta {
            exclude_socket,
            transient,
            broadcast_type,
            traceparent,
            tracestate,
        },
    );
    (stream(), payload(), meta).prop_map(|(stream, data, meta)| Publication { stream, data, meta })
}

fn position() -> impl Strategy<Value = Position> {
    (text(), any::<u64>()).prop_map(|(epoch, offset)| Position {
        epoch: Epoch::new(&epoch),
        offset: Offset::new(offset),
    })
}

fn history() -> impl Strategy<Value = HistoryRequest> {
    (
        option::of(any::<i64>()),
        btree_map(stream(), position(), 0..4),
    )
        .prop_map(|(since, streams)| HistoryRequest {
            since,
            streams: streams.into_iter().collect(),
        })
}

fn presence() -> impl Strategy<Value = PresenceRequest> {
    (text(), payload())
        .prop_filter("an id is never empty", |(id, _)| !id.is_empty())
        .prop_map(|(id, info)| PresenceRequest { id, info })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (identifier(), option::of(history()), option::of(presence())).prop_map(
            |(identifier, history, presence)| Command::Subscribe {
                identifier,
                history,
                presence,
            }
        ),
        (identifier(), presence()).prop_map(|(identifier, presence)| Command::Join {
            identifier,
            presence
        }),
        identifier().prop_map(|identifier| Command::Leave { identifier }),
        (identifier(), any::<bool>()).prop_map(|(identifier, records)| Command::Presence {
            identifier,
            records
        }),
        identifier().prop_map(|identifier| Command::Unsubscribe { identifier }),
        (identifier(), text()).prop_map(|(identifier, data)| Command::Message { identifier, data }),
        (identifier(), history()).prop_map(|(identifier, history)| Command::History {
            identifier,
            history
        }),
        (identifier(), payload())
            .prop_map(|(identifier, data)| Command::Whisper { identifier, data }),
        Just(Command::Ping),
        Just(Command::Pong),
    ]
}

/// What a client would write for `command`.
fn encode(command: &Command) -> String {
    let mut line = json!({ "command": command.name() });
    match command {
        Command::Subscribe { identifier, .. }
        | Command::Unsubscribe { identifier }
        | Command::Message { identifier, .. }
        | Command::History { identifier, .. }
        | Command::Join { identifier, .. }
        | Command::Leave { identifier }
        | Command::Presence { identifier, .. }
        | Command::Whisper { identifier, .. } => line["identifier"] = identifier.as_str().into(),
        Command::Ping | Command::Pong => {}
    }
    match command {
        Command::Presence { records, .. } => line["data"] = json!({"return_records": records}),
        Command::Message { data, .. } => line["data"] = data.as_str().into(),
        Command::Subscribe {
            history: Some(history),
            ..
        }
        | Command::History { history, .. } => {
            let streams = history.streams.iter().map(|(name, position)| {
                let position =
                    json!({"epoch": position.epoch.as_str(), "offset": position.offset.get()});
                (name.as_str().to_owned(), position)
            });
            line["history"] = json!({"since": history.since, "streams": Map::from_iter(streams)});
        }
        Command::Whisper { data, .. } => {
            // Through a `Value` the number's text could change.
            let mut text = line.to_string();
            text.truncate(text.len() - 1);
            return format!("{text},\"data\":{}}}", data.as_str());
        }
        _ => {}
    }
    match command {
        Command::Join { presence, .. }
        | Command::Subscribe {
            presence: Some(presence),
            ..
        } => {
            // Through a `Value` the numbers' texts could change.
            let mut text = line.to_string();
            text.truncate(text.len() - 1);
            let (id, info) = (json!(presence.id), presence.info.as_str());
            format!("{text},\"presence\":{{\"id\":{id},\"info\":{info}}}}}")
        }
        _ => line.to_string(),
    }
}

fn frame() -> impl Strategy<Value = Frame> {
    let reasons = vec![DisconnectReason::Remote, DisconnectReason::ServerRestart];
    prop_oneof![
        text().prop_map(|sid| reply::welcome(&sid)),
        any::<i64>().prop_map(reply::ping),
        Just(reply::pong()),
        identifier().prop_map(|identifier| reply::confirm_subscription(&identifier)),
        identifier().prop_map(|identifier| reply::reject_subscription(&identifier)),
        identifier().prop_map(|identifier| reply::confirm_history(&identifier)),
        identifier().prop_map(|identifier| reply::reject_history(&identifier)),
        (select(reasons), any::<bool>())
            .prop_map(|(reason, reconnect)| reply::disconnect(reason, reconnect)),
        (
            identifier(),
            payload(),
            option::of(text()),
            option::of((stream(), position()))
        )
            .prop_map(|(identifier, data, kind, at)| {
                let at = at.as_ref().map(|(stream, position)| (stream, position));
                reply::message(&identifier, &data, kind.as_deref(), at)
            }),
    ]
}

/// Bytes that get further into the parsers than plain noise: words of the protocols in any order,
/// and valid messages with one byte changed or the end cut off.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u00",
        "\\ud800",
        "null",
        "true",
        "1e999",
        "-",
        "0",
        " ",
        "\n",
        "\"command\":",
        "\"subscribe\"",
        "\"whisper\"",
        "\"history\":",
        "\"since\":",
        "\"streams\":",
        "\"epoch\":",
        "\"offset\":",
        "\"identifier\":",
        "\"data\":",
        "\"stream\":",
        "\"meta\":",
        "\"payload\":",
        "\"disconnect\"",
        "\"channel\":",
        "\"$pubsub\"",
        "\"stream_name\":",
        "\"signed_stream_name\":",
        "--",
        "\u{fffd}",
    ];
    let valid = prop_oneof![
        command().prop_map(|command| encode(&command).into_bytes()),
        publication().prop_map(|publication| publication.to_json()),
    ];
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(select(words), 0..40).prop_map(|words| words.concat().into_bytes()),
        (valid, any::<Index>(), any::<u8>(), any::<bool>()).prop_map(
            |(mut bytes, at, byte, cut)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if cut {
                    bytes.truncate(at);
                }
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn parsers_never_panic(bytes in hostile()) {
        let verifier = StreamVerifier::new([b"secret".to_vec()]).expect("a secret");
        drop(Command::parse(&bytes));
        if let Err(error) = Inbound::parse(&bytes) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert_eq!(error.line().is_some(), error.column().is_some());
        }
        for line in lines(&bytes) {
            prop_assert!(!line.contains(&b'\n'));
            drop(Command::parse(line));
        }
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(verifier.verify(&text).is_err());
        drop(Payload::from_text(&text));
        if let Ok(identifier) = Identifier::try_new(&text) {
            drop(Channel::parse(&identifier));
        }
    }

    #[test]
    fn a_frame_is_one_line_of_json(frame in frame()) {
        let newlines = frame.line().iter().filter(|&&byte| byte == b'\n').count();
        prop_assert_eq!(newlines, 1);
        prop_assert!(frame.line().ends_with(b"\n"));
        prop_assert_eq!(frame.len(), frame.line().len());
        let value: Value = serde_json::from_slice(&frame.json()).expect("valid JSON");
        prop_assert!(value.is_object());
    }

    #[test]
    fn a_body_of_frames_is_split_into_its_frames(frames in vec(frame(), 0..6)) {
        let body: Vec<u8> = frames.iter().flat_map(|frame| frame.line().to_vec()).collect();
        let split: Vec<&[u8]> = lines(&body).collect();
        let sent: Vec<_> = frames.iter().map(Frame::json).collect();
        prop_assert_eq!(split, sent.iter().map(|json| &json[..]).collect::<Vec<_>>());
    }

    #[test]
    fn a_body_of_commands_is_read_back(commands in vec(command(), 0..5), last in any::<bool>()) {
        let mut body = commands.iter().map(encode).collect::<Vec<_>>().join("\n");
        if last {
            body.push('\n');
        }
        let read: Result<Vec<_>, _> = lines(body.as_bytes()).map(Command::parse).collect();
        prop_assert_eq!(read, Ok(commands));
    }

    #[test]
    fn a_message_says_what_went_in(
        identifier in identifier(),
        data in payload(),
        at in option::of((stream(), position())),
    ) {
        let place = at.as_ref().map(|(stream, position)| (stream, position));
        let frame = reply::message(&identifier, &data, None, place);
        let value: Value = serde_json::from_slice(&frame.json()).expect("valid JSON");
        prop_assert_eq!(&value["identifier"], identifier.as_str());
        let message: Value = serde_json::from_slice(data.as_bytes()).expect("valid JSON");
        prop_assert_eq!(&value["message"], &message);
        prop_assert_eq!(value.get("epoch").is_some(), at.is_some());
        if let Some((stream, position)) = at {
            prop_assert_eq!(&value["stream_id"], stream.as_str());
            prop_assert_eq!(&value["epoch"], position.epoch.as_str());
            prop_assert_eq!(&value["offset"], position.offset.get());
        }
    }

    #[test]
    fn a_publication_is_read_back(publications in vec(publication(), 1..4)) {
        for publication in &publications {
            let read = Inbound::parse(&publication.to_json());
            prop_assert_eq!(read, Ok(Inbound::Publications(vec![publication.clone()])));
        }
        let texts: Vec<_> = publications.iter().map(Publication::to_json).collect();
        let batch = [b"[".as_slice(), &texts.join(&b','), b"]"].concat();
        prop_assert_eq!(Inbound::parse(&batch), Ok(Inbound::Publications(publications)));
    }

    #[test]
    fn a_remote_disconnect_is_read_back(identifier in name(), reconnect in any::<bool>()) {
        let disconnect = RemoteDisconnect { identifier, reconnect };
        let read = Inbound::parse(&disconnect.to_json());
        prop_assert_eq!(read, Ok(Inbound::Disconnect(disconnect)));
    }

    #[test]
    fn a_payload_is_one_line_that_means_the_same(json in json_text()) {
        let payload = Payload::from_raw(&raw(&json));
        prop_assert!(!payload.as_str().contains(['\n', '\r']));
        let before: Value = serde_json::from_str(&json).expect("valid JSON");
        let after: Value = serde_json::from_str(payload.as_str()).expect("valid JSON");
        prop_assert_eq!(&before, &after);
        let from_text = Payload::from_text(&json);
        if !before.is_null() {
            prop_assert_eq!(from_text, payload);
        }
    }

    #[test]
    fn text_that_is_no_json_arrives_as_that_text(text in text()) {
        let payload = Payload::from_text(&text);
        prop_assert!(!payload.as_str().contains(['\n', '\r']));
        let arrived: Value = serde_json::from_str(payload.as_str()).expect("valid JSON");
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if !value.is_null() => prop_assert_eq!(arrived, value),
            _ => prop_assert_eq!(arrived, text),
        }
    }

    #[test]
    fn a_signed_name_is_verified_and_found_in_its_identifier(stream in stream()) {
        let verifier = StreamVerifier::new([b"secret".to_vec()]).expect("a secret");
        let signed = verifier.sign(&stream);
        prop_assert_eq!(verifier.verify(&signed), Ok(stream.clone()));
        let other = StreamVerifier::new([b"other".to_vec()]).expect("a secret");
        prop_assert!(other.verify(&signed).is_err());

        let parse = |json: Value| {
            let text = json.to_string();
            prop_assume!(text.len() <= IDENTIFIER_MAX);
            let identifier = Identifier::try_new(&text).expect("short enough");
            Ok(Channel::parse(&identifier).expect("well-formed"))
        };
        let by_signature = parse(json!({"channel": "$pubsub", "signed_stream_name": signed}))?;
        prop_assert_eq!(by_signature, Channel::PubSub(StreamRef::Signed(signed)));
        let by_name = parse(json!({"channel": "$pubsub", "stream_name": stream.as_str()}))?;
        prop_assert_eq!(by_name, Channel::PubSub(StreamRef::Public(stream)));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_a_category_client_sends_panics(bytes in vec(any::<u8>(), 0..200)) {
        drop(PollQuery::parse(&bytes, 110));
        drop(PublishRequest::parse(&bytes));
        drop(StoredEvent::parse(&bytes));
        drop(Event::decode(bytes.clone().into()));
        if let Some(id) = EventId::parse(&bytes) {
            prop_assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
        }
    }

    #[test]
    fn what_a_publisher_says_is_what_pollers_read(stream in stream(), json in json_text(), time in any::<u64>()) {
        let category = Value::from(stream.as_str());
        let request = format!("{{\"category\":{category},\"data\":{json}}}");
        let data: Value = serde_json::from_str(&json).expect("valid JSON");
        let Ok(request) = PublishRequest::parse(request.as_bytes()) else {
            prop_assert!(data.is_null());
            return Ok(());
        };
        let event = Event::of(&request.stream, &request.data, time);
        prop_assert_eq!(Event::decode(event.json.clone()), Some(event.clone()));
        let events = [event.json.clone()];
        let body = category::events(&events);
        let body: Value = serde_json::from_slice(&body).expect("valid JSON");
        prop_assert_eq!(&body["events"][0]["data"], &data);
        prop_assert_eq!(body["events"][0]["category"].as_str(), Some(stream.as_str()));
        // Times a clock can show come back exactly.
        let time = time % (1 << 53);
        let event = Event::of(&request.stream, &request.data, time);
        let stored = StoredEvent::parse(&event.json).expect("an event");
        prop_assert_eq!((stored.stream, stored.data, stored.time), (request.stream, request.data, time));
    }

    #[test]
    fn a_client_that_follows_its_cursor_sees_everything_once(
        steps in vec(prop_oneof![Just(1), 1..3_000_u64], 1..40),
        batch in 1..5_usize,
    ) {
        let stream = StreamName::try_new("a").expect("a name");
        let times = steps.iter().scan(0, |now, step| { *now += step; Some(*now) });
        let places: Vec<_> = times
            .map(|time| Place { timestamp: i64::try_from(time / 1_000).unwrap_or(0), id: EventId::of(&stream, time) })
            .collect();
        let mut cursor = Cursor { since: -1, last: None };
        let mut read: Vec<Place> = Vec::new();
        while read.len() < places.len() {
            let seen = cursor.seen(places.iter().copied());
            let unseen = places.get(seen..).unwrap_or_default();
            prop_assert!(!unseen.is_empty());
            read.extend(unseen.iter().take(batch));
            if let Some(last) = read.last() {
                cursor = Cursor { since: last.timestamp, last: Some(last.id) };
            }
        }
        prop_assert_eq!(read, places);
    }
}
