//! What is wrong with what a publisher sent, and where.

use std::borrow::Cow;
use std::fmt;

use crate::json::{NotText, Shape};
use crate::names::NameError;

/// Why a body is not a publication. It says where, and never quotes the body: what backends send
/// must not end up in logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PublicationError {
    kind: PublicationErrorKind,
    message: Cow<'static, str>,
    /// Built from our own field names and from indexes only.
    at: String,
    line_column: Option<(usize, usize)>,
}

/// What kind of mistake a publisher made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublicationErrorKind {
    /// The body, or a string in it, is not Unicode text.
    Encoding,
    /// The body is not JSON.
    Syntax,
    /// A value has the wrong type.
    WrongType,
    /// A field is missing.
    Missing,
    /// A name is empty or too long.
    BadName,
    /// The array of publications is empty.
    EmptyBatch,
    /// The `command` is none we know.
    UnknownCommand,
    /// A command stands in an array of publications.
    CommandInBatch,
}

impl PublicationError {
    /// The kind of mistake.
    pub fn kind(&self) -> PublicationErrorKind {
        self.kind
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The path of the value that is wrong, such as `[1].data` or `payload.identifier`; empty for
    /// the whole body.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// The line of the mistake from 1, known if the body is not JSON or not UTF-8.
    pub fn line(&self) -> Option<usize> {
        self.line_column.map(|(line, _)| line)
    }

    /// The column of the mistake in bytes, known whenever the line is.
    pub fn column(&self) -> Option<usize> {
        self.line_column.map(|(_, column)| column)
    }

    /// Something that was kept as a publication is none.
    pub fn unreadable() -> Self {
        Self::new(
            PublicationErrorKind::Encoding,
            String::new(),
            "an entry of a stream's history is no publication",
        )
    }

    pub(crate) fn new(
        kind: PublicationErrorKind,
        at: String,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            at,
            line_column: None,
        }
    }

    /// The body stops being UTF-8 after `valid_up_to` bytes.
    pub(crate) fn not_utf8(body: &[u8], valid_up_to: usize) -> Self {
        let valid = body.get(..valid_up_to).unwrap_or(body);
        let line = valid.split(|&byte| byte == b'\n').count();
        let line_start = valid.iter().rposition(|&byte| byte == b'\n');
        let column = valid_up_to - line_start.map_or(0, |at| at + 1) + 1;
        Self {
            line_column: Some((line, column)),
            ..Self::new(
                PublicationErrorKind::Encoding,
                String::new(),
                "the body is not valid UTF-8",
            )
        }
    }

    /// The body is not JSON. Call only where `error` cannot be about a type: messages about types
    /// quote the value.
    pub(crate) fn syntax(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let reason = match text.rsplit_once(" at line ") {
            Some((reason, _)) if !error.is_data() => reason,
            _ => "unexpected value",
        };
        Self {
            line_column: Some((error.line(), error.column())),
            ..Self::new(
                PublicationErrorKind::Syntax,
                String::new(),
                format!("the body is not valid JSON: {reason}"),
            )
        }
    }

    pub(crate) fn wrong_type(at: String, expected: &str, found: Shape) -> Self {
        let found = found.noun();
        Self::new(
            PublicationErrorKind::WrongType,
            at,
            format!("expected {expected}, found {found}"),
        )
    }

    pub(crate) fn not_text(at: String, reason: NotText) -> Self {
        match reason {
            NotText::Shape(shape) => Self::wrong_type(at, "a string", shape),
            NotText::Surrogate => Self::new(
                PublicationErrorKind::Encoding,
                at,
                "the string holds half a surrogate pair",
            ),
        }
    }

    /// All that can be wrong with an object that is known to be JSON.
    pub(crate) fn bad_key(at: String) -> Self {
        Self::new(
            PublicationErrorKind::Encoding,
            at,
            "a key of the object holds half a surrogate pair",
        )
    }

    pub(crate) fn missing(at: String) -> Self {
        Self::new(PublicationErrorKind::Missing, at, "the field is missing")
    }

    pub(crate) fn bad_name(at: String, reason: NameError) -> Self {
        Self::new(PublicationErrorKind::BadName, at, reason.to_string())
    }
}

impl fmt::Display for PublicationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.at.is_empty() {
            write!(f, " at `{}`", self.at)?;
        }
        if let Some((line, column)) = self.line_column {
            write!(f, " at line {line} column {column}")?;
        }
        Ok(())
    }
}

impl PublicationErrorKind {
    /// The kind as programs read it, in metric labels and error bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Syntax => "syntax",
            Self::WrongType => "wrong_type",
            Self::Missing => "missing",
            Self::BadName => "bad_name",
            Self::EmptyBatch => "empty_batch",
            Self::UnknownCommand => "unknown_command",
            Self::CommandInBatch => "command_in_batch",
        }
    }
}

impl fmt::Display for PublicationErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
