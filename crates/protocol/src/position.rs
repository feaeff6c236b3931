//! Where a publication stands in its stream.

use std::fmt;
use std::sync::Arc;

/// Names one uninterrupted numbering of a stream. Under a new epoch the old offsets mean nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(Arc<str>);

/// The number of a publication in its epoch: the first is 1 and there are no gaps. 0 stands for
/// "before the first".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

/// Epoch and offset. Positions are not ordered: across epochs there is no before and after.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The numbering `offset` belongs to.
    pub epoch: Epoch,
    /// The number in it.
    pub offset: Offset,
}

impl Epoch {
    /// Takes any text. An empty one never equals an epoch a broker has made.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Epoch {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Offset {
    /// The offset of the first publication of an epoch.
    pub const FIRST: Self = Self(1);

    /// Takes a number as it is.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset that follows. It stays at the greatest number, which only a client can name.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_never_overflows() {
        assert_eq!(Offset::default().next(), Offset::FIRST);
        assert_eq!(Offset::new(u64::MAX).next().get(), u64::MAX);
    }
}
