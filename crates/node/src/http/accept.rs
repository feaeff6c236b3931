//! What those who ask for metrics say of formats.

use super::accept_encoding::weight;

/// Whether OpenMetrics is to be answered with, by the values of `Accept`: it is
/// named, in the version that is spoken here, and nothing says that plain text
/// is liked better. Who accepts anything gets what everybody can read.
pub(super) fn prefers_openmetrics<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let (mut open, mut plain, mut text, mut any) = (None, None, None, None);
    for value in values {
        for item in value.split(|byte| *byte == b',') {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().unwrap_or_default();
            let (mut liking, mut version) = (1_000, None);
            for part in parts {
                if is_named(part, b"q=") {
                    liking = weight(part).unwrap_or(0);
                } else if is_named(part, b"version=") {
                    version = part.get(b"version=".len()..);
                }
            }
            let is_version = |ours: &[u8]| version.is_none_or(|theirs| unquoted(theirs) == ours);
            let is = |name: &[u8]| range.eq_ignore_ascii_case(name);
            let slot = if is(b"application/openmetrics-text") && is_version(b"1.0.0") {
                &mut open
            } else if is(b"text/plain") && is_version(b"0.0.4") {
                &mut plain
            } else if is(b"text/*") {
                &mut text
            } else if is(b"*/*") {
                &mut any
            } else {
                continue;
            };
            *slot = Some(slot.unwrap_or(0).max(liking));
        }
    }
    let open = open.unwrap_or(0);
    open > 0 && open >= plain.or(text).or(any).unwrap_or(0)
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    inner
        .and_then(|inner| inner.strip_suffix(b"\""))
        .unwrap_or(value)
}

fn is_named(parameter: &[u8], name: &[u8]) -> bool {
    parameter
        .split_at_checked(name.len())
        .is_some_and(|(start, _)| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(value: &str) -> bool {
        prefers_openmetrics([value.as_bytes()])
    }

    #[test]
    fn those_who_ask_say_what_they_like() {
        for yes in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8",
            // Prometheus 2.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            // Prometheus 3.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text, text/plain",
            "application/openmetrics-text;q=0.5, text/plain;q=0.5",
            "*/*;q=0.1, application/openmetrics-text;q=0.2",
            "application/openmetrics-text;q=0.2, text/plain;q=0, */*",
            "application/openmetrics-text;q=0.001",
            "application/openmetrics-text;q=0.5;version=1.0.0",
        ] {
            assert!(prefers(yes), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "application/*",
            "text/plain",
            // Browsers, and agents that know the classic format only.
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0, */*",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=",
            "application/openmetrics-text;version=\"",
            "application/openmetrics-text;q=0.4, text/plain;q=0.5",
            "application/openmetrics-text;q=0.4, text/*;q=0.5",
            "application/openmetrics-text;q=0.4, */*;q=0.5",
            "application/openmetrics-texts",
            ";;;,,,q=1",
            "\u{ff}",
        ] {
            assert!(!prefers(no), "{no}");
        }
        let lines = [
            b"text/plain;q=0.5".as_slice(),
            b"application/openmetrics-text",
        ];
        assert!(prefers_openmetrics(lines));
        assert!(!prefers_openmetrics([]));
    }
}
