//! The doors that speak HTTP: one file each.

mod body;
mod broadcast;
mod cable;
mod category;
mod cors;
mod events;
mod lent;
mod listener;
mod ops;
mod poll;
mod problem;
mod router;

pub(crate) use body::{AnswerBody, InFlight};
pub(crate) use broadcast::BroadcastDoor;
pub(crate) use cable::CableDoor;
pub(crate) use category::{BasicUser, Category, CategoryDoor, FOREVER, Heads};
pub(crate) use cors::Origins;
pub(crate) use events::EventDoor;
pub(crate) use poll::PollDoor;
pub(crate) use router::{Doors, broadcast_router, router};
