use super::{context::*, *};
use http::HeaderMap;
use pollux_protocol::{Meta, Payload, StreamName};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn traces(ratio: f64) -> Traces {
    let provider = SdkTracerProvider::builder().build();
    Traces(Arc::new(Inner {
        chance: Chance::new(ratio),
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
        let said = match Chance::new(ratio).head(&meta(parent)) {
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
    assert!(matches!(traces.0.chance.head(&unlucky.meta), Head::Obey));
    // Without chance there is nothing to say.
    let mut quiet = publication(None);
    assert!(self::traces(0.0).publish(&mut quiet).is_disabled());
    assert_eq!(quiet.meta, Meta::default());
}

#[test]
fn chance_is_fair() {
    let chance = Chance::new(0.25);
    let begun = |_: &i32| matches!(chance.head(&Meta::default()), Head::Begin);
    let begun = (0..10_000).filter(begun).count();
    assert!((2_200..2_800).contains(&begun), "{begun}");
    assert_eq!((Chance::new(0.0).0, Chance::new(1.0).0), (0, u64::MAX));
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

#[test]
fn calls_are_part_of_a_trace_that_is_there() {
    use tracing_subscriber::layer::SubscriberExt as _;
    assert!(call("connect").is_disabled() && current().is_none());
    let traces = traces(1.0);
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _logs = tracing::subscriber::set_default(subscriber);
    let _program = traces.publish(&mut publication(Some(SAMPLED))).entered();
    let program = current().unwrap();
    let call = call("connect").entered();
    assert!(!call.is_disabled());
    let said = current().unwrap();
    assert_ne!(said, program);
    assert!(
        said.to_str()
            .unwrap()
            .starts_with("00-0af7651916cd43dd8448eb211c80319c-")
    );
}

#[test]
fn a_publication_takes_its_span_along() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let traces = traces(0.0);
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _logs = tracing::subscriber::set_default(subscriber);
    let mut publication = publication(Some(SAMPLED));
    publication.meta.tracestate = Some("a=1".into());
    let span = traces.publish(&mut publication).entered();
    let said = current().unwrap();
    assert_eq!(publication.meta.traceparent.as_deref(), said.to_str().ok());
    assert_eq!(publication.meta.tracestate.as_deref(), Some("a=1"));
    assert_ne!(said, SAMPLED);
    drop(span);
    let fan_out = traces.fan_out(&publication, Instant::now(), false).unwrap();
    assert!(!fan_out.span.is_disabled());
}
