use super::*;

fn parse(line: &str) -> Result<Command, CommandError> {
    Command::parse(line.as_bytes())
}

fn identifier(text: &str) -> Identifier {
    Identifier::try_new(text).unwrap()
}

fn history(json: &str) -> Result<HistoryRequest, CommandError> {
    let line = format!(r#"{{"command":"history","identifier":"a","history":{json}}}"#);
    match parse(&line)? {
        Command::History { history, .. } => Ok(history),
        other => panic!("read as {}", other.name()),
    }
}

#[test]
fn the_base_commands() {
    let chat = || identifier(r#"{"channel":"ChatChannel","id":42}"#);
    let with = |name: &str, rest: &str| {
        parse(&format!(
            r#"{{"command":"{name}","identifier":"{{\"channel\":\"ChatChannel\",\"id\":42}}"{rest}}}"#
        ))
    };
    assert_eq!(
        with("subscribe", ""),
        Ok(Command::Subscribe {
            identifier: chat(),
            history: None,
            presence: None
        })
    );
    assert_eq!(
        with("unsubscribe", ""),
        Ok(Command::Unsubscribe { identifier: chat() })
    );
    assert_eq!(
        with("message", r#","data":"{\"action\":\"speak\"}""#),
        Ok(Command::Message {
            identifier: chat(),
            data: r#"{"action":"speak"}"#.to_owned()
        })
    );
    assert_eq!(parse(r#"{"command":"ping"}"#), Ok(Command::Ping));
    assert_eq!(
        parse(" {\"command\":\"pong\",\"x\":[]}\r"),
        Ok(Command::Pong)
    );
}

#[test]
fn a_whisper_carries_any_json() {
    for json in ["{\"a\": 1}", "\"x\"", "7", "null"] {
        let line = format!(r#"{{"command":"whisper","identifier":"a","data":{json}}}"#);
        let Ok(Command::Whisper { data, .. }) = parse(&line) else {
            panic!("not a whisper: {line}");
        };
        assert_eq!(data.as_str(), json);
    }
}

#[test]
fn history_by_time_and_by_position() {
    let request = history(
        r#"{"since":1681828329,"streams":{"chat_42":{"offset":32,"epoch":"x123"},"a":{"epoch":"e","offset":1}}}"#,
    )
    .unwrap();
    assert_eq!(request.since, Some(1_681_828_329));
    let position = |epoch, offset| Position {
        epoch: Epoch::new(epoch),
        offset: Offset::new(offset),
    };
    let name = |text| StreamName::try_new(text).unwrap();
    assert_eq!(
        request.streams,
        [
            (name("a"), position("e", 1)),
            (name("chat_42"), position("x123", 32))
        ]
    );
}

#[test]
fn since_may_be_a_fraction_but_not_text() {
    let since = |json: &str| history(&format!("{{\"since\":{json}}}")).map(|it| it.since);
    assert_eq!(since("1681828329.999"), Ok(Some(1_681_828_329)));
    assert_eq!(since("-1.5"), Ok(Some(-1)));
    assert_eq!(since("1e3"), Ok(Some(1000)));
    assert_eq!(since("1e30"), Ok(Some(i64::MAX)));
    assert_eq!(since("0"), Ok(Some(0)));
    for bad in ["\"1681828329\"", "true", "{}", "1e999", "null"] {
        assert_eq!(since(bad), Err(CommandError::BadHistory), "{bad}");
    }
}

#[test]
fn a_history_request_must_ask_for_something() {
    let nothing = HistoryRequest {
        since: None,
        streams: Vec::new(),
    };
    assert_eq!(history(r#"{"streams":{}}"#), Ok(nothing));
    for bad in [
        "{}",
        "7",
        "[]",
        "null",
        r#"{"streams":[]}"#,
        r#"{"streams":{"":{"epoch":"e","offset":1}}}"#,
        r#"{"streams":{"a":{"epoch":"e","offset":-1}}}"#,
        r#"{"streams":{"a":{"epoch":"e","offset":1.5}}}"#,
        r#"{"streams":{"a":{"epoch":"e","offset":"1"}}}"#,
        r#"{"streams":{"a":{"epoch":5,"offset":1}}}"#,
        r#"{"streams":{"a":7,"b":{"epoch":"e","offset":1}}}"#,
    ] {
        assert_eq!(history(bad), Err(CommandError::BadHistory), "{bad}");
    }
    let missing = parse(r#"{"command":"history","identifier":"a"}"#);
    assert_eq!(missing, Err(CommandError::BadHistory));
    let subscribe = parse(r#"{"command":"subscribe","identifier":"a","history":{}}"#);
    assert_eq!(subscribe, Err(CommandError::BadHistory));
}

#[test]
fn a_stream_named_twice_counts_once() {
    let request =
        history(r#"{"streams":{"a":{"epoch":"e","offset":1},"a":{"epoch":"e","offset":2}}}"#)
            .unwrap();
    assert_eq!(request.streams.len(), 1);
    assert_eq!(request.streams[0].1.offset.get(), 2);
}

#[test]
fn an_incomplete_position_matches_nothing() {
    let request = history(r#"{"streams":{"a":{}}}"#).unwrap();
    assert_eq!(request.streams[0].1.epoch.as_str(), "");
    assert_eq!(request.streams[0].1.offset.get(), 0);
}

#[test]
fn mistakes_are_told_apart() {
    let cases = [
        ("", "not_json"),
        ("hello", "not_json"),
        ("{", "not_json"),
        ("{} {}", "not_json"),
        ("[]", "not_an_object"),
        ("7", "not_an_object"),
        ("{}", "missing_command"),
        (r#"{"command":null}"#, "missing_command"),
        (r#"{"command":5}"#, "missing_command"),
        (r#"{"command":"speak","identifier":"a"}"#, "unknown"),
        (r#"{"command":"subscribe"}"#, "missing_identifier"),
        (
            r#"{"command":"subscribe","identifier":""}"#,
            "bad_identifier",
        ),
        (
            r#"{"command":"subscribe","identifier":{}}"#,
            "bad_identifier",
        ),
        (r#"{"command":"message","identifier":"a"}"#, "bad_data"),
        (
            r#"{"command":"message","identifier":"a","data":{}}"#,
            "bad_data",
        ),
        (r#"{"command":"whisper","identifier":"a"}"#, "bad_data"),
    ];
    for (line, kind) in cases {
        assert_eq!(
            parse(line).map_err(|error| error.kind()),
            Err(kind),
            "{line}"
        );
    }
    assert_eq!(Command::parse(b"{\"a\xff\":1}"), Err(CommandError::NotJson));
}

#[test]
fn the_name_of_an_unknown_command_is_cut() {
    let line = format!(r#"{{"command":"{}"}}"#, "é".repeat(100));
    assert_eq!(parse(&line), Err(CommandError::Unknown("é".repeat(64))));
}

#[test]
fn presence_commands() {
    let who = r#""presence":{"id":"42","info":{"name":"Vova"}}"#;
    let joined = parse(&format!(r#"{{"command":"join","identifier":"a",{who}}}"#));
    let Ok(Command::Join { presence, .. }) = &joined else {
        panic!("not a join: {joined:?}");
    };
    assert_eq!(presence.id, "42");
    let subscribed = parse(&format!(
        r#"{{"command":"subscribe","identifier":"a",{who}}}"#
    ));
    let Ok(Command::Subscribe {
        presence: Some(along),
        ..
    }) = &subscribed
    else {
        panic!("not a subscribe: {subscribed:?}");
    };
    assert_eq!(along, presence);
    let left = parse(r#"{"command":"leave","identifier":"a"}"#);
    assert_eq!(left.map(|command| command.name()), Ok("leave"));
    for (data, expected) in [
        ("", true),
        (r#","data":{}"#, true),
        (r#","data":{"return_records":true}"#, true),
        (r#","data":{"return_records":false}"#, false),
        (r#","data":null"#, true),
        (r#","data":[1]"#, true),
    ] {
        let asked = parse(&format!(
            r#"{{"command":"presence","identifier":"a"{data}}}"#
        ));
        let Ok(Command::Presence { records, .. }) = asked else {
            panic!("not understood: {data}");
        };
        assert_eq!(records, expected, "{data}");
    }
    for line in [
        r#"{"command":"join","identifier":"a"}"#,
        r#"{"command":"join","identifier":"a","presence":{}}"#,
        r#"{"command":"subscribe","identifier":"a","presence":7}"#,
    ] {
        assert_eq!(parse(line), Err(CommandError::BadPresence), "{line}");
    }
}
