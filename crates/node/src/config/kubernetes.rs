//! The variables that Kubernetes adds to every container.
//!
//! For each Service of the namespace it sets `<SERVICE>_PORT=tcp://…` and a dozen more. A
//! Service called `pollux` or `pollux-redis` therefore collides with our prefix, and a node
//! that took them for its own would refuse to start.

use super::spec::PREFIXES;

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const SCHEMES: [&str; 3] = ["tcp://", "udp://", "sctp://"];

/// Whether this is a variable under one of our prefixes that Kubernetes set.
pub(super) fn injects(name: &str, value: &str) -> bool {
    PREFIXES
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| is_injected(rest, value))
}

fn is_injected(rest: &str, value: &str) -> bool {
    let words: Vec<_> = rest.split('_').collect();
    let service_host = words.ends_with(&["SERVICE", "HOST"]);
    // `SERVICE_PORT`, and `SERVICE_PORT_<NAME>` for a port that has a name.
    let service_port = words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]);
    // `PORT_8080_TCP`, and the same with `_PROTO`, `_PORT` and `_ADDR`.
    let numbered = words.windows(3).any(|triple| {
        matches!(triple, ["PORT", number, protocol]
            if number.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol))
    });
    let address =
        words.ends_with(&["PORT"]) && SCHEMES.iter().any(|scheme| value.starts_with(scheme));
    service_host || service_port || numbered || address
}

#[cfg(test)]
mod tests {
    use super::injects;

    #[test]
    fn variables_of_services_are_recognised() {
        for (name, value) in [
            ("POLLUX_PORT", "tcp://10.0.0.1:8080"),
            ("POLLUX_SERVICE_HOST", "10.0.0.1"),
            ("POLLUX_SERVICE_PORT", "8080"),
            ("POLLUX_SERVICE_PORT_HTTP", "8080"),
            ("POLLUX_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("POLLUX_PORT_8080_TCP_PROTO", "tcp"),
            ("POLLUX_PORT_8080_TCP_PORT", "8080"),
            ("POLLUX_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("POLLUX_REDIS_MASTER_SERVICE_HOST", "10.0.0.2"),
            ("POLLUX_REDIS_MASTER_PORT", "tcp://10.0.0.2:6379"),
            ("POLLUX_REDIS_MASTER_PORT_6379_TCP_ADDR", "10.0.0.2"),
            ("POLLUX_HTTP_BROADCAST_PORT", "tcp://10.0.0.3:8090"),
            ("ANYCABLE_PORT", "tcp://10.0.0.4:8080"),
        ] {
            assert!(injects(name, value), "{name}={value}");
        }
    }

    #[test]
    fn variables_of_operators_are_not() {
        for (name, value) in [
            ("POLLUX_PORT", "8080"),
            ("POLLUX_PORT", "abc"),
            ("POLLUX_HTTP_BROADCAST_PORT", "8090"),
            ("POLLUX_HOST", "0.0.0.0"),
            ("POLLUX_REDIS_URL", "tcp://10.0.0.1:6379"),
            ("PORT", "tcp://10.0.0.1:8080"),
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ] {
            assert!(!injects(name, value), "{name}={value}");
        }
    }
}
