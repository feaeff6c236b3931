//! The cases, by what they are about.

pub(crate) mod connections;
pub(crate) mod content;
pub(crate) mod doors;
pub(crate) mod gaps;
pub(crate) mod guests;
pub(crate) mod history;
pub(crate) mod interest;
pub(crate) mod once;
pub(crate) mod outages;
pub(crate) mod positions;
pub(crate) mod presence;
pub(crate) mod queue;
pub(crate) mod shared;
pub(crate) mod snapshots;
pub(crate) mod terms;
