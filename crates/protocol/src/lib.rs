//! Pollux wire formats: bytes in, values out.
#![forbid(unsafe_code)]

mod json;

mod names;
mod position;

mod payload;
mod publication;

mod announcement;
mod inbound;
mod publication_error;

mod frame;
mod jsonl;

pub mod action_cable;

pub mod room;

mod identity_token;
mod signed_stream;

pub mod sse;

pub mod category;

pub use action_cable::{
    Channel, Command, CommandError, DisconnectReason, HistoryRequest, IdentifierError,
    PresenceRequest, StreamRef, Transmission, TransmissionError, TransmissionKind,
};
pub use announcement::{Announcement, Source, Stamp};
pub use frame::Frame;
pub use identity_token::{Identity, TokenError, TokenVerifier};
pub use inbound::{Inbound, RemoteDisconnect};
pub use jsonl::lines;
pub use names::{IDENTIFIER_MAX, Identifier, NameError, STREAM_NAME_MAX, StreamName};
pub use payload::Payload;
pub use position::{Epoch, Offset, Position};
pub use publication::{Meta, Publication};
pub use publication_error::{PublicationError, PublicationErrorKind};
pub use room::{RoomError, RoomMessage, SendRequest};
pub use signed_stream::{SignedStreamError, StreamVerifier, derived_key};
