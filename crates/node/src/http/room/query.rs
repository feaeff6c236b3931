//! What a poll says in its query.

use crate::rooms::BROADCAST;
use std::time::Duration;

/// Messages a poll gets that does not say.
const DEFAULT_MAX: usize = 50;

/// Longer than any operator allows.
const LONGEST: f64 = 1e6;

/// The parameters; of equal ones the last counts.
#[derive(Debug, PartialEq)]
pub(super) struct PollQuery {
    /// Whose messages.
    pub(super) session: String,
    /// How many at most.
    pub(super) max: usize,
    /// How long it may be held, if it says.
    pub(super) wait: Option<Duration>,
}

impl PollQuery {
    pub(super) fn parse(query: &str) -> Self {
        let mut known = Self {
            session: String::new(),
            max: DEFAULT_MAX,
            wait: None,
        };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "session_id" => known.session = value.into_owned(),
                "max" => known.max = lenient(&value).unwrap_or(DEFAULT_MAX),
                "wait" => known.wait = seconds(&value),
                _ => {}
            }
        }
        if known.session.is_empty() {
            BROADCAST.clone_into(&mut known.session);
        }
        known
    }
}

/// The leading digits, as C reads an unsigned number: blanks and a sign may
/// come first, and less than nothing is very much.
fn lenient(text: &str) -> Option<usize> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut number = None;
    for digit in digits.chars().map_while(|letter| letter.to_digit(10)) {
        let digit = usize::try_from(digit).unwrap_or(0);
        let before: usize = number.unwrap_or(0);
        number = Some(before.saturating_mul(10).saturating_add(digit));
    }
    let number = number?;
    Some(if negative && number > 0 {
        usize::MAX
    } else {
        number
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    seconds
        .is_finite()
        .then(|| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_leniently() {
        for (text, max) in [
            ("5", 5),
            ("5abc", 5),
            (" +7", 7),
            ("0", 0),
            ("-0", 0),
            ("-1", usize::MAX),
            ("99999999999999999999999", usize::MAX),
            ("", 50),
            ("abc", 50),
            ("-", 50),
        ] {
            assert_eq!(lenient(text).unwrap_or(DEFAULT_MAX), max, "{text}");
        }
    }

    #[test]
    fn parameters_have_defaults_and_the_last_wins() {
        let parsed = PollQuery::parse("");
        assert_eq!((&*parsed.session, parsed.max), ("broadcast", 50));
        let parsed = PollQuery::parse("session_id=a&max=1&session_id=b+c%2Fd&max=2&wait=1.5");
        assert_eq!((&*parsed.session, parsed.max), ("b c/d", 2));
        assert_eq!(parsed.wait, Some(Duration::from_millis(1_500)));
        assert_eq!(PollQuery::parse("session_id=").session, "broadcast");
        assert_eq!(PollQuery::parse("wait=-5").wait, Some(Duration::ZERO));
        for nonsense in ["wait=", "wait=x", "wait=NaN", "wait=inf"] {
            assert_eq!(PollQuery::parse(nonsense).wait, None);
        }
        assert!(PollQuery::parse("wait=1e300").wait.is_some());
    }
}
