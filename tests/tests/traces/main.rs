//! Traces of publications, as a collector gets them.

mod exemplars;

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Cable, Collector, Node, NodeBuilder, PATIENCE, Poller, Redis, Request, Span, assert_eventually,
    frames, free_port,
};
use serde_json::{Value, json};
use std::time::Duration;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PUBLISHER: &str = "b7ad6b7169203331";

const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{PUBLISHER}-01")
}

/// A node that sends what it has at once, and answers at once.
fn traced(collector: &Collector) -> NodeBuilder {
    traced_at(&collector.url())
}

fn traced_at(url: &str) -> NodeBuilder {
    Node::builder()
        .flag("otlp_endpoint", url)
        .flag("traces_sample_ratio", "0")
        .flag("poll_flush_interval", "0")
        .flag("poll_interval", "2")
        .variable("OTEL_BSP_SCHEDULE_DELAY", "50")
}

fn with_meta(stream: &str, data: &Value, meta: &Value) -> String {
    json!({"stream": stream, "data": data.to_string(), "meta": meta}).to_string()
}

async fn post(node: &Node, body: &str, headers: &[(&str, &str)]) -> Result<()> {
    let request = Request::post("/_broadcast").body(body);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    let response = node.ask(&request).await?;
    ensure!(response.status == 201, "{}", response.status);
    Ok(())
}

/// Waits until a trace has as many spans of each name, and returns them.
async fn spans(collector: &Collector, trace: &str, expected: &[(&str, usize)]) -> Vec<Span> {
    let has = |(name, count): &(&str, usize)| named(&collector.trace(trace), name).len() >= *count;
    assert_eventually!(
        expected.iter().all(has),
        PATIENCE,
        "{expected:?} are not among {:#?}",
        collector.spans()
    );
    let spans = collector.trace(trace);
    let total: usize = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(spans.len(), total, "{spans:#?}");
    spans
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn of_node<'a>(spans: &[&'a Span], node: &str) -> Result<&'a Span> {
    let is_its = |span: &&&Span| {
        span.resource
            .get("service.instance.id")
            .is_some_and(|id| id == node)
    };
    let span = spans.iter().find(is_its);
    Ok(*span.with_context(|| format!("no span of {node}: {spans:#?}"))?)
}

#[tokio::test]
async fn one_trace_shows_the_way_over_two_nodes_by_grpc() -> Result<()> {
    let collector = Collector::grpc().await?;
    Box::pin(two_nodes(&collector, "grpc")).await
}

#[tokio::test]
async fn one_trace_shows_the_way_over_two_nodes_by_http() -> Result<()> {
    let collector = Collector::http().await?;
    Box::pin(two_nodes(&collector, "http/protobuf")).await
}

async fn two_nodes(collector: &Collector, protocol: &str) -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = |name: &str| {
        traced(collector)
            .flag("otlp_protocol", protocol)
            .flag("otlp_headers", "x-key=a%2Cb")
            .variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
            .flag("node_id", name)
            .redis(&redis)
            .spawn_ready()
    };
    let (first, second) = (node("first").await?, node("second").await?);
    let mut cable = Cable::open(&first).await?;
    cable.subscribe(&frames::public("a")).await?;
    let poller = Poller::subscribed(&second, &["a"]).await?;
    let mut parked = poller.park().await?;

    let body = frames::publication("a", &json!(1));
    let headers = [("traceparent", &*sampled(TRACE)), ("tracestate", "rojo=1")];
    post(&first, &body, &headers).await?;
    assert_eq!(cable.messages(1).await?, [json!(1)]);
    let response = parked.answer().await?;
    assert_eq!(response.status, 200);

    let expected = [("publish", 1), ("fan out", 2), ("answer", 2)];
    let spans = spans(collector, TRACE, &expected).await;
    let publish = named(&spans, "publish")[0];
    assert_eq!((&*publish.parent, publish.kind), (PUBLISHER, PRODUCER));
    assert_eq!(publish.resource["service.instance.id"], "first");
    for (name, transport) in [("first", "websocket"), ("second", "long_poll")] {
        let fan_out = of_node(&named(&spans, "fan out"), name)?;
        assert_eq!((&fan_out.parent, fan_out.kind), (&publish.id, CONSUMER));
        assert_eq!(fan_out.attributes["pollux.sessions"], "1");
        assert_eq!(fan_out.attributes["pollux.frames"], "1");
        let answer = of_node(&named(&spans, "answer"), name)?;
        assert_eq!(answer.parent, fan_out.id);
        assert_eq!(answer.attributes["pollux.transport"], transport);
        assert!(answer.start <= fan_out.end && answer.start < answer.end);
        assert!(answer.links.is_empty() && answer.status == 0);
    }
    for span in &spans {
        assert_eq!(span.resource["service.name"], "pollux");
        assert!(!span.resource["service.version"].is_empty());
        assert!(!span.resource["host.name"].is_empty());
        assert_eq!(span.resource["deployment.environment"], "test");
        assert_eq!(span.state, "rojo=1", "{}", span.name);
        let names_it = span.attributes.contains_key("messaging.destination.name");
        assert!(!names_it, "a stream's name may be anything: {span:?}");
    }
    assert!(collector.headers("x-key").iter().all(|key| key == "a,b"));
    assert!(!collector.headers("x-key").is_empty());
    // The answer to what it sent is a little later than that.
    let sent = async || first.metric("trace_spans_sent_total").await;
    assert_eventually!(sent().await? >= 3.0, PATIENCE);
    assert!(first.metric("trace_spans_total").await? >= 3.0);
    Ok(())
}

