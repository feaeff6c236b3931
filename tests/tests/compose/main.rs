//! docker-compose.yml and all that stands in `deploy/`, checked without a Docker engine: that the
//! files fit each other, the binary and what it measures. `tests/compose-smoke` runs them.

mod files;
mod image;
mod observability;
mod services;
mod supervised;
mod systemd;
