//! A long poll, without HTTP: what came in, and what goes out.
//!
//! Two steps, because between them a client is only a parked session:
//! [`LongPoll::handle`] does what the request asks for and returns the answer
//! or a [`Parked`] poll; that one is awaited. Whoever reads requests and writes
//! answers (hyper today) stays a thin adapter.

use crate::{
    auth::ConnectRequest,
    route::Route,
    runtime::{Admitted, Claimed, Rejected, Runtime, resume::can_come_back},
    telemetry::traces::Way,
};
use pollux_protocol::{DisconnectReason, Frame, action_cable::reply};
use pollux_session::{Answer, Delivery, Frames, Poll, Session};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Context},
    time::Duration,
};

/// An open waits no longer than this for the replies to its commands.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// A request on the poll route, its body complete.
#[derive(Debug)]
pub(crate) struct PollRequest<'a> {
    /// The poll id, if this is not an open.
    pub(crate) poll_id: Option<&'a str>,
    /// The last frame the client has, if it says so.
    pub(crate) cursor: Option<u64>,
    /// Who asks, for an open; for a poll, what it presents.
    pub(crate) connect: ConnectRequest<'a>,
    /// Commands, one a line.
    pub(crate) body: &'a [u8],
}

/// What a poll is answered with.
#[derive(Debug)]
pub(crate) enum PollAnswer {
    /// Lines for the client.
    Frames {
        /// The lines.
        frames: Frames,
        /// Their length together.
        length: usize,
        /// Number of the last.
        cursor: u64,
        /// Frames were lost before them.
        gap: bool,
        /// The new session's id, if this was an open.
        poll_id: Option<String>,
        /// To be told what becomes of the answer.
        delivery: Delivery,
    },
    /// Nothing came in time.
    Empty {
        /// Number of the last frame the client can rely on.
        cursor: u64,
        /// The new session's id, if this was an open.
        poll_id: Option<String>,
    },
    /// The client may not open a session, or has none.
    Refused {
        /// Why, as a line for the client. `None`: it can come back for what it
        /// had, which it forgets when it is told anything.
        line: Option<Frame>,
        /// Frames were lost with the session.
        gap: bool,
    },
    /// Its session sends too many commands: not before this time is over.
    TooMany(Duration),
    /// Its client has made up too many poll ids: not before this time is over.
    Stranger(Duration),
    /// Not now: too many sessions, or the node is on its way out.
    Busy,
    /// Nobody can say now who may open a session.
    Later,
}

/// Either an answer or a poll that waits for one.
#[derive(Debug)]
pub(crate) enum Handled {
    /// The answer.
    Answer(PollAnswer),
    /// Await this.
    Parked(Parked),
}

/// What a poll says of its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims {
    /// The last frame the client has, if it says so.
    pub(crate) cursor: Option<u64>,
    /// It knows its session's `sid`, and can come back with that.
    pub(crate) can_come_back: bool,
}

/// The poll route's logic.
#[derive(Debug)]
pub(crate) struct LongPoll;

impl LongPoll {
    /// Does what the request asks for.
    pub(crate) async fn handle(runtime: &Arc<Runtime>, request: PollRequest<'_>) -> Handled {
        match request.poll_id {
            // Boxed, so that a poll that waits is not as large as an open.
            None => Box::pin(Self::open(runtime, &request)).await,
            Some(poll_id) => {
                let claims = Claims {
                    cursor: request.cursor,
                    can_come_back: can_come_back(request.connect.query),
                };
                match runtime.session(poll_id) {
                    Some(session) => {
                        let presents = Some(request.connect);
                        Self::poll(runtime, &session, claims, presents, request.body)
                    }
                    None => match Box::pin(runtime.claim(poll_id, &request.connect)).await {
                        Claimed::Here(session) => {
                            let presents = Some(request.connect);
                            Self::poll(runtime, &session, claims, presents, request.body)
                        }
                        Claimed::Nowhere => {
                            Handled::Answer(Self::unknown(runtime, &request.connect, claims))
                        }
                        // What it asks for is not done, and it has to know.
                        Claimed::NobodyKnows if !request.body.is_empty() => {
                            Handled::Answer(PollAnswer::Busy)
                        }
                        Claimed::NobodyKnows => Handled::Answer(PollAnswer::Empty {
                            cursor: claims.cursor.unwrap_or(0),
                            poll_id: None,
                        }),
                    },
                }
            }
        }
    }

    /// A poll with the id of no session: it has ended, or there was none. What
    /// is wrong with an id makes no difference, and guessing has an end.
    fn unknown(runtime: &Runtime, client: &ConnectRequest<'_>, claims: Claims) -> PollAnswer {
        match runtime.note_stranger(runtime.source(client)) {
            Ok(()) => stale(runtime, false, claims.can_come_back),
            Err(wait) => PollAnswer::Stranger(wait),
        }
    }