#[tokio::test]
async fn redis_doors_take_a_trace_in_meta() -> Result<()> {
    let collector = Collector::grpc().await?;
    let redis = Redis::spawn().await?;
    let node = || traced(&collector).redis(&redis).spawn_ready();
    let (first, second) = (node().await?, node().await?);
    let mut cables = [Cable::open(&first).await?, Cable::open(&second).await?];
    for cable in &mut cables {
        cable.subscribe(&frames::public("a")).await?;
    }
    let meta = json!({"traceparent": sampled(TRACE)});
    let message = with_meta("a", &json!(1), &meta);
    redis.publish("__anycable__", &message).await?;
    let entry = with_meta("a", &json!(2), &json!({"traceparent": sampled(OTHER)}));
    redis
        .cli(&["XADD", "__anycable__", "*", "payload", &entry])
        .await?;
    for cable in &mut cables {
        let mut got = cable.messages(2).await?;
        got.sort_by_key(Value::to_string);
        assert_eq!(got, [json!(1), json!(2)]);
    }
    for trace in [TRACE, OTHER] {
        let spans = spans(&collector, trace, &[("fan out", 2), ("answer", 2)]).await;
        for fan_out in named(&spans, "fan out") {
            assert_eq!(fan_out.parent, PUBLISHER);
        }
    }
    Ok(())
}

#[tokio::test]
async fn publishers_that_are_not_traced_leave_nothing() -> Result<()> {
    let collector = Collector::grpc().await?;
    // Chance is not asked where somebody has decided.
    let node = traced(&collector)
        .flag("traces_sample_ratio", "1")
        .spawn_ready()
        .await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("a")).await?;
    let unsampled = format!("00-{OTHER}-{PUBLISHER}-00");
    let quiet = with_meta("a", &json!(1), &json!({"traceparent": unsampled}));
    post(&node, &quiet, &[("traceparent", &sampled(TRACE))]).await?;
    let body = frames::publication("a", &json!(2));
    post(&node, &body, &[("traceparent", &unsampled)]).await?;
    post(&node, &body, &[("traceparent", &sampled(TRACE))]).await?;
    cable.messages(3).await?;
    let one = [("publish", 1), ("fan out", 1), ("answer", 1)];
    spans(&collector, TRACE, &one).await;
    assert_eq!(collector.spans().len(), 3);

    // What is no traceparent decides nothing.
    post(&node, &body, &[("traceparent", "yes")]).await?;
    cable.messages(1).await?;
    assert_eventually!(collector.spans().len() == 6, PATIENCE);
    let spans = collector.spans();
    let publish = named(&spans, "publish")[1];
    assert!(publish.parent.is_empty() && publish.trace != TRACE);
    assert!(
        named(&spans, "fan out")
            .iter()
            .any(|span| span.parent == publish.id)
    );
    Ok(())
}

