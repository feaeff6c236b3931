//! One connection in the lot.

use super::{
    answer::{self, Rest},
    head::{self, Parsed, PollHead},
    scratch,
};
use crate::{
    auth::ConnectRequest,
    http::{Asker, CROSSING, PollDoor},
    longpoll::{Claims, Handled, LongPoll, Parked, PollAnswer, PollRequest},
    runtime::resume::can_come_back,
    telemetry::Metrics,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use pollux_session::Delivery;
use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

/// Room beside the body that a request put together from pieces may take.
const HEAD_ALLOWANCE: usize = 16 * 1024;

/// What the connections of a listener share.
#[derive(Debug)]
pub(crate) struct Lot<'a> {
    pub(crate) path: &'a str,
    pub(crate) door: &'a PollDoor,
    pub(crate) metrics: &'a Metrics,
    /// For a request to arrive, and for an idle connection.
    pub(crate) read_timeout: Duration,
    /// For an answer to move.
    pub(crate) write_timeout: Duration,
    /// Ends connections that wait for a request.
    pub(crate) stop: &'a CancellationToken,
}

/// How a connection left the lot.
#[derive(Debug)]
pub(crate) enum Left {
    /// It is over.
    Closed,
    /// Hyper is to go on with it, starting with these bytes.
    HandOver(Bytes),
}

/// What a read brought.
enum Step {
    /// A poll was done; it has an answer or waits for one.
    Polled(Handled, Asker),
    /// An open, which may have to ask somebody; or a poll that is refused or has
    /// no session.
    Open(Box<Open>),
    /// A page asks whether it may poll.
    Preflight(Option<HeaderValue>),
    Left(Left),
    /// The peer is gone without leave.
    Broken,
}

/// A request that opens a session, out of the shared buffer.
struct Open {
    /// Of no session, if there is one.
    poll_id: Option<String>,
    headers: HeaderMap,
    query: String,
    cursor: Option<u64>,
    asker: Asker,
    body: Vec<u8>,
}

/// Serves polls until the connection ends or sends something else.
pub(crate) async fn serve(stream: &mut TcpStream, lot: Lot<'_>) -> Left {
    // The last answer's delivery, until its connection says how it went.
    let mut last: Option<Delivery> = None;
    // The beginning of a request that came in pieces.
    let mut pieces = Vec::new();
    let mut timer = pin!(sleep(lot.read_timeout));
    let mut stop = pin!(lot.stop.cancelled());
    loop {
        let until = Instant::now() + lot.read_timeout;
        let step = poll_fn(|context| {
            if let Poll::Ready(step) = read(stream, &mut pieces, &mut last, &lot, context) {
                return Poll::Ready(step);
            }
            let over = idle_over(timer.as_mut(), until, context).is_ready();
            if over || stop.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Left(Left::Closed));
            }
            Poll::Pending
        });
        let answered = match step.await {
            Step::Polled(Handled::Answer(answer), asker) => {
                respond(stream, &lot, answer, asker).await
            }
            Step::Polled(Handled::Parked(parked), asker) => {
                let Some(answer) = (Waiting {
                    stream,
                    parked,
                    watch: true,
                })
                .await
                else {
                    return Left::Closed;
                };
                respond(stream, &lot, answer, asker).await
            }
            Step::Open(open) => Box::pin(serve_open(stream, &lot, *open)).await,
            Step::Preflight(origin) => {
                let response = lot.door.preflight(origin.as_ref());
                finish(stream, &lot, answer::write_response(stream, response)).await
            }
            Step::Left(Left::Closed) => {
                if let Some(delivery) = last {
                    Box::pin(part(stream, &lot, delivery)).await;
                }
                return Left::Closed;
            }
            Step::Left(left) => return left,
            Step::Broken => {
                give_back(&lot, last);
                return Left::Closed;
            }
        };
        match answered {
            Ok(ControlFlow::Continue(delivery)) => last = delivery,
            // Nothing of it may have arrived, or all; it is pending again.
            Ok(ControlFlow::Break(())) | Err(_) => return Left::Closed,
        }
    }
}

