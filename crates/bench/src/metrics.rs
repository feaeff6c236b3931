//! Asks a server for its metrics, if it has any.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http::{self, Parsed};
use crate::target::Target;

/// The gauge Pollux exports.
const PARKED_POLLS: &str = "pollux_parked_polls";
const TIMEOUT: Duration = Duration::from_secs(2);
/// A page of metrics above this is something else.
const MAX_PAGE: usize = 8 << 20;
const PIECE: usize = 16 << 10;

/// How many polls the server holds, or nothing if it does not say.
pub(crate) fn parked_polls(target: &Target) -> Option<u64> {
    read(target, PARKED_POLLS)
}

/// The metric's value, or nothing if the server has no such page or no such metric.
pub(crate) fn read(target: &Target, name: &str) -> Option<u64> {
    let page = fetch(target).ok()?;
    match http::parse_at_end(&page) {
        Parsed::Whole(answer, _) if answer.status == 200 => {
            sum(std::str::from_utf8(&answer.body).ok()?, name)
        }
        _ => None,
    }
}

fn fetch(target: &Target) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target.addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.path, target.authority
    )?;
    let mut page = Vec::new();
    let mut piece = [0; PIECE];
    // Not every server closes when asked to, so look for the end in the bytes, too.
    while page.len() < MAX_PAGE && matches!(http::parse(&page), Parsed::Partial) {
        match stream.read(&mut piece)? {
            0 => break,
            count => page.extend_from_slice(&piece[..count]),
        }
    }
    Ok(page)
}

/// The sum over all label sets of a metric in the Prometheus text format.
fn sum(text: &str, name: &str) -> Option<u64> {
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}').map(|(_, value)| value),
            None => rest.strip_prefix(' '),
        };
        let number = value
            .and_then(|value| value.split_whitespace().next())
            .and_then(|value| value.parse::<f64>().ok());
        if let Some(number) = number.filter(|number| number.is_finite() && *number >= 0.0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, checked to be finite and not negative"
            )]
            let whole = number as u64;
            sum = Some(sum.unwrap_or(0) + whole);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_gauge_over_its_labels() {
        let page = "# TYPE pollux_parked_polls gauge\npollux_parked_polls_total 9\npollux_parked_polls{door=\"lp\"} 10\npollux_parked_polls{door=\"room}\"} 2e0\n";
        assert_eq!(sum(page, PARKED_POLLS), Some(12));
        assert_eq!(
            sum("pollux_parked_polls 7 1700000000\n", PARKED_POLLS),
            Some(7)
        );
        assert_eq!(sum("pollux_parked_polls NaN\n", PARKED_POLLS), None);
        assert_eq!(sum("nothing here", PARKED_POLLS), None);
    }
}
