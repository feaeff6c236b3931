//! What a publication costs before any socket is touched.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pollux_protocol::{Frame, Identifier, Payload, StreamName, action_cable::reply};
use pollux_session::{Answer, Hub, Owner, PollConfig, Session, Shared, Time, Token};
use std::{
    sync::Arc,
    task::{Poll as Ready, Waker},
    time::Duration,
};

const SESSIONS: u64 = 1_000;

fn names() -> (StreamName, Identifier) {
    let identifier = r#"{"channel":"$pubsub","stream_name":"chat/1"}"#;
    (
        StreamName::try_new("chat/1").unwrap(),
        Identifier::try_new(identifier).unwrap(),
    )
}

fn encode(c: &mut Criterion) {
    let (_, identifier) = names();
    let payload = Payload::from_text(&format!("{{\"text\":\"{}\"}}", "x".repeat(200)));
    c.bench_function("encode one frame", |b| {
        b.iter(|| reply::message(&identifier, &payload, None, None));
    });
}

/// Deliver to parked polls, answer them and park them again.
fn cycle(c: &mut Criterion) {
    let (stream, identifier) = names();
    let config = PollConfig {
        flush_interval: Duration::ZERO,
        ..PollConfig::default()
    };
    let shared = Arc::new(Shared {
        config,
        ..Shared::default()
    });
    let hub = Hub::default();
    let now = Time::from_origin(Duration::from_secs(1));
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|serial| {
            let token = Token::from_random(u128::from(serial));
            let session = Session::new(
                serial,
                token,
                token,
                Owner::default(),
                Arc::clone(&shared),
                now,
            );
            hub.subscribe(&stream, &identifier, &session);
            session
        })
        .collect();
    let frame = Frame::from_json(vec![b'1'; 300]);
    let mut group = c.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(SESSIONS));
    group.bench_function("deliver, answer, park again", |b| {
        b.iter_batched(
            || {
                let park = |session: &Arc<Session>| {
                    session.arrive(None, now).unwrap();
                    let mut poll = session.park(now + Duration::from_secs(15));
                    assert!(poll.poll_answer(now, Waker::noop()).is_pending());
                    poll
                };
                sessions.iter().map(park).collect::<Vec<_>>()
            },
            |mut polls| {
                for (identifier, members) in hub.subscribers(&stream) {
                    for session in members {
                        session.deliver(&identifier, &frame, None, now);
                    }
                }
                for poll in &mut polls {
                    let Ready::Ready(Answer::Frames { mut delivery, .. }) =
                        poll.poll_answer(now, Waker::noop())
                    else {
                        panic!("no answer")
                    };
                    delivery.flushed(now);
                    delivery.confirm();
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, encode, cycle);
criterion_main!(benches);
