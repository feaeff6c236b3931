//! What a client says of encodings.

/// Whether a poll with this cursor and these `Accept-Encoding` may be answered
/// compressed. Without a cursor it is the connection that tells what arrived,
/// and what is still being decompressed has arrived: it would be lost if the
/// client aborts just then, and later answers would overtake it.
pub(crate) fn may_compress<'a>(
    cursor: Option<u64>,
    encodings: impl IntoIterator<Item = &'a [u8]>,
) -> bool {
    cursor.is_some() && accepts_gzip(encodings)
}

/// Whether gzip is welcome, by the values of `Accept-Encoding`: it is named, or
/// `*` is, and nothing says that the plain answer is liked better.
pub(crate) fn accepts_gzip<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for value in values {
        for item in value.split(|byte| *byte == b',') {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let weight = parts.next().map_or(Some(1_000), weight).unwrap_or(0);
            if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
                gzip = Some(weight);
            } else if coding.eq_ignore_ascii_case(b"identity") {
                identity = Some(weight);
            } else if coding == b"*" {
                any = Some(weight);
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.or(any).unwrap_or(0)
}

/// A weight in thousandths; `None` if it is none.
pub(super) fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1_000,
        _ => return None,
    };
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * worth;
    }
    (thousandths <= 1_000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str) -> bool {
        accepts_gzip([value.as_bytes()])
    }

    #[test]
    fn clients_say_whether_they_like_it() {
        for yes in [
            "gzip",
            "GZIP",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, gzip;q=0.8, *;q=0.1",
            "*",
            "gzip;q=0.001",
            "deflate,gzip ; Q=1.000",
            "identity;q=0.5, gzip;q=0.5",
            "identity;q=0, *;q=0.5",
        ] {
            assert!(accepts(yes), "{yes}");
        }
        for no in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=0",
            "gzip;q=0, *",
            "gzip;q=0.5, identity",
            "gzip;q=0.5, *;q=1",
            "gzip;q=2",
            "gzip;q=",
            "gzip;q",
            "gzip;q=0.1234",
            "gzip;q=1.5",
            "gzipped",
            "\u{ff}",
        ] {
            assert!(!accepts(no), "{no}");
        }
        assert!(accepts_gzip([b"br".as_slice(), b"gzip".as_slice()]));
        assert!(!accepts_gzip([]));
    }
}
