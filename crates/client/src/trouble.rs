//! What can go wrong, by what there is to do about it.

use std::{io, time::Duration};

/// Why a node did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Nobody is there, or the connection broke. It may work the next time.
    #[error("{0}")]
    Away(String),
    /// The node says to come later.
    #[error("{why}")]
    Busy {
        /// What it said.
        why: String,
        /// When to come back, if it said that.
        after: Option<Duration>,
    },
    /// The session is over; another one can be opened at once.
    #[error("the session is over")]
    Over,
    /// The node does not want this, now or later.
    #[error("{why}")]
    Refused {
        /// The status of its answer, if there was one.
        status: Option<u16>,
        /// What it said.
        why: String,
    },
}

impl Trouble {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused {
            status: None,
            why: why.into(),
        }
    }

    pub(crate) fn away(error: &dyn std::error::Error) -> Self {
        // Libraries say what they did, and the source why it failed.
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            let more = inner.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            source = inner.source();
        }
        Self::Away(text)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        // What rustls does not like now it won't like later.
        let is_tls = error
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>());
        if is_tls {
            Self::refused(format!("TLS failed: {error}"))
        } else {
            Self::away(&error)
        }
    }
}