/// Looks for a request, and does it while it is in the shared buffer.
fn read(
    stream: &mut TcpStream,
    pieces: &mut Vec<u8>,
    last: &mut Option<Delivery>,
    lot: &Lot<'_>,
    context: &mut Context<'_>,
) -> Poll<Step> {
    scratch::with_read_buffer(|buffer| {
        loop {
            let mut into = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut into)) {
                Ok(()) if into.filled().is_empty() => {
                    return Poll::Ready(Step::Left(Left::Closed));
                }
                Ok(()) => {}
                Err(_) => return Poll::Ready(Step::Broken),
            }
            // Its client has read the answer before.
            if let Some(delivery) = last.take() {
                delivery.confirm();
            }
            let max_body = lot.door.max_request_size();
            let token = lot.door.runtime().authenticator.reads();
            let bytes = if pieces.is_empty() {
                into.filled()
            } else {
                pieces.extend_from_slice(into.filled());
                pieces.as_slice()
            };
            let step = match head::parse(bytes, lot.path, max_body, token) {
                Parsed::Poll(head) => poll(lot, head, bytes),
                Parsed::Preflight { origin } => Step::Preflight(origin),
                Parsed::Partial if bytes.len() < max_body + HEAD_ALLOWANCE => {
                    if pieces.is_empty() {
                        pieces.extend_from_slice(into.filled());
                    }
                    continue;
                }
                Parsed::Partial | Parsed::HandOver => {
                    Step::Left(Left::HandOver(Bytes::copy_from_slice(bytes)))
                }
            };
            // Its memory is not for keeping.
            *pieces = Vec::new();
            return Poll::Ready(step);
        }
    })
}

fn poll(lot: &Lot<'_>, head: PollHead<'_>, request: &[u8]) -> Step {
    let PollHead {
        poll_id,
        cursor,
        origin,
        takes_gzip,
        query,
        body,
        headers,
    } = head;
    let asker = Asker { origin, takes_gzip };
    let session = poll_id.and_then(|poll_id| lot.door.runtime().session(poll_id));
    match session {
        Some(session) if lot.door.admits(asker.origin.as_ref()) => {
            let claims = Claims {
                cursor,
                can_come_back: can_come_back(query),
            };
            let presents = headers.as_ref().map(|headers| ConnectRequest {
                headers,
                path: lot.path,
                query,
                authority: None,
                peer: None,
            });
            let handled = LongPoll::poll(lot.door.runtime(), &session, claims, presents, body);
            Step::Polled(handled, asker)
        }
        _ => Step::Open(Box::new(Open {
            poll_id: poll_id.map(str::to_owned),
            // A poll has not needed them before.
            headers: headers.unwrap_or_else(|| head::headers(request)),
            query: query.to_owned(),
            cursor,
            asker,
            body: body.to_vec(),
        })),
    }
}

async fn serve_open(
    stream: &mut TcpStream,
    lot: &Lot<'_>,
    open: Open,
) -> io::Result<ControlFlow<(), Option<Delivery>>> {
    if !lot.door.admits(open.asker.origin.as_ref()) {
        let response = lot.door.refuse_origin();
        return finish(stream, lot, answer::write_response(stream, response)).await;
    }
    let connect = ConnectRequest {
        headers: &open.headers,
        path: lot.path,
        query: &open.query,
        authority: None,
        // Asked of the system now, so that a waiting poll need not remember it.
        peer: stream.peer_addr().ok().map(|peer| peer.ip()),
    };
    let request = PollRequest {
        poll_id: open.poll_id.as_deref(),
        cursor: open.cursor,
        connect,
        body: &open.body,
    };
    // Somebody may have to be asked who the client is, which nobody wants to
    // know of one that is gone. What a poll asks for is done all the same.
    let mut watch = request.poll_id.is_none();
    let handling = LongPoll::handle(lot.door.runtime(), request);
    let mut handling = pin!(handling);
    let handled = poll_fn(|context| {
        if is_gone(stream, &mut watch, context) {
            return Poll::Ready(None);
        }
        handling.as_mut().poll(context).map(Some)
    });
    let Some(handled) = handled.await else {
        return Ok(ControlFlow::Break(()));
    };
    let answer = match handled {
        Handled::Answer(answer) => answer,
        Handled::Parked(parked) => {
            let Some(answer) = (Waiting {
                stream,
                parked,
                watch: true,
            })
            .await
            else {
                return Ok(ControlFlow::Break(()));
            };
            answer
        }
    };
    respond(stream, lot, answer, open.asker).await
}

