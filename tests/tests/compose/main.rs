//! docker-compose.yml and all that stands in `deploy/`, checked without a Docker engine: that the
//! files fit each other, the binary and what it measures, and that Prometheus takes its part. `tests/compose-smoke` runs them.

mod files;
mod image;
mod observability;
mod prometheus;
mod promtool;
mod services;
mod supervised;
mod systemd;