#[tokio::test]
async fn a_trace_has_a_few_answers_however_many_there_are() -> Result<()> {
    const MAX: usize = 10;
    let collector = Collector::grpc().await?;
    let node = traced(&collector)
        .switch("traces_stream_names")
        .flag("service_name", "chat")
        .spawn_ready()
        .await?;
    let mut cables = Vec::new();
    for _ in 0..MAX + 3 {
        let mut cable = Cable::open(&node).await?;
        cable.subscribe(&frames::public("a")).await?;
        cables.push(cable);
    }
    let meta = json!({"traceparent": sampled(TRACE)});
    post(&node, &with_meta("a", &json!(1), &meta), &[]).await?;
    for cable in &mut cables {
        cable.messages(1).await?;
    }
    // Whatever follows is in another trace, and comes later.
    let meta = json!({"traceparent": sampled(OTHER)});
    post(&node, &with_meta("a", &json!(2), &meta), &[]).await?;
    let expected = [("publish", 1), ("fan out", 1), ("answer", MAX)];
    spans(&collector, OTHER, &expected).await;
    let spans = spans(&collector, TRACE, &expected).await;
    let fan_out = named(&spans, "fan out")[0];
    assert_eq!(fan_out.attributes["pollux.sessions"], (MAX + 3).to_string());
    assert_eq!(fan_out.attributes["messaging.destination.name"], "a");
    assert_eq!(fan_out.resource["service.name"], "chat");
    Ok(())
}

#[tokio::test]
async fn an_answer_with_several_publications_is_linked_to_each() -> Result<()> {
    let collector = Collector::grpc().await?;
    let node = traced(&collector).spawn_ready().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for (trace, data) in [(TRACE, 1), (OTHER, 2)] {
        let meta = json!({"traceparent": sampled(trace)});
        post(&node, &with_meta("a", &json!(data), &meta), &[]).await?;
    }
    node.fanned_out(2).await?;
    assert_eq!(poller.messages(2).await?, [json!(1), json!(2)]);
    let first = spans(
        &collector,
        TRACE,
        &[("publish", 1), ("fan out", 1), ("answer", 1)],
    )
    .await;
    let second = spans(&collector, OTHER, &[("publish", 1), ("fan out", 1)]).await;
    let answer = named(&first, "answer")[0];
    assert_eq!(answer.parent, named(&first, "fan out")[0].id);
    assert_eq!(answer.links, [named(&second, "fan out")[0].id.clone()]);
    assert_eq!(answer.attributes["pollux.frames"], "2");
    Ok(())
}

#[tokio::test]
async fn a_node_without_traces_sends_nothing_and_passes_them_on() -> Result<()> {
    let collector = Collector::grpc().await?;
    let redis = Redis::spawn().await?;
    let off = Node::builder().redis(&redis).spawn_ready().await?;
    let on = traced(&collector).redis(&redis).spawn_ready().await?;
    let mut cables = [Cable::open(&off).await?, Cable::open(&on).await?];
    for cable in &mut cables {
        cable.subscribe(&frames::public("a")).await?;
    }
    let meta = json!({"traceparent": sampled(TRACE)});
    post(&off, &with_meta("a", &json!(1), &meta), &[]).await?;
    for cable in &mut cables {
        cable.messages(1).await?;
    }
    let spans = spans(&collector, TRACE, &[("fan out", 1), ("answer", 1)]).await;
    assert_eq!(named(&spans, "fan out")[0].parent, PUBLISHER);
    Ok(())
}

