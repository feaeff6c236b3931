//! A session under arbitrary interleavings of publishing, polling, aborting,
//! losing answers and overlapping polls.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use pollux_protocol::{Frame, Identifier, StreamName};
use pollux_session::{
    Answer, Begin, Delivery, Due, Owner, Poll, PollConfig, Session, Shared, Time, Token,
    session::Replay,
};
use proptest::prelude::*;
use std::{
    sync::Arc,
    task::{Poll as Ready, Waker},
    time::Duration,
};

/// What may happen next. Indices pick among whatever there is.
#[derive(Clone, Debug)]
enum Step {
    Publish,
    /// A new poll arrives, whatever else is waiting.
    Poll,
    /// The node looks at a waiting poll.
    Look(usize),
    /// The client gives a waiting poll up.
    Abort(usize),
    /// An answer arrives at the client.
    Receive(usize),
    /// An answer breaks before it is in the socket.
    Break(usize),
    /// An answer reaches the socket, and then the connection is reset.
    Reset(usize),
    /// An answer reaches the socket and not the client, and nobody notices: a
    /// proxy took it. Only a cursor helps against that.
    Vanish(usize),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Publish),
        3 => Just(Step::Poll),
        5 => (0..4_usize).prop_map(Step::Look),
        1 => (0..4_usize).prop_map(Step::Abort),
        3 => (0..4_usize).prop_map(Step::Receive),
        1 => (0..4_usize).prop_map(Step::Break),
        1 => (0..4_usize).prop_map(Step::Reset),
        1 => (0..4_usize).prop_map(Step::Vanish),
        2 => (0..700_u16).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..80)
}

/// An answer on its way.
struct Way {
    body: Vec<u64>,
    last: u64,
    delivery: Delivery,
}

/// The node and one client with some polls open.
struct World {
    shared: Arc<Shared>,
    session: Arc<Session>,
    identifier: Identifier,
    now: Time,
    published: u64,
    polls: Vec<Poll>,
    ways: Vec<Way>,
    /// The client's cursor, if it is one that sends it.
    cursor: Option<u64>,
    received: Vec<u64>,
    /// An empty answer's cursor, highest seen.
    claimed: u64,
}

impl World {
    fn new(cursor: Option<u64>) -> Self {
        let config = PollConfig {
            keepalive_timeout: Duration::from_secs(3_600),
            ..PollConfig::default()
        };
        let shared = Arc::new(Shared {
            config,
            ..Shared::default()
        });
        let now = Time::from_origin(Duration::from_secs(1));
        let token = Token::from_random(7);
        let session = Session::new(1, token, token, Owner::default(), Arc::clone(&shared), now);
        let identifier = Identifier::try_new("room").unwrap();
        let stream = StreamName::try_new("room").unwrap();
        assert_eq!(
            session.begin_subscription(&identifier, &[stream], now),
            Begin::New
        );
        assert!(session.release(&identifier, Replay::default(), now));
        Self {
            shared,
            session,
            identifier,
            now,
            published: 0,
            polls: Vec::new(),
            ways: Vec::new(),
            cursor,
            received: Vec::new(),
            claimed: 0,
        }
    }

    fn publish(&mut self) {
        self.published += 1;
        let frame = Frame::from_json(self.published.to_string().into_bytes());
        self.session
            .deliver(&self.identifier, &frame, None, self.now);
    }

    fn poll(&mut self) {
        self.session.arrive(self.cursor, self.now).unwrap();
        self.polls
            .push(self.session.park(self.now + self.shared.config.interval));
    }

    fn look(&mut self, index: usize) {
        if self.polls.is_empty() {
            return;
        }
        let index = index % self.polls.len();
        let Ready::Ready(answer) = self.polls[index].poll_answer(self.now, Waker::noop()) else {
            return;
        };
        self.polls.remove(index);
        match answer {
            Answer::Frames {
                frames,
                cursor,
                delivery,
                gap,
                ..
            } => {
                assert!(!gap);
                let number =
                    |frame: &Frame| std::str::from_utf8(&frame.json()).unwrap().parse().unwrap();
                let body = frames.iter().map(number).collect();
                self.ways.push(Way {
                    body,
                    last: cursor,
                    delivery,
                });
            }
            Answer::Empty { cursor } => self.claimed = self.claimed.max(cursor),
            Answer::Closed { .. } => panic!("nothing closes this session"),
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(mut way) = self.pick(index) else {
            return;
        };
        way.delivery.flushed(self.now);
        if let Some(cursor) = &mut self.cursor {
            // The client knows the numbers and skips what it has.
            let first = way.last + 1 - way.body.len() as u64;
            let new = way
                .body
                .iter()
                .enumerate()
                .filter(|(at, _)| first + *at as u64 > *cursor);
            self.received.extend(new.map(|(_, frame)| *frame));
            *cursor = way.last.max(*cursor);
        } else {
            self.received.extend(&way.body);
            way.delivery.confirm();
        }
    }

    fn pick(&mut self, index: usize) -> Option<Way> {
        (!self.ways.is_empty()).then(|| self.ways.remove(index % self.ways.len()))
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish => self.publish(),
            Step::Poll => self.poll(),
            Step::Look(index) => self.look(index),
            Step::Abort(index) => {
                if !self.polls.is_empty() {
                    let index = index % self.polls.len();
                    drop(self.polls.remove(index));
                }
            }
            Step::Receive(index) => self.receive(index),
            Step::Break(index) => drop(self.pick(index)),
            Step::Reset(index) | Step::Vanish(index) => {
                if let Some(mut way) = self.pick(index) {
                    way.delivery.flushed(self.now);
                    if self.cursor.is_none() || matches!(step, Step::Reset(_)) {
                        way.delivery.failed();
                    }
                }
            }
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis(u64::from(millis));
                let mut due = Vec::new();
                self.shared.deadlines.advance(self.now, &mut due);
                for (tick, session) in due {
                    assert!(matches!(
                        session.upgrade().unwrap().due(tick, self.now),
                        Due::Alive
                    ));
                }
            }
        }
    }

    /// Polls in peace until nothing comes any more.
    fn finish(&mut self) {
        while let Some(mut way) = self.pick(0) {
            way.delivery.flushed(self.now);
            way.delivery.failed();
        }
        self.polls.clear();
        for _ in 0..3 {
            self.step(&Step::Wait(600));
            self.poll();
            self.look(0);
            self.receive(0);
            self.polls.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Each frame once and in order, whatever happened on the way.
    #[test]
    fn a_client_with_a_cursor_misses_nothing_and_doubles_nothing(steps in steps()) {
        let mut world = World::new(Some(0));
        for step in &steps {
            world.step(step);
            prop_assert!(world.claimed <= world.cursor.unwrap(), "an empty answer claimed too much");
        }
        world.finish();
        prop_assert_eq!(world.received, (1..=world.published).collect::<Vec<_>>());
    }

    /// Each frame once, as long as a lost answer's connection tells of it. In
    /// order too, unless that came late.
    #[test]
    fn a_client_without_a_cursor_misses_nothing_and_doubles_nothing(steps in steps()) {
        let mut world = World::new(None);
        for step in &steps {
            world.step(step);
        }
        world.finish();
        world.received.sort_unstable();
        prop_assert_eq!(world.received, (1..=world.published).collect::<Vec<_>>());
    }
}
