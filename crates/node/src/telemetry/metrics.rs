//! Counters, gauges and histograms, and the page that shows them.
//!
//! Names are AnyCable's where AnyCable has the metric; their meanings are in
//! `docs/operate.md`. Nothing here carries a stream name or an id as a label.

use super::{exemplars::Latency, openmetrics, process};
use crate::route::Ignored;
use pollux_broker::Stats;
use pollux_protocol::CommandError;
use pollux_rpc::Tallies;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, proto::MetricFamily,
};

/// Everything the node counts. Gauges that describe sessions are set when the
/// page is asked for, not when a session changes.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) sessions: IntGauge,
    pub(crate) parked_polls: IntGauge,
    pub(crate) subscriptions: IntGauge,
    pub(crate) present_sessions: IntGauge,
    pub(crate) presence_streams: IntGauge,
    pub(crate) outbox_frames: IntGauge,
    pub(crate) outbox_bytes: IntGauge,
    pub(crate) clients: IntGauge,
    pub(crate) unique_clients: IntGauge,
    pub(crate) long_poll_clients: IntGauge,
    pub(crate) websocket_clients: IntGauge,
    pub(crate) sse_clients: IntGauge,
    pub(crate) streams: IntGauge,
    pub(crate) connections: IntGauge,
    pub(crate) broker_up: IntGauge,
    pub(crate) memory_limit: IntGauge,
    history_streams: IntGauge,
    history_bytes: IntGauge,
    redis_streams: IntGauge,
    redis_messages: IntCounter,
    redis_connections: IntCounter,
    redis_deaf: IntCounter,
    gaps_repaired: IntCounter,
    gaps_unrepaired: IntCounter,
    intake_entries: IntCounter,
    intake_poison: IntCounter,
    intake_leader: IntGauge,
    pub(crate) refused_connections: IntCounter,
    pub(crate) failed_handshakes: IntCounter,
    pub(crate) failed_auths: IntCounter,
    pub(crate) expired_tokens: IntCounter,
    pub(crate) client_messages: IntCounter,
    pub(crate) failed_client_messages: IntCounterVec,
    pub(crate) ignored_client_messages: IntCounter,
    pub(crate) limited_commands: IntCounter,
    pub(crate) limited_publications: IntCounter,
    pub(crate) limited_polls: IntCounter,
    pub(crate) server_messages: IntCounter,
    pub(crate) failed_server_messages: IntCounter,
    pub(crate) timeout_server_messages: IntCounter,
    pub(crate) slow_clients: IntCounter,
    pub(crate) publications: IntCounter,
    pub(crate) broadcasts: IntCounter,
    pub(crate) failed_broadcasts: IntCounter,
    pub(crate) remote_commands: IntCounter,
    pub(crate) data_sent: IntCounter,
    pub(crate) data_received: IntCounter,
    pub(crate) stale_polls: IntCounter,
    pub(crate) oversize_polls: IntCounter,
    pub(crate) redelivered: IntCounter,
    pub(crate) dropped: IntCounter,
    pub(crate) expired_sessions: IntCounter,
    pub(crate) opened_sessions: IntCounter,
    pub(crate) restored_sessions: IntCounter,
    pub(crate) moved_sessions: IntCounter,
    pub(crate) adopted_sessions: IntCounter,
    pub(crate) refused_sessions: IntCounter,
    pub(crate) refused_addresses: IntCounter,
    pub(crate) ignored_routes: IntCounterVec,
    pub(crate) rejected_subscriptions: IntCounter,
    pub(crate) gaps: IntCounter,
    rpc_calls: IntCounter,
    rpc_retries: IntCounter,
    rpc_errors: IntCounter,
    rpc_timeouts: IntCounter,
    rpc_canceled: IntCounter,
    rpc_refused: IntCounter,
    rpc_breaks: IntCounter,
    rpc_pending: IntGauge,
    rpc_hosts: IntGauge,
    rpc_open_hosts: IntGauge,
    pub(crate) disconnects_dropped: IntCounter,
    disconnects_waiting: IntGauge,
    pub(crate) category_polls: IntCounter,
    pub(crate) category_events: IntCounter,
    pub(crate) category_publications: IntCounter,
    pub(crate) category_waiting: IntGauge,
    spans: IntCounter,
    spans_sent: IntCounter,
    spans_lost: IntCounter,
    pub(crate) publish_to_answer: Latency,
    pub(crate) frames_per_answer: Histogram,
}

