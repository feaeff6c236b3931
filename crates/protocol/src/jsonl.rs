//! JSON lines, as long-poll bodies carry them.

/// The lines of `body`: split on `\n`, one trailing `\r` cut off, blank lines left out. The last
/// newline may be missing, since the stock client never sends it.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &str) -> Vec<&str> {
        lines(body.as_bytes())
            .map(|line| str::from_utf8(line).unwrap())
            .collect()
    }

    #[test]
    fn the_last_newline_is_optional() {
        assert_eq!(split("{\"a\":1}\n{}\n"), ["{\"a\":1}", "{}"]);
        assert_eq!(split("{\"a\":1}\n{}"), ["{\"a\":1}", "{}"]);
    }

    #[test]
    fn carriage_returns_and_blank_lines_vanish() {
        assert_eq!(split("\r\n\n {} \r\n \t\r\n1"), [" {} ", "1"]);
        assert!(split("").is_empty());
        assert!(split("\n\r\n").is_empty());
    }
}