    async fn open(runtime: &Arc<Runtime>, request: &PollRequest<'_>) -> Handled {
        let Admitted { client, earlier } = match runtime.let_in(request.connect).await {
            Ok(admitted) => admitted,
            Err(Rejected::Dismissed { farewell, .. }) => {
                let line = Some(farewell);
                return Handled::Answer(PollAnswer::Refused { line, gap: false });
            }
            Err(Rejected::Later) => return Handled::Answer(PollAnswer::Later),
        };
        let route = Route::of(&request.connect, &runtime.trusted_proxies);
        let route = route.unwrap_or_else(|ignored| {
            let counter = &runtime.metrics.ignored_routes;
            counter.with_label_values(&[ignored.reason()]).inc();
            None
        });
        let source = runtime.source(&request.connect);
        let Some(opened) = runtime.open(client, source, route) else {
            return Handled::Answer(PollAnswer::Busy);
        };
        let session = opened.session;
        runtime.welcome(&session, earlier).await;
        runtime.overspend(&session, pollux_protocol::lines(request.body).count());
        let now = runtime.clock.now();
        if !runtime.run_commands(&session, runtime.parse_commands(request.body)) {
            return Handled::Answer(PollAnswer::Busy);
        }
        let poll = session.park(now + OPEN_WAIT);
        Handled::Parked(Parked {
            runtime: Arc::clone(runtime),
            poll,
            poll_id: Some(opened.poll_id),
            can_come_back: false,
        })
    }

    /// Does what a poll of a session asks for. Nothing of it ever waits. What
    /// the poll `presents` has to be its client's, if it is anything.
    pub(crate) fn poll(
        runtime: &Arc<Runtime>,
        session: &Arc<Session>,
        claims: Claims,
        presents: Option<ConnectRequest<'_>>,
        body: &[u8],
    ) -> Handled {
        let Claims {
            cursor,
            can_come_back,
        } = claims;
        if let Some(reason) = presents.and_then(|request| runtime.refuses(session, request)) {
            runtime.metrics.failed_auths.inc();
            let line = Some(reply::disconnect(reason, false));
            return Handled::Answer(PollAnswer::Refused { line, gap: false });
        }
        let now = runtime.clock.now();
        match session.arrive(cursor, now) {
            Ok(0) => {}
            Ok(again) => {
                tracing::debug!(frames = again, "A client did not get its last answer");
            }
            Err(reason) => {
                let gap = reason == pollux_session::CloseReason::Overflow;
                return Handled::Answer(stale(runtime, gap, can_come_back));
            }
        }
        if let Err(wait) = runtime.spend(session, body) {
            return Handled::Answer(PollAnswer::TooMany(wait));
        }
        if !runtime.run_commands(session, runtime.parse_commands(body)) {
            return Handled::Answer(PollAnswer::Busy);
        }
        let poll = session.park(now + runtime.shared.config.interval);
        Handled::Parked(Parked {
            runtime: Arc::clone(runtime),
            poll,
            poll_id: None,
            can_come_back,
        })
    }
}

/// A poll that waits. This is what lives in memory for every waiting client,
/// so it holds nothing that its answer does not need.
#[derive(Debug)]
pub(crate) struct Parked {
    runtime: Arc<Runtime>,
    poll: Poll,
    poll_id: Option<String>,
    can_come_back: bool,
}

impl Future for Parked {
    type Output = PollAnswer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<PollAnswer> {
        let now = self.runtime.clock.now();
        let task::Poll::Ready(answer) = self.poll.poll_answer(now, context.waker()) else {
            return task::Poll::Pending;
        };
        let poll_id = self.poll_id.take();
        let metrics = &self.runtime.metrics;
        task::Poll::Ready(match answer {
            Answer::Frames {
                frames,
                cursor,
                gap,
                redelivered,
                waited,
                mut delivery,
            } => {
                let traces = self.runtime.traces.as_ref();
                let span =
                    traces.and_then(|traces| traces.answer(&frames, &mut delivery, Way::LongPoll));
                let length = frames.iter().map(Frame::len).sum();
                metrics.server_messages.inc_by(count(frames.len()));
                metrics.data_sent.inc_by(count(length));
                metrics.frames_per_answer.observe(as_float(frames.len()));
                if let Some(waited) = waited {
                    metrics.publish_to_answer.observe(waited, span);
                }
                if redelivered > 0 {
                    metrics.redelivered.inc_by(count(redelivered));
                }
                PollAnswer::Frames {
                    frames,
                    length,
                    cursor,
                    gap,
                    poll_id,
                    delivery,
                }
            }
            Answer::Empty { cursor } => PollAnswer::Empty { cursor, poll_id },
            Answer::Closed { gap } => stale(&self.runtime, gap, self.can_come_back),
        })
    }
}

/// The answer to a poll whose session is gone.
fn stale(runtime: &Runtime, gap: bool, can_come_back: bool) -> PollAnswer {
    runtime.metrics.stale_polls.inc();
    let restores = can_come_back && runtime.keeps_sessions();
    let line = (!restores).then(|| reply::disconnect(DisconnectReason::SessionExpired, true));
    PollAnswer::Refused { line, gap }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn as_float(frames: usize) -> f64 {
    f64::from(u32::try_from(frames).unwrap_or(u32::MAX))
}
