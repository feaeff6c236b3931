//! The doors that speak HTTP: one file each.

mod accept;
mod accept_encoding;
mod api;
mod body;
mod broadcast;
mod cable;
mod category;
mod cors;
mod events;
mod gzip;
mod lent;
mod listener;
mod mailbox;
mod ops;
mod poll;
mod problem;
mod pull;
mod room;
mod router;
mod visitor;

pub(crate) use accept_encoding::may_compress;
pub(crate) use api::ApiDoor;
pub(crate) use body::{AnswerBody, CROSSING, InFlight};
pub(crate) use broadcast::BroadcastDoor;
pub(crate) use cable::CableDoor;
pub(crate) use category::{BasicUser, Category, CategoryDoor, FOREVER, Heads};
pub(crate) use cors::Origins;
pub(crate) use events::EventDoor;
pub(crate) use mailbox::{MailboxConfig, MailboxDoor};
pub(crate) use poll::{Asker, PollDoor};
pub(crate) use problem::retry_after;
pub(crate) use pull::{FOR_SOCKETS, Loan, Pull};
pub(crate) use room::{RoomDoor, RoomSocketConfig};
pub(crate) use router::{
    Doors, Ops, RoomRoutes, broadcast_router, category_router, router, spare_router,
};
pub(crate) use visitor::Publishers;
