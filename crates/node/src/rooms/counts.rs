//! What rooms count, under the names that their users' dashboards know.

use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};
use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the node's start, but for `active`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Sockets opened.
    pub(crate) connections: AtomicU64,
    /// Sockets open.
    pub(crate) active: AtomicU64,
    /// Messages received from sockets.
    pub(crate) received: AtomicU64,
    /// Messages sent to sockets.
    pub(crate) sent: AtomicU64,
    /// Sockets that did not end well.
    pub(crate) errors: AtomicU64,
    /// Polling sessions.
    pub(crate) sessions: AtomicU64,
    /// Polls.
    pub(crate) polls: AtomicU64,
    /// Messages kept for polls.
    pub(crate) enqueued: AtomicU64,
    /// Messages that polls took.
    pub(crate) drained: AtomicU64,
}

impl Counts {
    /// For the page of metrics.
    pub(crate) fn families(&self, sessions: usize, buffered: usize) -> Vec<MetricFamily> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let gauge = |number| u64::try_from(number).unwrap_or(u64::MAX);
        let counted = [
            (
                "connections_total",
                "Total WebSocket connections created",
                read(&self.connections),
            ),
            (
                "connections_active",
                "Current active WebSocket connections",
                read(&self.active),
            ),
            (
                "messages_in_total",
                "Total number of WebSocket messages received",
                read(&self.received),
            ),
            (
                "messages_out_total",
                "Total number of WebSocket messages sent",
                read(&self.sent),
            ),
            (
                "errors_total",
                "Total number of WebSocket errors",
                read(&self.errors),
            ),
            (
                "lp_sessions_total",
                "Total long-polling sessions ever created",
                read(&self.sessions),
            ),
            (
                "lp_sessions_active",
                "Current active long-polling sessions",
                gauge(sessions),
            ),
            (
                "lp_polls_total",
                "Total /ws/poll HTTP calls",
                read(&self.polls),
            ),
            (
                "lp_messages_buffered",
                "Current buffered messages for long-polling",
                gauge(buffered),
            ),
            (
                "lp_messages_enqueued_total",
                "Total messages enqueued into long-poll buffers",
                read(&self.enqueued),
            ),
            (
                "lp_messages_drained_total",
                "Total messages drained via /ws/poll",
                read(&self.drained),
            ),
        ];
        counted.map(family).into()
    }

    /// What the message `system.metrics` is answered with.
    pub(crate) fn snapshot(&self) -> String {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{{\"connections_total\":{},\"connections_active\":{},\"messages_in_total\":{},\
             \"messages_out_total\":{},\"errors_total\":{}}}",
            read(&self.connections),
            read(&self.active),
            read(&self.received),
            read(&self.sent),
            read(&self.errors),
        )
    }
}

fn family((name, help, value): (&str, &str, u64)) -> MetricFamily {
    let value = value as f64;
    let (mut family, mut metric) = (MetricFamily::default(), Metric::default());
    if name.ends_with("_total") {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
        family.set_field_type(MetricType::COUNTER);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        family.set_field_type(MetricType::GAUGE);
    }
    family.set_name(format!("vix_ws_{name}"));
    family.set_help(help.to_owned());
    family.set_metric(vec![metric]);
    family
}
