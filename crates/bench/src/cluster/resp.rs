//! The protocol of Redis (RESP2): commands out, replies in. No I/O.

/// A reply above this is not one to a publication.
const MAX_REPLY: usize = 64 << 20;

/// What one look at the bytes gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A whole reply and how many bytes it took.
    Whole(Reply<'a>, usize),
    /// More bytes are needed.
    Partial,
    /// This is not RESP2; the text says why.
    Bad(&'static str),
}

/// A reply, as far as a publisher cares.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// Any value.
    Done,
    /// The server's words.
    Error(&'a [u8]),
}

/// Appends one command.
pub(super) fn write_command(words: &[&[u8]], out: &mut Vec<u8>) {
    header(b'*', words.len(), out);
    for word in words {
        header(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Reads the first reply. Errors within arrays are values like any other.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut at = 0;
    let mut values_left = 1_usize;
    let mut reply = Reply::Done;
    while values_left > 0 {
        values_left -= 1;
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(length) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return Parsed::Partial;
        };
        let Some((kind, text)) = rest[..length].split_first() else {
            return Parsed::Bad("a line is empty");
        };
        let is_outermost = at == 0;
        at += length + 2;
        match kind {
            b'+' | b':' => {}
            b'-' if is_outermost => reply = Reply::Error(text),
            b'-' => {}
            b'$' => match size(text) {
                Some(Some(size)) => at += size + 2,
                Some(None) => {}
                None => return Parsed::Bad("a string has no length"),
            },
            b'*' => match size(text) {
                Some(items) => values_left += items.unwrap_or(0),
                None => return Parsed::Bad("an array has no length"),
            },
            _ => return Parsed::Bad("not a reply of Redis"),
        }
    }
    if at > bytes.len() {
        return Parsed::Partial;
    }
    Parsed::Whole(reply, at)
}

/// A length; the inner nothing is the one of values that are null.
fn size(text: &[u8]) -> Option<Option<usize>> {
    if text == b"-1" {
        return Some(None);
    }
    let number: usize = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number <= MAX_REPLY).then_some(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        write_command(&[b"ECHO", b"a\r\nb"], &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn every_kind_of_reply_has_its_length() {
        for reply in [
            "+OK\r\n",
            ":-7\r\n",
            "$5\r\na\r\nbc\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*3\r\n:1\r\n*2\r\n$1\r\na\r\n-ERR inner\r\n+x\r\n",
        ] {
            let two = format!("{reply}+next\r\n");
            assert_eq!(
                parse(two.as_bytes()),
                Parsed::Whole(Reply::Done, reply.len()),
                "{reply:?}"
            );
            for cut in 0..reply.len() {
                assert_eq!(
                    parse(&reply.as_bytes()[..cut]),
                    Parsed::Partial,
                    "{reply:?}"
                );
            }
        }
        assert_eq!(
            parse(b"-ERR no\r\n"),
            Parsed::Whole(Reply::Error(b"ERR no"), 9)
        );
    }

    #[test]
    fn what_is_no_reply_is_said_to_be_none() {
        for bad in [
            "HTTP/1.1 400\r\n",
            "\r\n",
            "$x\r\n",
            "*\r\n",
            "$99999999999\r\n",
        ] {
            assert!(matches!(parse(bad.as_bytes()), Parsed::Bad(_)), "{bad:?}");
        }
    }
}
