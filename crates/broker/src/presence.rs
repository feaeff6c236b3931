//! Who is present in a stream.

use pollux_protocol::{
    Meta, Payload, PresenceRequest, Publication, StreamName,
    action_cable::presence::{self, BROADCAST_TYPE},
};

/// A session's presence in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The session.
    pub session: String,
    /// Who it is.
    pub present: PresenceRequest,
}

/// What became of a member who came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The first session of its id; all subscribers are told.
    First,
    /// The id was present; only what it says of itself may be new.
    Again,
    /// The session is present under another id, and stays so.
    Other,
}

/// How subscribers hear that somebody came.
pub(crate) fn joined(stream: &StreamName, present: &PresenceRequest) -> Publication {
    tell(stream, present.joined())
}

/// How subscribers hear that somebody left.
pub(crate) fn left(stream: &StreamName, id: &str) -> Publication {
    tell(stream, presence::left(id))
}

fn tell(stream: &StreamName, event: Payload) -> Publication {
    Publication {
        stream: stream.clone(),
        data: event,
        meta: Meta {
            transient: true,
            broadcast_type: Some(BROADCAST_TYPE.into()),
            ..Meta::default()
        },
    }
}
