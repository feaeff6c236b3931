//! From a bucket of the metrics to a traced answer that it has counted.

use super::{OTHER, PUBLISHER, TRACE, named, post, sampled, spans, traced, with_meta};
use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Cable, Collector, EventStream, Node, PATIENCE, Poller, Request, assert_eventually, frames,
};
use serde_json::json;

/// How Prometheus asks.
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,\
     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn openmetrics(node: &Node) -> Result<String> {
    let request = Request::get("/metrics").header("accept", OPENMETRICS);
    let page = node.ask(&request).await?.text()?.to_owned();
    ensure!(page.ends_with("\n# EOF\n"), "{page}");
    Ok(page)
}

/// The lines of the page that lead to a trace.
async fn exemplars(node: &Node) -> Result<Vec<String>> {
    let page = openmetrics(node).await?;
    let lines = page.lines().filter(|line| line.contains(" # {"));
    Ok(lines.map(str::to_owned).collect())
}

/// The number behind a start, up to a space or quote.
fn number_after(line: &str, start: &str) -> Result<f64> {
    let rest = line.split_once(start).context("no start")?.1;
    let number = rest.split([' ', '"']).next().unwrap_or_default();
    Ok(number.replace("+Inf", "inf").parse()?)
}

#[tokio::test]
async fn an_answer_that_is_traced_is_an_exemplar_of_its_bucket() -> Result<()> {
    let collector = Collector::grpc().await?;
    let node = traced(&collector).spawn_ready().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let observed = async || node.metric("publish_to_answer_seconds_count").await;

    let unsampled = format!("00-{OTHER}-{PUBLISHER}-00");
    for (count, parent) in [(1.0, None), (2.0, Some(unsampled))] {
        let meta = json!({"traceparent": parent});
        post(&node, &with_meta("a", &json!(1), &meta), &[]).await?;
        assert_eq!(poller.messages(1).await?, [json!(1)]);
        assert_eventually!(observed().await? == count, PATIENCE);
        assert_eq!(exemplars(&node).await?, [""; 0]);
    }

    let meta = json!({"traceparent": sampled(TRACE)});
    post(&node, &with_meta("a", &json!(2), &meta), &[]).await?;
    assert_eq!(poller.messages(1).await?, [json!(2)]);
    let expected = [("publish", 1), ("fan out", 1), ("answer", 1)];
    let spans = spans(&collector, TRACE, &expected).await;
    let span = &named(&spans, "answer")[0].id;
    let lines = exemplars(&node).await?;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = &lines[0];
    let labels = format!(" # {{trace_id=\"{TRACE}\",span_id=\"{span}\"}} ");
    assert!(line.starts_with("pollux_publish_to_answer_seconds_bucket{le=\""));
    // Its value is one that its bucket counts, and that of no smaller bucket.
    let (value, bound) = (number_after(line, &labels)?, number_after(line, "{le=\"")?);
    assert!(value > 0.0 && value <= bound, "{line}");
    let page = openmetrics(&node).await?;
    let bounds = page
        .lines()
        .filter(|line| line.starts_with("pollux_publish_to_answer_seconds_bucket"))
        .map(|line| number_after(line, "{le=\""))
        .collect::<Result<Vec<_>>>()?;
    let first = bounds.iter().find(|bound| value <= **bound);
    assert_eq!(first, Some(&bound), "{line}");
    let time: f64 = line.rsplit(' ').next().context("no time")?.parse()?;
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs_f64();
    assert!((now - 60.0..=now + 1.0).contains(&time), "{line}");

    // The classic page has no place for it.
    let classic = node.metrics().await?;
    assert!(!classic.text().contains(TRACE) && !classic.text().contains("# EOF"));
    Ok(())
}

#[tokio::test]
async fn answers_by_every_transport_are_exemplars() -> Result<()> {
    let collector = Collector::grpc().await?;
    let node = traced(&collector).spawn_ready().await?;
    let mut cable = Cable::open(&node).await?;
    cable.subscribe(&frames::public("cable")).await?;
    let mut events = EventStream::open(&node, "/events?stream=events&raw=1").await?;
    assert!(events.next().await?.context("no retry")?.retry.is_some());
    for (stream, trace) in [("cable", TRACE), ("events", OTHER)] {
        let meta = json!({"traceparent": sampled(trace)});
        post(&node, &with_meta(stream, &json!(1), &meta), &[]).await?;
        let shown = async || anyhow::Ok(exemplars(&node).await?.join("\n"));
        assert_eventually!(shown().await?.contains(trace), PATIENCE);
    }
    cable.messages(1).await?;
    Ok(())
}
