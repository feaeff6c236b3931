//! JSON with comments, as some clients send it.

use std::borrow::Cow;

/// Where in the text a byte stands.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Tokens,
    Text,
    /// After a backslash within a text.
    Escape,
    Line,
    Block,
}

/// The text with every comment turned into spaces; borrowed if it has none.
pub(super) fn without(text: &str) -> Cow<'_, str> {
    if !text.contains("//") && !text.contains("/*") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = At::Tokens;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let (then, kept) = match (at, letter, next) {
            (At::Tokens, '/', Some('/')) => (At::Line, ' '),
            (At::Tokens, '/', Some('*')) => {
                letters.next();
                (At::Block, ' ')
            }
            (At::Tokens, '"', _) => (At::Text, letter),
            (At::Tokens, ..) => (At::Tokens, letter),
            (At::Text, '"', _) => (At::Tokens, letter),
            (At::Text, '\\', _) => (At::Escape, letter),
            (At::Text | At::Escape, ..) => (At::Text, letter),
            (At::Line, '\n', _) => (At::Tokens, '\n'),
            (At::Line, ..) => (At::Line, ' '),
            (At::Block, '*', Some('/')) => {
                letters.next();
                (At::Tokens, ' ')
            }
            (At::Block, ..) => (At::Block, ' '),
        };
        at = then;
        out.push(kept);
    }
    if at == At::Block {
        // Without an end it is no comment, and the whole no JSON.
        return Cow::Borrowed(text);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_spaces_and_texts_are_left_alone() {
        for (text, expected) in [
            ("{}", "{}"),
            ("{\"a\":\"http://x/*y*/\"}", "{\"a\":\"http://x/*y*/\"}"),
            ("{/*a*/\"b\":1}// c", "{"),
            ("[\"\\\"//\"]", "[\"\\\"//\"]"),
        ] {
            assert!(without(text).starts_with(expected), "{text}");
        }
        let text = "{ // one\n \"a\": /* two\n */ 1 } /**/ //";
        let value: serde_json::Value = serde_json::from_str(&without(text)).unwrap();
        assert_eq!(value, serde_json::json!({"a": 1}));
        assert_eq!(without("{}/* no end"), "{}/* no end");
        assert_eq!(without("/"), "/");
    }
}