/// Seconds: from the half millisecond of a quiet node to the time a busy
/// stream's frames wait for their flush, and beyond.
const LATENCY_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

impl Metrics {
    /// All metrics, at zero, under names that start with `prefix`.
    ///
    /// # Errors
    /// The prefix makes names that Prometheus does not take.
    pub(crate) fn new(prefix: &str) -> Result<Self, prometheus::Error> {
        let make = Maker {
            prefix,
            registry: Registry::new(),
        };
        Ok(Self {
            sessions: make.gauge("sessions", "Open sessions")?,
            parked_polls: make.gauge("parked_polls", "Polls that wait for a frame")?,
            subscriptions: make.gauge("subscriptions", "Subscriptions of all sessions")?,
            present_sessions: make.gauge(
                "present_sessions",
                "Sessions of this node that are present in a stream, once for each",
            )?,
            presence_streams: make.gauge(
                "presence_streams",
                "Streams whose presence this node watches",
            )?,
            outbox_frames: make.gauge("outbox_frames", "Frames in outboxes")?,
            outbox_bytes: make.gauge("outbox_bytes", "Bytes in outboxes")?,
            clients: make.gauge("clients_num", "Connected clients")?,
            unique_clients: make.gauge("clients_uniq_num", "Clients with different identifiers")?,
            long_poll_clients: make.gauge("long_poll_clients_num", "Long-polling clients")?,
            websocket_clients: make.gauge("websocket_clients_num", "WebSocket clients")?,
            sse_clients: make.gauge("sse_clients_num", "Clients of event streams")?,
            streams: make.gauge("broadcast_streams_num", "Streams with a subscriber here")?,
            connections: make.gauge("connections", "Open client connections")?,
            broker_up: make.gauge("broker_up", "1 if the broker can be reached")?,
            memory_limit: make.gauge(
                "memory_limit_bytes",
                "Bytes of memory that the service or container may use, or the machine has",
            )?,
            history_streams: make.gauge("history_streams", "Streams the memory broker knows")?,
            history_bytes: make.gauge("history_bytes", "Bytes of history in the memory broker")?,
            redis_streams: make.gauge("redis_streams", "Streams listened to at Redis")?,
            redis_messages: make.counter("redis_messages_total", "Messages from Redis")?,
            redis_connections: make.counter(
                "redis_connections_total",
                "Connections made to listen to Redis",
            )?,
            redis_deaf: make.counter(
                "redis_deaf_connections_total",
                "Connections to Redis whose probe did not come back",
            )?,
            gaps_repaired: make.counter(
                "gaps_repaired_total",
                "Publications that were missed and read from history",
            )?,
            gaps_unrepaired: make.counter(
                "gaps_unrepaired_total",
                "Publications that were missed and are gone, at least",
            )?,
            intake_entries: make.counter(
                "intake_entries_total",
                "Entries of the Redis stream published by this node",
            )?,
            intake_poison: make.counter(
                "intake_poison_total",
                "Entries of the Redis stream that can't be published, set aside",
            )?,
            intake_leader: make.gauge("intake_leader", "1 if this node reads the Redis stream")?,
            refused_connections: make.counter(
                "refused_connections_total",
                "Connections over max_connections",
            )?,
            failed_handshakes: make.counter(
                "tls_handshake_failures_total",
                "Connections that did not come to speak TLS",
            )?,
            failed_auths: make.counter("failed_auths_total", "Refused connection attempts")?,
            expired_tokens: make.counter(
                "expired_tokens_total",
                "Sessions ended because their token expired",
            )?,
            client_messages: make.counter("client_msg_total", "Commands from clients")?,
            failed_client_messages: make.counters(
                "failed_client_msg_total",
                "Commands that were not understood",
                ("kind", &CommandError::KINDS),
            )?,
            ignored_client_messages: make.counter(
                "ignored_client_msg_total",
                "Understood commands that have no effect on their subscription",
            )?,
            limited_commands: make.counter(
                "rate_limited_commands_total",
                "Commands over max_commands_per_second: refused, or the last before a pause",
            )?,
            limited_publications: make.counter(
                "rate_limited_publications_total",
                "Publications by HTTP over max_publishes_per_second, refused",
            )?,
            limited_polls: make.counter(
                "rate_limited_polls_total",
                "Polls with unknown ids over max_unknown_polls_per_minute, refused",
            )?,
            server_messages: make.counter("server_msg_total", "Frames handed to clients")?,
            failed_server_messages: make.counter(
                "failed_server_msg_total",
                "Frames whose answer broke; they are kept",
            )?,
            timeout_server_messages: make.counter(
                "timeout_server_msg_total",
                "Answers given up because they did not move",
            )?,
            slow_clients: make.counter(
                "disconnected_slow_clients_total",
                "Sessions ended because their outbox was full",
            )?,
            publications: make.counter("publications_total", "Publications that entered here")?,
            broadcasts: make.counter("broadcast_msg_total", "Publications fanned out here")?,
            failed_broadcasts: make.counter(
                "failed_broadcast_msg_total",
                "Messages that are no publication",
            )?,
            remote_commands: make.counter("remote_commands_total", "Remote commands")?,
            data_sent: make.counter("data_sent_total", "Bytes of frames handed to clients")?,
            data_received: make.counter("data_rcvd_total", "Bytes of commands from clients")?,
            stale_polls: make.counter(
                "long_poll_stale_requests_total",
                "Polls for sessions that are gone",
            )?,
            oversize_polls: make.counter(
                "oversize_requests_total",
                "Requests over poll_max_request_size",
            )?,
            redelivered: make.counter(
                "redelivered_frames_total",
                "Frames handed out more than once",
            )?,
            dropped: make.counter("dropped_frames_total", "Frames dropped from full outboxes")?,
            expired_sessions: make.counter(
                "expired_sessions_total",
                "Sessions that ended without a poll",
            )?,
            opened_sessions: make.counter("opened_sessions_total", "Sessions opened")?,
            restored_sessions: make.counter(
                "restored_sessions_total",
                "Sessions whose client came back for an earlier one",
            )?,
            moved_sessions: make.counter(
                "moved_sessions_total",
                "Poll sessions given away to go on at another node",
            )?,
            adopted_sessions: make.counter(
                "adopted_sessions_total",
                "Poll sessions of other nodes that go on here",
            )?,
            refused_sessions: make.counter(
                "refused_sessions_total",
                "Sessions not opened: limit or drain",
            )?,
            refused_addresses: make.counter(
                "refused_address_sessions_total",
                "Sessions not opened because their address has as many as it may",
            )?,
            ignored_routes: make.counters(
                "ignored_routes_total",
                "Opens whose X-Pollux-Route was not used",
                ("reason", &Ignored::REASONS),
            )?,
            rejected_subscriptions: make
                .counter("rejected_subscriptions_total", "Subscriptions refused")?,
            gaps: make.counter(
                "gaps_total",
                "Times publications may have passed this node by",
            )?,
            rpc_calls: make.counter("rpc_call_total", "Calls to the backend")?,
            rpc_retries: make.counter("rpc_retries_total", "Calls tried again")?,
            rpc_errors: make.counter("rpc_error_total", "Calls that came to nothing")?,
            rpc_timeouts: make.counter("rpc_timeout_total", "Calls that took too long")?,
            rpc_canceled: make.counter(
                "rpc_canceled_total",
                "Calls given up because their client was gone",
            )?,
            rpc_refused: make.counter(
                "rpc_refused_total",
                "Calls not made because too many wait: rpc_max_waiting",
            )?,
            rpc_breaks: make.counter(
                "rpc_breaker_opened_total",
                "Times a host of the backend was found failing and left alone",
            )?,
            rpc_pending: make.gauge("rpc_pending_num", "Calls that run or wait")?,
            rpc_hosts: make.gauge("rpc_hosts", "Hosts of the backend")?,
            rpc_open_hosts: make.gauge("rpc_open_hosts", "Hosts of the backend left alone now")?,
            disconnects_dropped: make.counter(
                "disconnects_dropped_total",
                "Ended sessions the backend was not told of: disconnect_backlog_size",
            )?,
            disconnects_waiting: make.gauge(
                "disconnect_queue_size",
                "Ended sessions the backend is still to be told of",
            )?,
            category_polls: make.counter("category_polls_total", "Polls of a category")?,
            category_events: make.counter(
                "category_events_total",
                "Events that polls of a category were answered with",
            )?,
            category_publications: make.counter(
                "category_publications_total",
                "Publications to a category through its own door",
            )?,
            category_waiting: make.gauge("category_waiting", "Polls of a category that wait")?,
            spans: make.counter("trace_spans_total", "Spans of traces that ended here")?,
            spans_sent: make.counter("trace_spans_sent_total", "Spans that a collector took")?,
            spans_lost: make.counter(
                "trace_spans_lost_total",
                "Spans that the collector did not take",
            )?,
            publish_to_answer: make.latency(
                "publish_to_answer_seconds",
                "From a publication's arrival here to the answer that carries it",
                &LATENCY_BUCKETS,
            )?,
            frames_per_answer: make.histogram(
                "frames_per_answer",
                "Frames in one poll answer",
                &BATCH_BUCKETS,
            )?,
            registry: make.registry,
        })
    }

