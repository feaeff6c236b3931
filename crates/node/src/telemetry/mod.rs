//! What operators see: logs, metrics and traces.

pub(crate) mod exemplars;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod openmetrics;
mod process;
mod throttle;
pub(crate) mod traces;

pub(crate) use metrics::Metrics;
pub(crate) use throttle::Throttle;
pub(crate) use traces::Traces;
