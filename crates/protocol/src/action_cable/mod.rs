//! Action Cable, base and extended: what clients say and what they are told.

mod command;
mod identifier;
mod transmission;

pub mod presence;
pub mod reply;

pub use command::{Command, CommandError, HistoryRequest};
pub use identifier::{Channel, IdentifierError, StreamRef};
pub use presence::PresenceRequest;
pub use reply::DisconnectReason;
pub use transmission::{Transmission, TransmissionError, TransmissionKind};