#[tokio::test]
async fn a_dead_collector_harms_nothing() -> Result<()> {
    for protocol in ["grpc", "http/protobuf"] {
        let url = format!("http://127.0.0.1:{}", free_port()?);
        let mut node = traced_at(&url)
            .flag("otlp_protocol", protocol)
            .flag("traces_sample_ratio", "1")
            .spawn_ready()
            .await?;
        let mut poller = Poller::subscribed(&node, &["a"]).await?;
        for number in 0..20 {
            node.publish("a", &json!(number)).await?;
            assert_eq!(poller.messages(1).await?, [json!(number)]);
        }
        assert_eventually!(node.log().contains("Spans are lost"), PATIENCE);
        assert!(node.metric("trace_spans_lost_total").await? > 0.0);
        drop(poller);
        let status = node.terminate(PATIENCE).await?;
        assert!(
            status.success(),
            "{protocol}: {status}\n{}",
            node.log().text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_last_spans_are_sent_when_a_node_stops() -> Result<()> {
    let collector = Collector::http().await?;
    let mut node = traced(&collector)
        .flag("otlp_protocol", "http/protobuf")
        .variable("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let meta = json!({"traceparent": sampled(TRACE)});
    post(&node, &with_meta("a", &json!(1), &meta), &[]).await?;
    assert_eq!(poller.messages(1).await?, [json!(1)]);
    assert!(collector.spans().is_empty());
    drop(poller);
    assert!(node.terminate(PATIENCE).await?.success());
    let expected = [("publish", 1), ("fan out", 1), ("answer", 1)];
    spans(&collector, TRACE, &expected).await;
    Ok(())
}

#[tokio::test]
async fn log_lines_within_a_trace_have_its_ids() -> Result<()> {
    let collector = Collector::grpc().await?;
    let redis = Redis::spawn().await?;
    let node = traced(&collector)
        .redis(&redis)
        .flag("max_publication_size", "100")
        .spawn_ready()
        .await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("a")).await?;
    let meta = json!({"traceparent": sampled(TRACE)});
    let large = with_meta("a", &json!("x".repeat(200)), &meta);
    redis.publish("__anycable__", &large).await?;
    let said = "A publication is over max_publication_size";
    assert_eventually!(node.log().contains(said), PATIENCE);
    let lines = node.log().lines();
    let line = lines.iter().find(|line| line.contains(said));
    let line: Value = serde_json::from_str(line.context("no line")?)?;
    let spans = spans(&collector, TRACE, &[("fan out", 1)]).await;
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], spans[0].id);
    assert!(line["size"].is_u64() && line["level"] == "WARN", "{line}");
    let with_ids = lines.iter().filter(|line| line.contains("trace_id"));
    assert_eq!(with_ids.count(), 1);
    Ok(())
}

#[tokio::test]
async fn chance_is_asked_once_for_all_nodes() -> Result<()> {
    const PUBLICATIONS: usize = 200;
    let collector = Collector::grpc().await?;
    let redis = Redis::spawn().await?;
    let node = || {
        traced(&collector)
            .flag("traces_sample_ratio", "0.5")
            .flag("ws_max_pending_size", "10MiB")
            .redis(&redis)
            .spawn_ready()
    };
    let (mut first, mut second) = (node().await?, node().await?);
    let mut cables = [Cable::open(&first).await?, Cable::open(&second).await?];
    for cable in &mut cables {
        cable.subscribe(&frames::public("a")).await?;
    }
    for number in 0..PUBLICATIONS {
        first.publish("a", &json!(number)).await?;
    }
    for cable in &mut cables {
        cable.messages(PUBLICATIONS).await?;
    }
    drop(cables);
    for node in [&mut first, &mut second] {
        assert!(node.terminate(PATIENCE).await?.success());
    }
    let spans = collector.spans();
    let (publish, fan_out) = (named(&spans, "publish"), named(&spans, "fan out"));
    assert_eq!(fan_out.len(), 2 * publish.len());
    let share = publish.len();
    assert!((50..150).contains(&share), "{share} of {PUBLICATIONS}");
    for span in fan_out {
        assert!(publish.iter().any(|publish| publish.id == span.parent));
    }
    Ok(())
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() -> Result<()> {
    for (flag, said) in [
        ("--otlp_endpoint=collector:4317", "otlp_endpoint"),
        ("--otlp_headers=key", "otlp_headers"),
        ("--otlp_protocol=http/json", "otlp_protocol"),
        ("--traces_sample_ratio=1.5", "traces_sample_ratio"),
    ] {
        let output = pollux_testkit::run(&[flag], &[])?;
        assert_eq!(output.status.code(), Some(64), "{flag}");
        let text = String::from_utf8(output.stderr)?;
        assert!(text.contains(said), "{text}");
    }
    let output = pollux_testkit::run(
        &["--print-config"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_SERVICE_NAME", "chat"),
        ],
    )?;
    let text = String::from_utf8(output.stdout)?;
    for line in [
        "http://c:4318",
        "http/protobuf",
        "\"chat\"",
        "traces_sample_ratio = 0.01",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    Ok(())
}

/// What waits in the collector's queue must not be waited for.
#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_up_the_end() -> Result<()> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", silent.local_addr()?);
    let mut node = traced_at(&url)
        .flag("traces_sample_ratio", "1")
        .flag("shutdown_timeout", "1")
        .spawn_ready()
        .await?;
    node.publish("a", &json!(1)).await?;
    let status = node.terminate(Duration::from_secs(15)).await?;
    assert!(status.success(), "{}", node.log().text());
    Ok(())
}
