//! Text to values and back, by kind.
//!
//! Whatever the layer, a value is brought into one shape before figment sees it: durations
//! are whole milliseconds, sizes and numbers are `u64`, lists are arrays of text. figment's
//! own reading of variables guesses types, which turns a channel named `12345` into a number.

use figment::value::Value;

use super::spec::Kind;

/// No count or size may be larger: beyond it sums could overflow, and nothing that large is
/// meant.
const NUMBER_MAX: u64 = 1_000_000_000_000;

/// No duration may be longer: a deadline that far away could not be represented everywhere.
const DURATION_MAX_MS: u64 = 365 * 24 * 60 * 60 * 1000;

const SECOND_MS: u64 = 1000;

/// The value that a text stands for, or `None` if it is not one of the kind.
pub(super) fn parse(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        // A replacement character is what is left of bytes that were not UTF-8.
        _ if text.contains(char::REPLACEMENT_CHARACTER) => None,
        Kind::Text | Kind::Secret | Kind::Url => Some(Value::from(text)),
        Kind::Bool => boolean(text.trim()).map(Value::from),
        Kind::Number => whole(text.trim(), NUMBER_MAX).map(Value::from),
        Kind::Ratio => ratio(text.trim()).map(Value::from),
        Kind::Port => whole(text.trim(), u16::MAX.into()).map(Value::from),
        Kind::Bytes => bytes(text.trim()).map(Value::from),
        Kind::Seconds => millis(text.trim(), SECOND_MS).map(Value::from),
        Kind::Millis => millis(text.trim(), 1).map(Value::from),
        Kind::Choice(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(text.trim()))
            .map(|&word| Value::from(word)),
        Kind::List => Some(list(text)),
    }
}

/// The value that a TOML value stands for, or `None` if it is not one of the kind.
pub(super) fn normalise(kind: Kind, value: &Value) -> Option<Value> {
    match (kind, value) {
        (_, Value::String(_, text)) => parse(kind, text),
        (Kind::Bool, Value::Bool(_, flag)) => Some(Value::from(*flag)),
        (
            Kind::Number | Kind::Ratio | Kind::Port | Kind::Bytes | Kind::Seconds | Kind::Millis,
            _,
        ) => parse(kind, &number_text(value)?),
        (Kind::List, Value::Array(_, items)) => {
            let items: Option<Vec<_>> = items
                .iter()
                .map(|item| item.as_str().map(|text| Value::from(text.trim())))
                .collect();
            items.map(Value::from)
        }
        _ => None,
    }
}

/// A value of the normal shape as a TOML literal.
pub(super) fn toml(kind: Kind, value: &Value) -> String {
    match value {
        Value::String(_, text) => quote(text),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, num) if kind == Kind::Ratio => num.to_f64().unwrap_or_default().to_string(),
        Value::Num(_, num) => {
            let number = num.to_u128().unwrap_or_default();
            match kind {
                Kind::Seconds | Kind::Millis if number % u128::from(SECOND_MS) == 0 => {
                    quote(&format!("{}s", number / u128::from(SECOND_MS)))
                }
                Kind::Seconds | Kind::Millis => quote(&format!("{number}ms")),
                _ => number.to_string(),
            }
        }
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(|item| toml(kind, item)).collect();
            format!("[{}]", items.join(", "))
        }
        // No value of the normal shape is any other.
        _ => quote(""),
    }
}

/// A text as a TOML string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            _ if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// A URL without what may be a password: user, password and query. It does not split lists,
/// because a password may hold a comma, and shows nothing where it is unsure.
pub(super) fn mask(url: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((_, query)) if query.contains('@') => return "***".to_owned(),
        Some((base, _)) => (base, "?***"),
        None => (url, ""),
    };
    let Some((user, host)) = base.rsplit_once('@') else {
        return format!("{base}{query}");
    };
    match user.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            format!("{scheme}://***@{host}{query}")
        }
        _ => format!("***@{host}{query}"),
    }
}

fn boolean(text: &str) -> Option<bool> {
    const YES: [&str; 5] = ["true", "t", "1", "yes", "on"];
    const NO: [&str; 5] = ["false", "f", "0", "no", "off"];
    if YES.iter().any(|yes| yes.eq_ignore_ascii_case(text)) {
        Some(true)
    } else if NO.iter().any(|no| no.eq_ignore_ascii_case(text)) {
        Some(false)
    } else {
        None
    }
}

fn whole(text: &str, max: u64) -> Option<u64> {
    // `parse` takes a leading plus, which is more likely a slip than a number.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten()?;
    (number <= max).then_some(number)
}

fn ratio(text: &str) -> Option<f64> {
    // Neither a sign nor an exponent, nor `inf` and `nan`.
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let ratio = is_plain.then(|| text.parse::<f64>().ok()).flatten()?;
    (ratio <= 1.0).then_some(ratio)
}

fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    let bytes = whole(number.trim_end(), NUMBER_MAX)?.checked_mul(unit)?;
    (bytes <= NUMBER_MAX).then_some(bytes)
}

fn millis(text: &str, bare_unit: u64) -> Option<u64> {
    let (number, unit) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, SECOND_MS)
    } else {
        (text, bare_unit)
    };
    let number = number.trim_end();
    // Neither a sign nor an exponent, nor `inf` and `nan`, which `f64` would take.
    if !number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    let exact = number.parse::<f64>().ok()? * unit as f64;
    let millis = exact.round();
    // A duration that rounds to zero would mean what zero means.
    if millis > DURATION_MAX_MS as f64 || (millis == 0.0 && exact > 0.0) {
        return None;
    }
    Some(millis as u64)
}

fn list(text: &str) -> Value {
    let items: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(Value::from)
        .collect();
    Value::from(items)
}

fn number_text(value: &Value) -> Option<String> {
    match value {
        Value::Num(_, num) => Some(match (num.to_f64(), num.to_i128(), num.to_u128()) {
            (Some(float), ..) => float.to_string(),
            (_, Some(signed), _) => signed.to_string(),
            (.., Some(unsigned)) => unsigned.to_string(),
            _ => return None,
        }),
        _ => None,
    }
}

/// A value as it stood in the file, for a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => quote(text),
        Value::Char(_, char) => quote(&char.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(..) => number_text(value).unwrap_or_else(|| "a number".to_owned()),
        Value::Empty(..) => "nothing".to_owned(),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(..) => "a list".to_owned(),
    }
}