/// Writes an answer. Continues with its delivery, or breaks if the connection
/// is to be closed.
async fn respond(
    stream: &mut TcpStream,
    lot: &Lot<'_>,
    answer: PollAnswer,
    asker: Asker,
) -> io::Result<ControlFlow<(), Option<Delivery>>> {
    let answer = match answer {
        PollAnswer::Frames {
            frames,
            length,
            cursor,
            gap,
            poll_id: None,
            delivery,
        } if lot.door.is_plain() && !lot.door.compresses(&asker, length) => {
            let vary = lot.door.vary();
            let written = answer::write_frames(stream, vary, cursor, gap, &frames, length);
            drop(frames);
            let written = written.map(|rest| (rest, Some(delivery)));
            return finish(stream, lot, written).await;
        }
        answer => answer,
    };
    let response = lot.door.response(answer, &asker, None);
    finish(stream, lot, answer::write_response(stream, response)).await
}

/// Sees an answer out.
async fn finish(
    stream: &mut TcpStream,
    lot: &Lot<'_>,
    written: io::Result<(Option<Rest>, Option<Delivery>)>,
) -> io::Result<ControlFlow<(), Option<Delivery>>> {
    let (rest, mut delivery) = written?;
    if let Some(rest) = rest
        && let Err(error) = Box::pin(rest.finish(stream, lot.write_timeout)).await
    {
        if error.kind() == io::ErrorKind::TimedOut {
            lot.metrics.timeout_server_messages.inc();
        }
        give_back(lot, delivery);
        return Err(error);
    }
    if let Some(delivery) = &mut delivery {
        delivery.flushed(lot.door.runtime().clock.now());
    }
    if lot.door.runtime().is_draining() {
        return Ok(ControlFlow::Break(()));
    }
    Ok(ControlFlow::Continue(delivery))
}

/// The client closed the connection after its last answer. Whether it had read
/// it shows a round trip later: a socket that was closed before the answer came
/// sends a reset.
async fn part(stream: &TcpStream, lot: &Lot<'_>, delivery: Delivery) {
    let settled = delivery.flushed_at() + CROSSING;
    let wait = settled.since(lot.door.runtime().clock.now());
    let mut reset = was_reset(stream);
    if !reset && !wait.is_zero() {
        tokio::select! {
            () = sleep(wait) => {}
            () = lot.stop.cancelled() => {}
        }
        reset = was_reset(stream);
    }
    if reset {
        give_back(lot, Some(delivery));
    } else {
        delivery.confirm();
    }
}

/// Whether the peer has refused bytes that were sent to it. Asking clears it.
fn was_reset(stream: &TcpStream) -> bool {
    !matches!(stream.take_error(), Ok(None))
}

fn give_back(lot: &Lot<'_>, delivery: Option<Delivery>) {
    if let Some(delivery) = delivery {
        let frames = u64::try_from(delivery.failed()).unwrap_or(u64::MAX);
        lot.metrics.failed_server_messages.inc_by(frames);
    }
}

/// A parked poll and its client: ends with an answer, or with `None` if the
/// client went away.
struct Waiting<'a> {
    stream: &'a mut TcpStream,
    parked: Parked,
    /// Whether the socket is watched. Not after it had bytes: a request that
    /// came too early stays in it until it is read.
    watch: bool,
}

impl Future for Waiting<'_> {
    type Output = Option<PollAnswer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PollAnswer>> {
        let this = &mut *self;
        // First the socket: a client that is gone must not get the batch. This
        // costs no system call as long as nothing has happened there.
        if is_gone(this.stream, &mut this.watch, context) {
            return Poll::Ready(None);
        }
        Pin::new(&mut this.parked).poll(context).map(Some)
    }
}

/// Whether a client went away, and if not, wakes when it does. `watch` ends when
/// there are bytes to read.
fn is_gone(stream: &TcpStream, watch: &mut bool, context: &mut Context<'_>) -> bool {
    while *watch {
        match stream.poll_read_ready(context) {
            Poll::Pending => break,
            Poll::Ready(Err(_)) => return true,
            Poll::Ready(Ok(())) => {}
        }
        let mut byte = [0];
        match stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Pending => break,
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => *watch = false,
        }
    }
    false
}

/// Whether a connection has waited too long for a request. Its timer is armed
/// once and put off only when it fires, because most of them never should.
fn idle_over(mut timer: Pin<&mut Sleep>, until: Instant, context: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(timer.as_mut().poll(context));
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        timer.as_mut().reset(until);
    }
}
