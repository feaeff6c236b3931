//! The parking lot: ordinary polls served without hyper.
//!
//! A general HTTP server keeps buffers for as long as a connection lives, and a
//! waiting poll is a connection that does nothing for many seconds. Here a
//! request is read into a buffer that all connections of a worker share, done,
//! and forgotten; what waits is a socket and a session. An answer is one write,
//! the next poll one read.
//!
//! The rule of this folder: **when in doubt, hand over.** Only requests of one
//! strict shape are served here ([`head`] says which). A connection that sends
//! anything else goes to hyper for the rest of its life, socket and bytes read
//! so far, and hyper decides. Both give the same answers; a test compares them
//! byte for byte, but for dates and ids.

mod answer;
mod connection;
mod head;
mod scratch;
#[cfg(test)]
mod tests;

pub(super) use connection::{Left, Lot, serve};
