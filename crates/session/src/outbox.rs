//! A session's bounded queue of encoded frames, numbered 1, 2, 3…
//!
//! The rule of this file: **a frame leaves the outbox only when somebody said
//! that the client has it.** Until then it is in exactly one of three places:
//! *pending* (never handed out, or handed back), *taken* (in an answer that is
//! not yet completely in the socket) or *flushed* (in the socket, receipt
//! unknown). Who may say "the client has it":
//!
//! * the client itself, with a cursor ([`Outbox::acknowledge`]). From the first
//!   cursor on nothing else counts, and every answer starts right after the
//!   last acknowledged frame;
//! * for clients without a cursor, the connection ([`Outbox::confirm`]), or the
//!   arrival of a later poll ([`Outbox::settle`]).
//!
//! The outbox has at most one taken batch at a time, so that batches can't
//! overtake each other.

use crate::{
    config::{Overflow, PollConfig},
    poll::Frames,
    time::Time,
};
use pollux_protocol::Frame;
use smallvec::SmallVec;
use std::{collections::VecDeque, time::Duration};

/// A poll that arrives sooner than this after a flush says nothing about it:
/// the stock client aborts a poll and sends the next one in the same moment,
/// and the reset of the aborted connection may still be on its way.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Room kept for an idle outbox; a burst's larger buffer is given back.
const IDLE_CAPACITY: usize = 8;

/// Replies to a client's own commands may exceed the bounds by this factor:
/// they are already bounded by the size of the request that caused them.
const REPLY_ALLOWANCE: usize = 8;

/// Frame numbers `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

/// A batch that was handed out.
#[derive(Debug)]
struct Taken {
    ticket: u32,
    spans: SmallVec<[Span; 1]>,
    /// When its last byte reached the socket.
    flushed: Option<Time>,
    /// Whether its answer told the client of a gap.
    gap: bool,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It waits.
    Stored,
    /// It waits, and this many older frames are gone.
    Dropped(usize),
    /// The outbox is full and its policy is to end the session.
    Overflow,
}

/// Frames handed out for one answer.
#[derive(Debug)]
pub struct Batch {
    /// Names this batch in [`Outbox::flushed`] and its kin.
    pub ticket: u32,
    /// The frames, in order.
    pub frames: Frames,
    /// Number of the last frame.
    pub last: u64,
    /// Frames were lost before this batch and the client has not been told.
    pub gap: bool,
    /// How many of the frames were handed out before.
    pub redelivered: usize,
}

/// What another outbox needs to go on where one ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Frames that the client does not have, oldest first, as far as that is
    /// known.
    pub frames: Vec<Frame>,
    /// The number the next frame after them gets.
    pub end: u64,
    /// The last cursor the client sent.
    pub acked: Option<u64>,
    /// Frames were lost and the client has not been told.
    pub gap: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Outbox {
    /// Frames that nobody confirmed, oldest first.
    frames: VecDeque<Frame>,
    /// Number of `frames[0]`.
    first: u64,
    /// Number of the first frame that was never taken.
    next: u64,
    /// Spans that were taken and handed back, ascending, all below `next`.
    returned: SmallVec<[Span; 1]>,
    /// Batches whose fate is open, in the order they were taken.
    taken: SmallVec<[Taken; 1]>,
    /// The last cursor the client sent; `None` until it sends one.
    acked: Option<u64>,
    /// Bytes in `frames`.
    bytes: usize,
    next_ticket: u32,
    /// Of the frames in `frames`, those that are no live publications: replies,
    /// and what was read from history. They have a bound of their own, so that
    /// a long replay does not make the next live frame one too many.
    extra: u32,
    /// Bytes in those.
    extra_bytes: usize,
    /// Frames were dropped since the client was last told so.
    gap: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            first: 1,
            next: 1,
            returned: SmallVec::new(),
            taken: SmallVec::new(),
            acked: None,
            bytes: 0,
            next_ticket: 0,
            extra: 0,
            extra_bytes: 0,
            gap: false,
        }
    }
}