    /// Takes over what the broker says of itself.
    pub(crate) fn show_broker(&self, stats: &Stats) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.history_streams.set(gauge(stats.history_streams));
        self.history_bytes.set(gauge(stats.history_bytes));
        self.redis_streams.set(gauge(stats.streams));
        self.intake_leader.set(i64::from(stats.intake_leader));
        for (counter, total) in [
            (&self.redis_messages, stats.messages),
            (&self.redis_connections, stats.connections),
            (&self.redis_deaf, stats.deaf_connections),
            (&self.gaps_repaired, stats.repaired),
            (&self.gaps_unrepaired, stats.unrepaired),
            (&self.intake_entries, stats.intake_entries),
            (&self.intake_poison, stats.intake_poison),
        ] {
            raise(counter, total);
        }
    }

    /// Takes over what is known of calls to the backend.
    pub(crate) fn show_backend(&self, tallies: &Tallies, disconnects: usize) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.rpc_pending.set(gauge(tallies.pending));
        self.rpc_hosts.set(gauge(tallies.hosts));
        self.rpc_open_hosts.set(gauge(tallies.open_hosts));
        self.disconnects_waiting
            .set(i64::try_from(disconnects).unwrap_or(i64::MAX));
        for (counter, total) in [
            (&self.rpc_calls, tallies.calls),
            (&self.rpc_retries, tallies.retries),
            (&self.rpc_errors, tallies.errors),
            (&self.rpc_timeouts, tallies.timeouts),
            (&self.rpc_canceled, tallies.canceled),
            (&self.rpc_refused, tallies.busy),
            (&self.rpc_breaks, tallies.breaker_opened),
        ] {
            raise(counter, total);
        }
    }

    /// Takes over how many spans were sent and how many could not be.
    pub(crate) fn show_traces(&self, [ended, sent, lost]: [u64; 3]) {
        raise(&self.spans, ended);
        raise(&self.spans_sent, sent);
        raise(&self.spans_lost, lost);
    }

    /// The page in Prometheus's text format, with `more` families at its end.
    ///
    /// # Errors
    /// A family has no metric.
    pub(crate) fn page(&self, more: &[MetricFamily]) -> Result<Vec<u8>, prometheus::Error> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.families(more), &mut page)?;
        Ok(page)
    }

    /// The same in OpenMetrics's, which has exemplars.
    pub(crate) fn openmetrics(&self, more: &[MetricFamily]) -> String {
        // Before the families, which then have counted all of these.
        let exemplars = self.publish_to_answer.exemplars();
        let page = openmetrics::Page {
            families: &self.families(more),
            shown: &self.publish_to_answer.name(),
            exemplars: &exemplars,
        };
        page.to_string()
    }

    fn families(&self, more: &[MetricFamily]) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        families.extend(process::families());
        families.extend_from_slice(more);
        families
    }
}

