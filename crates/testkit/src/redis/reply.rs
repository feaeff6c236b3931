//! What Redis answers, in RESP2.

use std::io;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// There is no such thing.
    Nil,
    /// A number.
    Integer(i64),
    /// A short text such as `OK`.
    Status(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// Several answers.
    Array(Vec<Self>),
    /// A refusal inside of an array; on its own it is an
    /// [`Err`](crate::CommandError::Refused).
    Error(String),
}

impl Reply {
    /// The number, also if it came as text.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// The text, if it is one in UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Status(text) => Some(text),
            Self::Bytes(bytes) => str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The items; none if it is not an array.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// The first answer in these bytes and how many it takes, or `None` if they end too early.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let (kind, line) = bytes
            .get(..end)
            .and_then(|line| line.split_first())
            .ok_or_else(nonsense)?;
        let line = str::from_utf8(line).map_err(|_| nonsense())?;
        let number = || line.parse::<i64>().map_err(|_| nonsense());
        let head = end + 2;
        let reply = match kind {
            b'+' => Self::Status(line.to_owned()),
            b'-' => Self::Error(line.to_owned()),
            b':' => Self::Integer(number()?),
            b'$' => {
                let Ok(length) = usize::try_from(number()?) else {
                    return Ok(Some((Self::Nil, head)));
                };
                let whole = head + length + 2;
                return Ok(bytes
                    .get(head..whole)
                    .and_then(|body| body.get(..length))
                    .map(|body| (Self::Bytes(body.to_vec()), whole)));
            }
            b'*' => return Self::parse_items(bytes, head, number()?),
            _ => return Err(nonsense()),
        };
        Ok(Some((reply, head)))
    }

    fn parse_items(bytes: &[u8], head: usize, count: i64) -> io::Result<Option<(Self, usize)>> {
        let Ok(count) = usize::try_from(count) else {
            return Ok(Some((Self::Nil, head)));
        };
        let mut items = Vec::new();
        let mut at = head;
        for _ in 0..count {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some((item, length)) = Self::parse(rest)? else {
                return Ok(None);
            };
            items.push(item);
            at += length;
        }
        Ok(Some((Self::Array(items), at)))
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "that is not RESP2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_pieces_is_waited_for() {
        let whole = b"*4\r\n$3\r\na\r\n\r\n:-7\r\n$-1\r\n*2\r\n+OK\r\n-ERR no\r\n";
        for length in 0..whole.len() {
            assert!(Reply::parse(&whole[..length]).unwrap().is_none());
        }
        let (reply, length) = Reply::parse(whole).unwrap().unwrap();
        assert_eq!(length, whole.len());
        let inner = Reply::Array(vec![
            Reply::Status("OK".to_owned()),
            Reply::Error("ERR no".to_owned()),
        ]);
        let bytes = Reply::Bytes(b"a\r\n".to_vec());
        let expected = vec![bytes, Reply::Integer(-7), Reply::Nil, inner];
        assert_eq!(reply.items(), expected);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&b"\r\n"[..], b"HTTP/1.1 200 OK\r\n", b":x\r\n", b"$y\r\n"] {
            assert!(Reply::parse(bytes).is_err());
        }
    }
}