impl Outbox {
    /// Frames are lost that never came here. The next batch says so.
    pub const fn note_gap(&mut self) {
        self.gap = true;
    }

    /// Frames held, whatever their state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes held, whatever the state of their frames.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether [`Outbox::take`] would find something, once it may take.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.next < self.end() || !self.returned.is_empty()
    }

    /// Whether a batch is on its way to a socket; until that is settled no
    /// other can be taken.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.taken.iter().any(|taken| taken.flushed.is_none())
    }

    /// Whether waiting frames fill half of the bounds: time to answer even if
    /// the flush interval is not over.
    #[must_use]
    pub fn half_full(&self, config: &PollConfig) -> bool {
        self.frames.len() >= config.max_frames.div_ceil(2)
            || self.bytes >= config.max_bytes.div_ceil(2)
    }

    /// The number the next pushed frame will get.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.end()
    }

    /// What an answer without frames may claim: the last frame before
    /// everything whose receipt is open.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        let taken = self.taken.iter().flat_map(|taken| taken.spans.iter());
        let open = self.returned.iter().chain(taken).map(|span| span.start);
        open.min().unwrap_or(self.next).min(self.next) - 1
    }

    /// Appends a publication's frame, within the bounds.
    pub fn push(&mut self, frame: Frame, config: &PollConfig) -> Push {
        self.append(frame);
        if !self.over(config, 1) {
            return Push::Stored;
        }
        self.forget_flushed();
        match config.overflow {
            _ if !self.over(config, 1) => Push::Stored,
            Overflow::Expire => Push::Overflow,
            Overflow::DropOldest => Push::Dropped(self.drop_oldest(config)),
        }
    }

    /// Appends what comes in one go and not by somebody's choice of pace: the
    /// reply to a command of the client's own, or what was read from history.
    pub fn push_reply(&mut self, frame: Frame, config: &PollConfig) -> Push {
        self.extra = self.extra.saturating_add(1);
        self.extra_bytes += frame.len();
        self.append(frame);
        if self.over(config, REPLY_ALLOWANCE) {
            self.forget_flushed();
            if self.over(config, REPLY_ALLOWANCE) {
                return Push::Overflow;
            }
        }
        Push::Stored
    }

    /// Hands out everything pending; `None` if there is nothing or a batch is
    /// in flight.
    pub fn take(&mut self) -> Option<Batch> {
        if !self.has_pending() || self.in_flight() {
            return None;
        }
        if self.acked.is_some() {
            // What the client did not acknowledge comes again with what is
            // new, so that the cursor of an answer never covers more than the
            // answers before it and this one brought.
            self.give_back_where(|_| true);
        }
        let mut spans = std::mem::take(&mut self.returned);
        let redelivered = spans.iter().map(|span| span.end - span.start).sum::<u64>();
        if self.next < self.end() {
            match spans.last_mut() {
                Some(span) if span.end == self.next => span.end = self.end(),
                _ => spans.push(Span {
                    start: self.next,
                    end: self.end(),
                }),
            }
        }
        self.next = self.end();
        let frames = spans
            .iter()
            .flat_map(|span| span.start..span.end)
            .filter_map(|number| self.frames.get(self.index(number)).cloned())
            .collect();
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let gap = std::mem::take(&mut self.gap);
        let last = spans.last().map_or(self.next, |span| span.end) - 1;
        self.taken.push(Taken {
            ticket,
            spans,
            flushed: None,
            gap,
        });
        Some(Batch {
            ticket,
            frames,
            last,
            gap,
            redelivered: usize::try_from(redelivered).unwrap_or(usize::MAX),
        })
    }

    /// When the last batch was flushed of which nobody knows whether it
    /// arrived. `None` for clients with a cursor, who put the order right
    /// themselves.
    #[must_use]
    pub fn unsettled_since(&self) -> Option<Time> {
        let flushed = self.taken.iter().filter_map(|taken| taken.flushed);
        flushed.max().filter(|_| self.acked.is_none())
    }

    /// The batch is completely in the socket.
    pub fn flushed(&mut self, ticket: u32, now: Time) {
        if let Some(taken) = self.taken.iter_mut().find(|taken| taken.ticket == ticket) {
            taken.flushed = Some(now);
        }
    }

    /// Whether frame `number` has left the pending and the taken state.
    #[must_use]
    pub fn was_flushed(&self, number: u64) -> bool {
        let holds = |span: &Span| (span.start..span.end).contains(&number);
        let on_its_way = |taken: &Taken| taken.flushed.is_none() && taken.spans.iter().any(holds);
        number < self.next && !self.returned.iter().any(holds) && !self.taken.iter().any(on_its_way)
    }

    /// The batch did not reach the client: its frames are pending again.
    /// Returns how many. A ticket that was settled in the meantime is no error.
    pub fn give_back(&mut self, ticket: u32) -> usize {
        self.give_back_where(|taken| taken.ticket == ticket)
    }

    /// The connection says that the client has the batch. Without effect for
    /// clients that send cursors.
    pub fn confirm(&mut self, ticket: u32) {
        if self.acked.is_none() {
            self.taken.retain(|taken| taken.ticket != ticket);
            self.compact();
        }
    }

    /// A poll without a cursor arrived: what was flushed well before it has
    /// been received.
    pub fn settle(&mut self, now: Time) {
        if self.acked.is_none() && !self.taken.is_empty() {
            self.taken.retain(|taken| {
                taken
                    .flushed
                    .is_none_or(|flushed| now.since(flushed) < SETTLE_AFTER)
            });
            self.compact();
        }
    }

    /// The client has everything up to frame `cursor` and nothing after it.
    /// Frames after it that were flushed are pending again; returns how many.
    /// A cursor beyond the last frame handed out, or before an earlier cursor
    /// (a late request), counts as that bound.
    pub fn acknowledge(&mut self, cursor: u64) -> usize {
        let cursor = cursor.min(self.next - 1).max(self.acked.unwrap_or(0));
        self.acked = Some(cursor);
        let keep = |span: &mut Span| {
            span.start = span.start.max(cursor + 1);
            span.start < span.end
        };
        self.returned.retain(keep);
        self.taken.retain(|taken| {
            taken.spans.retain(keep);
            !taken.spans.is_empty()
        });
        let again = self.give_back_where(|taken| taken.flushed.is_some());
        self.compact();
        again
    }

    /// What another outbox needs to go on; `None` while a batch is on its way
    /// to a socket. Of clients without a cursor it is believed that what is in
    /// a socket arrives.
    #[must_use]
    pub fn remains(&self) -> Option<Remains> {
        if self.in_flight() {
            return None;
        }
        let is_taken = |number| {
            let mut spans = self.taken.iter().flat_map(|taken| taken.spans.iter());
            spans.any(|span| (span.start..span.end).contains(&number))
        };
        let is_open = |number| {
            let holds = |span: &Span| (span.start..span.end).contains(&number);
            number >= self.next || self.returned.iter().any(holds)
        };
        let wanted = |number| is_open(number) || self.acked.is_some() && is_taken(number);
        let numbers = self.first..self.end();
        let frames = numbers.filter(|number| wanted(*number));
        let frames = frames.filter_map(|number| self.frames.get(self.index(number)).cloned());
        Some(Remains {
            frames: frames.collect(),
            end: self.end(),
            acked: self.acked,
            gap: self.gap || self.acked.is_some() && self.taken.iter().any(|taken| taken.gap),
        })
    }

    /// An outbox that goes on where another one ended. All frames are pending,
    /// and a cursor may name any of them: the client may have them after all.
    #[must_use]
    pub fn resume(remains: Remains) -> Self {
        let Remains {
            frames,
            end,
            acked,
            gap,
        } = remains;
        let count = u64::try_from(frames.len()).unwrap_or(u64::MAX);
        // Numbers come from another node; they must not wrap.
        let end = end.clamp(count.saturating_add(1), u64::MAX / 2);
        let first = end - count;
        let bytes = frames.iter().map(Frame::len).sum();
        let span = Span { start: first, end };
        Self {
            first,
            next: end,
            returned: (count > 0).then_some(span).into_iter().collect(),
            acked,
            bytes,
            extra: u32::try_from(count).unwrap_or(u32::MAX),
            extra_bytes: bytes,
            gap,
            frames: frames.into(),
            ..Self::default()
        }
    }

    /// Drops everything; the session is over.
    pub fn clear(&mut self) {
        let next = self.end();
        *self = Self {
            first: next,
            next,
            next_ticket: self.next_ticket,
            ..Self::default()
        };
    }

    fn append(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// A frame that is larger than the bound by itself is not over it while it
    /// is alone: else one large publication would end every session it meets.
    fn over(&self, config: &PollConfig, factor: usize) -> bool {
        let (extra, extra_bytes) = match factor {
            1 => (self.extra, self.extra_bytes),
            _ => (0, 0),
        };
        let extra = usize::try_from(extra).unwrap_or(usize::MAX);
        let frames = self.frames.len().saturating_sub(extra);
        let bytes = self.bytes.saturating_sub(extra_bytes);
        frames > config.max_frames.saturating_mul(factor)
            || (bytes > config.max_bytes.saturating_mul(factor) && self.frames.len() > 1)
    }

    /// Makes room by believing that flushed batches arrived. A client with a
    /// cursor is not asked to believe: its frames stay.
    fn forget_flushed(&mut self) {
        if self.acked.is_none() {
            self.taken.retain(|taken| taken.flushed.is_none());
            self.compact();
        }
    }

    fn drop_oldest(&mut self, config: &PollConfig) -> usize {
        let mut dropped = 0;
        while self.over(config, 1) && self.frames.len() > 1 {
            let number = self.first;
            self.pop_front();
            if number >= self.next {
                self.next = self.first;
                self.gap = true;
                dropped += 1;
            } else if self
                .returned
                .first()
                .is_some_and(|span| span.start == number)
            {
                if let Some(span) = self.returned.first_mut() {
                    span.start += 1;
                }
                self.returned.retain(|span| span.start < span.end);
                self.gap = true;
                dropped += 1;
            }
            // A frame in a taken batch is lost only if the batch comes back.
        }
        dropped
    }

    fn pop_front(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len();
            self.first += 1;
            // Which frames they were is not remembered; it is enough that no
            // more are allowed for than are there.
            let left = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
            self.extra = self.extra.min(left);
            self.extra_bytes = self.extra_bytes.min(self.bytes);
        }
    }

    fn give_back_where(&mut self, mut which: impl FnMut(&Taken) -> bool) -> usize {
        let first = self.first;
        let (returned, gap) = (&mut self.returned, &mut self.gap);
        let mut count = 0;
        self.taken.retain(|taken| {
            if !which(taken) {
                return true;
            }
            *gap |= taken.gap;
            for span in &taken.spans {
                // Frames below `first` were dropped while the batch was out.
                *gap |= span.start < first;
                let span = Span {
                    start: span.start.max(first),
                    end: span.end,
                };
                if span.start < span.end {
                    count += span.end - span.start;
                    let at = returned.partition_point(|other| other.start < span.start);
                    returned.insert(at, span);
                }
            }
            false
        });
        self.returned.dedup_by(|later, earlier| {
            let adjacent = earlier.end == later.start;
            if adjacent {
                earlier.end = later.end;
            }
            adjacent
        });
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Drops the frames that are neither pending nor in a batch.
    fn compact(&mut self) {
        let keep_from = self.cursor() + 1;
        while self.first < keep_from && !self.frames.is_empty() {
            self.pop_front();
        }
        if self.frames.is_empty() && self.frames.capacity() > IDLE_CAPACITY {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
