//! What comes with a client that a backend attends to.

use crate::application::Attended;
use pollux_session::Token;
use std::sync::Arc;

/// What is kept for the backend, and the session's id if the backend knows it
/// already. Nothing for clients without a backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Introduction(Option<(Arc<Attended>, Option<Token>)>);

impl Introduction {
    /// With what is kept, and the id that the backend was told.
    pub(crate) const fn new(attended: Arc<Attended>, sid: Option<Token>) -> Self {
        Self(Some((attended, sid)))
    }

    /// Whether no backend attends to the client yet.
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Both parts of it.
    pub(crate) fn into_parts(self) -> (Option<Arc<Attended>>, Option<Token>) {
        match self.0 {
            Some((attended, sid)) => (Some(attended), sid),
            None => (None, None),
        }
    }
}

/// The same one, or both none.
impl PartialEq for Introduction {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some((one, _)), Some((other, _))) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Introduction {}
