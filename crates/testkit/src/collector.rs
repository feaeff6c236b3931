//! A collector of traces, which speaks OpenTelemetry's protocol (OTLP) over
//! gRPC or over HTTP.

mod serve;

use anyhow::Result;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span as Raw,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, net::Ipv4Addr, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

/// What it was sent.
#[derive(Debug, Default)]
struct Record {
    spans: Vec<Span>,
    /// Headers of each request.
    requests: Vec<http::HeaderMap>,
    /// What was wrong with requests.
    complaints: Vec<String>,
}

/// A collector. Dropping it stops it.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    serving: JoinHandle<()>,
}

/// A span, ids in hexadecimal.
#[derive(Debug, Clone)]
pub struct Span {
    /// What happened.
    pub name: String,
    /// The trace.
    pub trace: String,
    /// The span itself.
    pub id: String,
    /// The span it is part of; empty if it begins the trace.
    pub parent: String,
    /// As the protocol numbers it: 1 internal, 4 producer, 5 consumer.
    pub kind: i32,
    /// Spans it is linked to.
    pub links: Vec<String>,
    /// What tracing systems had added.
    pub state: String,
    /// What is said of it.
    pub attributes: BTreeMap<String, String>,
    /// What is said of its process.
    pub resource: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// As above.
    pub end: u64,
    /// 0 unset, 2 error.
    pub status: i32,
}

impl Collector {
    /// One that speaks gRPC, on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn grpc() -> Result<Self> {
        let (listener, address) = listen().await?;
        let record = Arc::default();
        let serving = tokio::spawn(serve::grpc(listener, Arc::clone(&record)));
        Ok(Self {
            address,
            record,
            serving,
        })
    }

    /// One that speaks HTTP/1.1, on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn http() -> Result<Self> {
        let (listener, address) = listen().await?;
        let record = Arc::default();
        let serving = tokio::spawn(serve::http(listener, Arc::clone(&record)));
        Ok(Self {
            address,
            record,
            serving,
        })
    }

    /// Its endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    ///
    /// # Panics
    /// It was sent something that is none.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let record = self.record.lock();
        assert!(record.complaints.is_empty(), "{:?}", record.complaints);
        record.spans.clone()
    }

    /// Those of a trace.
    ///
    /// # Panics
    /// It was sent something that is no span.
    #[must_use]
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans
    }

    /// A header of each request, where it was there.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<String> {
        let record = self.record.lock();
        let values = record
            .requests
            .iter()
            .filter_map(|headers| headers.get(name));
        values
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

impl Record {
    fn take(&mut self, headers: http::HeaderMap, request: ExportTraceServiceRequest) {
        self.requests.push(headers);
        for group in request.resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            let resource = texts(resource);
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans
                .extend(spans.map(|raw| Span::new(raw, resource.clone())));
        }
    }
}

impl Span {
    fn new(raw: Raw, resource: BTreeMap<String, String>) -> Self {
        Self {
            trace: hex(&raw.trace_id),
            id: hex(&raw.span_id),
            parent: hex(&raw.parent_span_id),
            kind: raw.kind,
            links: raw.links.iter().map(|link| hex(&link.span_id)).collect(),
            state: raw.trace_state,
            attributes: texts(raw.attributes),
            resource,
            start: raw.start_time_unix_nano,
            end: raw.end_time_unix_nano,
            status: raw.status.map_or(0, |status| status.code),
            name: raw.name,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .into_iter()
        .map(|pair| (pair.key, text(pair.value.and_then(|value| value.value))))
        .collect()
}
