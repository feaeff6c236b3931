use super::*;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use pollux_protocol::Identifier;
use pollux_session::{Answer, Owner, Session, Shared, Time, Token};
use std::task::{Poll, Waker};

/// Keeps spans.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

fn origin(number: u64) -> Arc<Origin> {
    let context = SpanContext::new(
        TraceId::from(7),
        SpanId::from(number),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    Arc::new(Origin::new(context, None))
}

fn frame(length: usize) -> Frame {
    Frame::from_json(vec![b'x'; length])
}

fn answers() -> (Arc<Answers>, Kept) {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(kept.clone())
        .build();
    (Arc::new(Answers::new(provider.tracer("test"))), kept)
}

/// An answer with these frames on its way, as a poll composes it.
fn answer(answers: &Arc<Answers>, frames: &[Frame]) -> Delivery {
    let watcher: Arc<dyn Watcher> = Arc::<Answers>::clone(answers);
    let shared = Arc::new(Shared {
        watcher: Some(watcher),
        ..Shared::default()
    });
    let now = Time::from_origin(Duration::from_secs(10));
    let token = Token::from_random(7);
    let session = Session::new(1, token, token, Owner::default(), shared, now);
    let identifier = Identifier::try_new("a").unwrap();
    for frame in frames {
        session.deliver(&identifier, frame, None, now);
    }
    let mut poll = session.park(now);
    let Poll::Ready(Answer::Frames {
        frames,
        mut delivery,
        ..
    }) = poll.poll_answer(now, Waker::noop())
    else {
        panic!("there is no answer");
    };
    answers.compose(&frames, &mut delivery, Way::LongPoll);
    delivery
}

#[tokio::test]
async fn an_answer_is_a_span_from_arrival_to_the_socket() {
    let (answers, kept) = answers();
    let (first, second) = (origin(1), origin(2));
    let (one, two, other) = (frame(5), frame(6), frame(7));
    answers.follow(&one, &first);
    answers.follow(&two, &second);
    let mut delivery = answer(&answers, &[one, two, other.clone()]);
    assert!(kept.0.lock().is_empty(), "it has not left");
    delivery.flushed(Time::ZERO);
    delivery.confirm();
    let span = kept.0.lock().pop().unwrap();
    assert_eq!(span.parent_span_id, first.context.span_id());
    assert_eq!(span.links.links.len(), 1);
    assert_eq!(span.links.links[0].span_context, second.context);
    assert_eq!(span.start_time, first.arrived);
    assert_eq!(span.status, Status::Unset);
    // Others are none.
    answer(&answers, &[other]).flushed(Time::ZERO);
    assert!(kept.0.lock().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_lost_says_so() {
    let (answers, kept) = answers();
    let one = frame(5);
    answers.follow(&one, &origin(1));
    drop(answer(&answers, std::slice::from_ref(&one)));
    let span = kept.0.lock().pop().unwrap();
    assert!(matches!(span.status, Status::Error { .. }));
    assert!(answers.open.lock().is_empty());
}

#[tokio::test]
async fn a_publication_is_followed_to_a_few_sessions_and_no_more_than_it_has() {
    let (answers, kept) = answers();
    let (one, few) = (frame(5), frame(6));
    answers.follow(&one, &origin(1));
    let two_sessions = origin(2);
    two_sessions.expect(2);
    answers.follow(&few, &two_sessions);
    for _ in 0..ANSWERS_MAX + 5 {
        answer(&answers, std::slice::from_ref(&one)).flushed(Time::ZERO);
    }
    assert_eq!(kept.0.lock().len(), ANSWERS_MAX);
    assert_eq!(answers.count.load(Ordering::Relaxed), 1);
    for _ in 0..2 {
        answer(&answers, std::slice::from_ref(&few)).flushed(Time::ZERO);
    }
    assert_eq!(answers.count.load(Ordering::Relaxed), 0);
    assert_eq!(answers.followed.lock().bytes, 0, "frames are let go");
}

#[tokio::test(start_paused = true)]
async fn what_is_followed_has_bounds() {
    let (answers, _) = answers();
    let frames: Vec<_> = (0..FOLLOWED_MAX + 10).map(|_| frame(9)).collect();
    for frame in &frames {
        answers.follow(frame, &origin(1));
    }
    assert_eq!(answers.count.load(Ordering::Relaxed), FOLLOWED_MAX);
    let followed = |frame: &Frame| {
        answers
            .followed
            .lock()
            .frames
            .contains_key(&place_of(frame))
    };
    assert!(!followed(&frames[9]) && followed(&frames[10]));

    let large = frame(BYTES_MAX - 100);
    answers.follow(&large, &origin(2));
    assert!(answers.followed.lock().bytes <= BYTES_MAX && followed(&large));
    let too_large = frame(BYTES_MAX);
    answers.follow(&too_large, &origin(3));
    assert!(followed(&large) && !followed(&too_large));

    tokio::time::sleep(PATIENCE).await;
    answer(&answers, &[frame(1)]).flushed(Time::ZERO);
    assert_eq!(answers.count.load(Ordering::Relaxed), 0);
    let empty = answers.followed.lock();
    assert!(empty.bytes == 0 && empty.order.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_followed_twice_is_there_once() {
    let (answers, _) = answers();
    let one = frame(9);
    answers.follow(&one, &origin(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    answers.follow(&one, &origin(2));
    let bytes = answers.followed.lock().bytes;
    assert_eq!(
        (answers.count.load(Ordering::Relaxed), bytes),
        (1, one.len())
    );
    tokio::time::sleep(PATIENCE).await;
    answer(&answers, &[frame(1)]).flushed(Time::ZERO);
    assert!(answers.followed.lock().order.is_empty());
}
