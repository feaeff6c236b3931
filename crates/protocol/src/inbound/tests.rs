use super::*;

fn publications(body: &str) -> Vec<Publication> {
    match Inbound::parse(body.as_bytes()).unwrap() {
        Inbound::Publications(publications) => publications,
        Inbound::Disconnect(_) => panic!("not a publication"),
    }
}

fn one(body: &str) -> Publication {
    let mut all = publications(body);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// Kind and path of what is wrong with `body`.
fn wrong(body: &str) -> (&'static str, String) {
    let error = Inbound::parse(body.as_bytes()).unwrap_err();
    (error.kind().as_str(), error.at().to_owned())
}

#[test]
fn a_publication_of_a_string_of_json() {
    let publication = one(r#"{"stream":"chat/42","data":"{\"text\":\"Hi\"}"}"#);
    assert_eq!(publication.stream.as_str(), "chat/42");
    assert_eq!(publication.data.as_str(), r#"{"text":"Hi"}"#);
    assert_eq!(publication.meta, Meta::default());
}

#[test]
fn ruby_sends_strings_encoded_twice() {
    let publication = one(r#"{"stream":"a","data":"\"<turbo-stream>\""}"#);
    assert_eq!(publication.data.as_str(), r#""<turbo-stream>""#);
}

#[test]
fn data_that_is_no_string_is_taken_as_it_is() {
    for json in ["{\"a\": 1.10}", "[1]", "7", "null", "false"] {
        let body = format!("{{\"stream\":\"a\",\"data\":{json}}}");
        assert_eq!(one(&body).data.as_str(), json);
    }
}

#[test]
fn meta_is_read_and_unknown_keys_are_ignored() {
    let publication = one(concat!(
        r#"{"stream":"a","data":"1","other":[],"meta":{"exclude_socket":"s1","transient":true,"#,
        r#""broadcast_type":"presence","traceparent":"00-x","new":{"x":1}}}"#
    ));
    assert_eq!(publication.meta.exclude_socket.as_deref(), Some("s1"));
    assert!(publication.meta.transient);
    assert_eq!(publication.meta.broadcast_type.as_deref(), Some("presence"));
    assert_eq!(publication.meta.traceparent.as_deref(), Some("00-x"));
    let state = r#"{"stream":"a","data":"1","meta":{"tracestate":"a=1"}}"#;
    assert_eq!(one(state).meta.tracestate.as_deref(), Some("a=1"));
    let no_text = r#"{"stream":"a","data":"1","meta":{"tracestate":1}}"#;
    assert_eq!(one(no_text).meta, Meta::default());
    let nulls = r#"{"stream":"a","data":"1","meta":{"exclude_socket":null,"transient":null}}"#;
    assert_eq!(one(nulls).meta, Meta::default());
    assert_eq!(
        one(r#"{"stream":"a","data":"1","meta":null}"#).meta,
        Meta::default()
    );
}

#[test]
fn a_batch_keeps_its_order() {
    let all = publications(r#" [{"stream":"a","data":"1"}, {"stream":"b","data":"2"}] "#);
    let streams: Vec<&str> = all.iter().map(|one| one.stream.as_str()).collect();
    assert_eq!(streams, ["a", "b"]);
}

#[test]
fn one_bad_element_rejects_the_batch_and_is_named() {
    let body = r#"[{"stream":"a","data":"1"},{"stream":"b"}]"#;
    assert_eq!(wrong(body), ("missing", "[1].data".to_owned()));
    assert_eq!(
        wrong(r#"[{"data":"1"}]"#),
        ("missing", "[0].stream".to_owned())
    );
    assert_eq!(wrong("[1]"), ("wrong_type", "[0]".to_owned()));
    assert_eq!(wrong("[]"), ("empty_batch", String::new()));
    let body = r#"[{"stream":"a","data":"1"},{"command":"disconnect","payload":{}}]"#;
    assert_eq!(wrong(body), ("command_in_batch", "[1].command".to_owned()));
    let body = r#"[{"stream":"a","data":"1","meta":{"transient":"yes"}}]"#;
    assert_eq!(wrong(body), ("wrong_type", "[0].meta.transient".to_owned()));
    let body = r#"[{"\ud800":1}]"#;
    assert_eq!(wrong(body), ("encoding", "[0]".to_owned()));
}

#[test]
fn fields_of_a_publication_are_checked() {
    assert_eq!(wrong("{}"), ("missing", "stream".to_owned()));
    assert_eq!(wrong(r#"{"stream":"a"}"#), ("missing", "data".to_owned()));
    assert_eq!(
        wrong(r#"{"stream":"","data":"1"}"#),
        ("bad_name", "stream".to_owned())
    );
    assert_eq!(
        wrong(r#"{"stream":7,"data":"1"}"#),
        ("wrong_type", "stream".to_owned())
    );
    assert_eq!(
        wrong(r#"{"stream":"a","data":"\ud800"}"#),
        ("encoding", "data".to_owned())
    );
    assert_eq!(
        wrong(r#"{"stream":"a","data":"1","meta":[]}"#),
        ("wrong_type", "meta".to_owned())
    );
    assert_eq!(wrong("7"), ("wrong_type", String::new()));
}

#[test]
fn a_disconnect_names_connections() {
    let parse = |body: &str| Inbound::parse(body.as_bytes()).unwrap();
    let expected = |reconnect| {
        Inbound::Disconnect(RemoteDisconnect {
            identifier: r#"{"user_id":42}"#.to_owned(),
            reconnect,
        })
    };
    let body =
        r#"{"command":"disconnect","payload":{"identifier":"{\"user_id\":42}","reconnect":true}}"#;
    assert_eq!(parse(body), expected(true));
    let Inbound::Disconnect(disconnect) = expected(true) else {
        unreachable!()
    };
    assert_eq!(disconnect.to_json(), body.as_bytes());
    let body =
        r#"{"stream":"","command":"disconnect","payload":{"identifier":"{\"user_id\":42}"}}"#;
    assert_eq!(parse(body), expected(false));
}

#[test]
fn commands_are_checked() {
    let at_identifier = |kind| (kind, "payload.identifier".to_owned());
    assert_eq!(
        wrong(r#"{"command":"explode"}"#),
        ("unknown_command", "command".to_owned())
    );
    assert_eq!(
        wrong(r#"{"command":5}"#),
        ("wrong_type", "command".to_owned())
    );
    assert_eq!(
        wrong(r#"{"command":"disconnect"}"#),
        ("missing", "payload".to_owned())
    );
    let with = |payload: &str| format!(r#"{{"command":"disconnect","payload":{payload}}}"#);
    assert_eq!(wrong(&with("{}")), at_identifier("missing"));
    assert_eq!(
        wrong(&with(r#"{"identifier":""}"#)),
        at_identifier("bad_name")
    );
    assert_eq!(
        wrong(&with(r#"{"identifier":{}}"#)),
        at_identifier("wrong_type")
    );
    assert_eq!(
        wrong(&with(r#"{"identifier":"a","reconnect":1}"#)),
        ("wrong_type", "payload.reconnect".to_owned())
    );
}

#[test]
fn syntax_errors_have_a_line_and_a_column() {
    let error = Inbound::parse(b"{\"stream\":\"a\",\n \"data\":oops}").unwrap_err();
    assert_eq!(error.kind(), PublicationErrorKind::Syntax);
    assert_eq!((error.line(), error.column()), (Some(2), Some(9)));
    assert_eq!(
        error.to_string(),
        "the body is not valid JSON: expected value at line 2 column 9"
    );
    for body in ["", " ", "{", "[", "[{]", "hello", "{} {}", "[1] x"] {
        assert_eq!(wrong(body).0, "syntax", "{body}");
    }
}

#[test]
fn text_that_is_not_utf8_is_located() {
    let error = Inbound::parse(b"{\n\"a\xff").unwrap_err();
    assert_eq!(error.kind(), PublicationErrorKind::Encoding);
    assert_eq!((error.line(), error.column()), (Some(2), Some(3)));
}

#[test]
fn errors_never_quote_the_body() {
    for body in [
        r#""hunter2""#,
        r#"{"stream":{"a":"hunter2"},"data":"1"}"#,
        r#"{"stream":"a","data":"1","meta":"hunter2"}"#,
        r#"{"command":"hunter2"}"#,
        r#"["hunter2"]"#,
        r#"{"stream":"a","data":hunter2}"#,
        r#"{"hunter2"}"#,
    ] {
        let error = Inbound::parse(body.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{body}");
    }
}
