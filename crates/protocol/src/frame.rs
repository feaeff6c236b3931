//! What goes to clients: one JSON object a line.

use bytes::Bytes;

/// One encoded JSON object and its newline. A clone shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame(Bytes);

impl Frame {
    /// Makes a frame of one JSON object, given without its newline and with no newline in it.
    ///
    /// The vector becomes the frame; it is not copied if it has room for one more byte, and costs
    /// no second allocation if it then is full.
    pub fn from_json(mut json: Vec<u8>) -> Self {
        debug_assert!(!json.contains(&b'\n'), "a frame is one line");
        json.push(b'\n');
        Self(Bytes::from(json))
    }

    /// The line with its newline, as in a JSONL body.
    pub fn line(&self) -> &Bytes {
        &self.0
    }

    /// The object without the newline, as in a WebSocket message. Shares the frame's bytes.
    pub fn json(&self) -> Bytes {
        self.0.slice(..self.0.len() - 1)
    }

    /// Bytes of the line, the newline included: never 0.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame holds at least a newline"
    )]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_line_without_its_newline() {
        let frame = Frame::from_json(b"{}".to_vec());
        assert_eq!(frame.line().as_ref(), b"{}\n");
        assert_eq!(frame.json().as_ref(), b"{}");
        assert_eq!(frame.json().as_ptr(), frame.line().as_ptr());
        assert_eq!(frame.len(), 3);
    }
}
