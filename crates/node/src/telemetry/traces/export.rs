//! From spans to a collector.

use super::client::Client;
use crate::config::{Config, OtlpProtocol};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as Otlp, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
    tonic_types::{metadata::MetadataMap, transport::ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::{EnvResourceDetector, ResourceDetector as _},
    trace::{
        BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
    },
};
use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{info, warn};

/// The longest a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where Linux says what the machine or container is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The exporter can't be made.
    #[error("prepare the export of traces: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// No connection to the collector can be verified.
    #[error("prepare connections to the collector: {0}")]
    Tls(#[from] rustls::Error),
    /// There is no name for the node.
    #[error("prepare the export of traces: the system gives no random bytes")]
    Randomness,
    /// A header is not one.
    #[error("prepare the export of traces: otlp_headers is no list such as name=value")]
    Headers,
    /// No connection can be made from here.
    #[error("prepare the export of traces: {0}")]
    System(#[from] io::Error),
}

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those that are neither sent nor lost wait, or found the queue full.
    pub(super) ended: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) lost: AtomicU64,
    /// The last batch was lost, and that has been said.
    failing: AtomicBool,
}

/// What spans are given to. Its queue is bounded, a full one drops; a thread of
/// its own sends batches.
pub(super) fn provider(
    config: &mut Config,
    url: String,
    tally: Arc<Tally>,
) -> Result<SdkTracerProvider, TracesError> {
    let exporter = Watched {
        inner: exporter(config, url)?,
        tally: Arc::clone(&tally),
    };
    let counted = Counted {
        inner: BatchSpanProcessor::builder(exporter).build(),
        tally,
    };
    Ok(SdkTracerProvider::builder()
        // The chance is ours, and is taken before there is a span.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource(config)?)
        .with_span_processor(counted)
        .build())
}

fn exporter(config: &Config, url: String) -> Result<Otlp, TracesError> {
    let headers = config.traces_headers().ok_or(TracesError::Headers)?;
    let is_secure = url.starts_with("https:");
    match config.otlp_protocol {
        OtlpProtocol::Grpc => {
            let mut builder = Otlp::builder()
                .with_tonic()
                .with_endpoint(url)
                .with_timeout(TIMEOUT)
                .with_metadata(MetadataMap::from_headers(headers));
            if is_secure {
                builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
            }
            Ok(builder.build()?)
        }
        OtlpProtocol::Http => {
            let text = headers.iter().filter_map(|(name, value)| {
                Some((name.to_string(), value.to_str().ok()?.to_owned()))
            });
            let builder = Otlp::builder()
                .with_http()
                .with_http_client(Client::new(is_secure, TIMEOUT)?)
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(url)
                .with_timeout(TIMEOUT)
                .with_headers(text.collect());
            Ok(builder.build()?)
        }
    }
}

/// What all spans say of this process. What an operator says in
/// `OTEL_RESOURCE_ATTRIBUTES` goes before what we know, and an option before that.
fn resource(config: &mut Config) -> Result<Resource, TracesError> {
    let node = match &config.node_id {
        Some(node) => node.clone(),
        None => {
            let node = crate::node::random_node_id().map_err(|_| TracesError::Randomness)?;
            config.node_id.insert(node).clone()
        }
    };
    let mut ours = vec![
        KeyValue::new("service.name", "pollux"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node),
    ];
    if let Ok(host) = fs::read_to_string(HOST_NAME) {
        ours.push(KeyValue::new("host.name", host.trim().to_owned()));
    }
    let given = EnvResourceDetector::new().detect();
    let given = given
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let named = config.service_name.clone();
    Ok(Resource::builder()
        .with_attributes(ours)
        .with_attributes(given)
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .build())
}

/// A queue that counts what is given to it.
#[derive(Debug)]
struct Counted {
    inner: BatchSpanProcessor,
    tally: Arc<Tally>,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that says once when it begins to fail, and when it works again.
#[derive(Debug)]
struct Watched {
    inner: Otlp,
    tally: Arc<Tally>,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let sent = self.inner.export(batch).await;
        let Tally {
            sent: in_all,
            lost,
            failing,
            ..
        } = &*self.tally;
        match &sent {
            Ok(()) => {
                in_all.fetch_add(spans, Ordering::Relaxed);
                if failing.swap(false, Ordering::Relaxed) {
                    info!(lost = lost.load(Ordering::Relaxed), "Spans are sent again");
                }
            }
            Err(error) => {
                lost.fetch_add(spans, Ordering::Relaxed);
                if !failing.swap(true, Ordering::Relaxed) {
                    warn!(%error, spans, "Spans are lost: the collector did not take them");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