/// Brings a counter to what somebody else has counted. Two pages may be made at
/// a time; the second adds nothing.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Makes and registers.
struct Maker<'a> {
    prefix: &'a str,
    registry: Registry,
}

impl Maker<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(self.name(name), help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(self.name(name), help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, &[&str]),
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(self.name(name), help), &[label])?;
        for value in values {
            // A counter that is not there yet can't be told from a typing error.
            counters.with_label_values(&[*value]);
        }
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(self.name(name), help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn latency(
        &self,
        name: &str,
        help: &str,
        buckets: &'static [f64],
    ) -> Result<Latency, prometheus::Error> {
        let histogram = self.histogram(name, help, buckets)?;
        Ok(Latency::new(histogram, buckets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_everything_once_under_the_prefix() {
        let metrics = Metrics::new("anycable_go_").unwrap();
        let page = String::from_utf8(metrics.page(&[]).unwrap()).unwrap();
        for name in [
            "clients_num",
            "long_poll_clients_num",
            "publish_to_answer_seconds_bucket",
            "failed_client_msg_total",
        ] {
            assert!(
                page.contains(&format!("\nanycable_go_{name}")),
                "{name} is missing"
            );
        }
        assert!(page.contains("process_resident_memory_bytes"));
        assert!(Metrics::new("not a name ").is_err());
    }
}
