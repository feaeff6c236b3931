//! What operators see: logs and metrics.

pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod metrics;
mod throttle;

pub(crate) use metrics::Metrics;
pub(crate) use throttle::Throttle;
