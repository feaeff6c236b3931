use super::*;
use http::HeaderMap;
use pollux_protocol::{Payload, StreamName};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn traces(ratio: f64) -> Traces {
    let provider = SdkTracerProvider::builder().build();
    Traces(Arc::new(Inner {
        threshold: threshold(ratio),
        names_streams: false,
        answers: Arc::new(Answers::new(provider.tracer("test"))),
        tally: Arc::default(),
        provider,
    }))
}

fn publication(traceparent: Option<&str>) -> Publication {
    Publication {
        stream: StreamName::try_new("a").unwrap(),
        data: Payload::from_text("1"),
        meta: Meta {
            traceparent: traceparent.map(Into::into),
            ..Meta::default()
        },
    }
}

fn meta(traceparent: Option<&str>) -> Meta {
    publication(traceparent).meta
}

#[test]
fn a_publisher_decides_and_else_chance() {
    for (ratio, parent, expected) in [
        (0.0, Some(SAMPLED), "follow"),
        (1.0, Some(NOT), "obey"),
        (0.0, None, "leave"),
        (1.0, None, "begin"),
        (1.0, Some("nonsense"), "begin"),
        (0.0, Some("00-0-0-01"), "leave"),
    ] {
        let said = match traces(ratio).head(&meta(parent)) {
            Head::Follow(_) => "follow",
            Head::Begin => "begin",
            Head::Leave => "leave",
            Head::Obey => "obey",
        };
        assert_eq!(said, expected, "{ratio} {parent:?}");
    }
}

#[test]
fn a_decision_of_chance_travels() {
    let traces = traces(1e-18);
    let mut unlucky = publication(None);
    assert!(traces.publish(&mut unlucky).is_disabled());
    let said = unlucky.meta.traceparent.clone().unwrap();
    assert!(said.ends_with("-00") && said.len() == NOT.len(), "{said}");
    assert!(matches!(traces.head(&unlucky.meta), Head::Obey));
    // Without chance there is nothing to say.
    let mut quiet = publication(None);
    assert!(self::traces(0.0).publish(&mut quiet).is_disabled());
    assert_eq!(quiet.meta, Meta::default());
}

#[test]
fn chance_is_fair() {
    let traces = traces(0.25);
    let begun = |_: &i32| matches!(traces.head(&Meta::default()), Head::Begin);
    let begun = (0..10_000).filter(begun).count();
    assert!((2_200..2_800).contains(&begun), "{begun}");
    assert_eq!((threshold(0.0), threshold(1.0)), (0, u64::MAX));
}

#[test]
fn headers_are_for_publications_that_say_nothing() {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, SAMPLED.parse().unwrap());
    headers.insert(TRACESTATE, "a=1".parse().unwrap());
    let mut silent = Meta::default();
    adopt(&headers, &mut silent);
    assert_eq!(silent.traceparent.as_deref(), Some(SAMPLED));
    assert_eq!(silent.tracestate.as_deref(), Some("a=1"));
    let mut decided = meta(Some(NOT));
    adopt(&headers, &mut decided);
    assert_eq!(decided, meta(Some(NOT)));
    headers.insert(TRACESTATE, "a".repeat(TRACESTATE_MAX + 1).parse().unwrap());
    let mut long = Meta::default();
    adopt(&headers, &mut long);
    assert_eq!(long.tracestate, None);
}
