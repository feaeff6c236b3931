//! Names: of streams, and of Action Cable subscriptions.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest stream name in bytes. Names become Redis keys and channels, and sit in every hub.
pub const STREAM_NAME_MAX: usize = 2048;

/// The longest identifier in bytes. One is kept for each distinct subscription.
pub const IDENTIFIER_MAX: usize = 4096;

/// The name of a stream: any UTF-8, never empty, at most [`STREAM_NAME_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// An Action Cable identifier: opaque, compared byte for byte, echoed verbatim, never empty, at
/// most [`IDENTIFIER_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(Arc<str>);

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A name has at least one byte.
    #[error("must not be empty")]
    Empty,
    /// A name is bounded, since it is kept in memory and in keys.
    #[error("must have at most {max} bytes, has {length}")]
    TooLong {
        /// Bytes the text has.
        length: usize,
        /// Bytes it may have.
        max: usize,
    },
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        length if length > max => Err(NameError::TooLong { length, max }),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($type:ident, $max:ident) => {
        impl $type {
            /// Takes `text` as a name if its length allows.
            pub fn try_new(text: &str) -> Result<Self, NameError> {
                check(text, $max)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name!(StreamName, STREAM_NAME_MAX);
name!(Identifier, IDENTIFIER_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn length_is_checked_in_bytes() {
        assert_eq!(StreamName::try_new(""), Err(NameError::Empty));
        assert!(StreamName::try_new(&"x".repeat(STREAM_NAME_MAX)).is_ok());
        assert_eq!(
            StreamName::try_new(&"é".repeat(STREAM_NAME_MAX / 2 + 1)),
            Err(NameError::TooLong {
                length: STREAM_NAME_MAX + 2,
                max: STREAM_NAME_MAX
            })
        );
        assert!(Identifier::try_new(&"x".repeat(IDENTIFIER_MAX)).is_ok());
        assert!(Identifier::try_new(&"x".repeat(IDENTIFIER_MAX + 1)).is_err());
    }

    #[test]
    fn a_set_of_names_is_asked_with_plain_text() {
        let names: HashSet<StreamName> = [StreamName::try_new("chat/42").unwrap()].into();
        assert!(names.contains("chat/42"));
        assert_eq!(format!("{:?}", names), r#"{"chat/42"}"#);
    }
}
