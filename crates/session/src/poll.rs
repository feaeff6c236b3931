//! One request that waits for a session's outbox, and the answer it gets.

use crate::{
    session::{AnswerId, Fate, Session},
    time::Time,
};
use pollux_protocol::Frame;
use smallvec::SmallVec;
use std::{
    sync::Arc,
    task::{self, Waker},
    time::Duration,
};

/// A waiting poll. Dropping it is the client going away: the session lets
/// another of its polls have what this one would have got.
#[derive(Debug)]
pub struct Poll {
    session: Arc<Session>,
    /// Names this poll within its session.
    waiter: u32,
    /// Whether it has had its answer.
    answered: bool,
}

impl Poll {
    pub(crate) fn new(session: Arc<Session>, waiter: u32) -> Self {
        Self {
            session,
            waiter,
            answered: false,
        }
    }

    /// The session that is polled.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The answer, if it is time for one; else `waker` is woken when it may be.
    ///
    /// The outbox is looked at and the waker stored under one lock, so no frame
    /// can fall between "empty" and "parked".
    pub fn poll_answer(&mut self, now: Time, waker: &Waker) -> task::Poll<Answer> {
        let answer = self.session.poll_answer(self.waiter, now, waker);
        self.answered = answer.is_ready();
        answer
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if !self.answered {
            self.session.leave(self.waiter);
        }
    }
}

/// The frames of one answer. Shared with every other session that gets them, so
/// whoever writes them copies them where they must lie side by side.
pub type Frames = SmallVec<[Frame; 1]>;

/// What a poll is answered with.
#[derive(Debug)]
pub enum Answer {
    /// Frames, each a line of the answer's body.
    Frames {
        /// The frames, in order.
        frames: Frames,
        /// Number of the last frame, for `Pollux-Cursor`.
        cursor: u64,
        /// Frames before these were lost, for `Pollux-Gap`.
        gap: bool,
        /// Frames among them that were handed out before.
        redelivered: usize,
        /// How long the oldest publication among them waited; `None` if all are
        /// replies.
        waited: Option<Duration>,
        /// To be told what becomes of the answer.
        delivery: Delivery,
    },
    /// Nothing came in time.
    Empty {
        /// For `Pollux-Cursor`.
        cursor: u64,
    },
    /// The session is over and there is nothing more to send.
    Closed {
        /// Frames were lost with it, for `Pollux-Gap`.
        gap: bool,
    },
}

/// The open end of a handed-out batch. Whoever writes the answer says what
/// became of it; a `Delivery` that is dropped before [`Delivery::flushed`]
/// means that the client got nothing, and the frames are pending again.
#[derive(Debug)]
pub struct Delivery {
    session: Arc<Session>,
    ticket: u32,
    open: bool,
    /// The node's [`Watcher`](crate::Watcher) is to be told whether it left.
    watched: bool,
    /// When its last byte reached the socket.
    flushed_at: Time,
}

impl Delivery {
    pub(crate) fn new(session: Arc<Session>, ticket: u32) -> Self {
        Self {
            session,
            ticket,
            open: true,
            watched: false,
            flushed_at: Time::ZERO,
        }
    }

    /// Has the node's [`Watcher`](crate::Watcher) told, once, whether the answer left. Returns
    /// what it will be called there.
    pub fn watch(&mut self) -> AnswerId {
        self.watched = true;
        (self.session.serial(), self.ticket)
    }

    /// The last byte of the answer is in the socket.
    pub fn flushed(&mut self, now: Time) {
        if std::mem::take(&mut self.watched) {
            self.session.tell_watcher(self.ticket, Fate::Flushed);
        }
        self.session.delivery_flushed(self.ticket, now);
        self.open = false;
        self.flushed_at = now;
    }

    /// When [`Delivery::flushed`] was said; [`Time::ZERO`] if it was not.
    #[must_use]
    pub const fn flushed_at(&self) -> Time {
        self.flushed_at
    }

    /// The client certainly has the answer: its next request came on the same
    /// connection, or it closed the connection in good order.
    pub fn confirm(mut self) {
        self.session.delivery_confirmed(self.ticket);
        self.open = false;
    }

    /// The client certainly does not have the answer: the connection broke.
    /// Returns how many frames are pending again.
    pub fn failed(mut self) -> usize {
        self.open = false;
        self.session.delivery_failed(self.ticket)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.watched {
            self.session.tell_watcher(self.ticket, Fate::Lost);
        }
        if self.open {
            self.session.delivery_failed(self.ticket);
        }
    }
}
