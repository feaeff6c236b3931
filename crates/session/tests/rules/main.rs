//! The rules of poll sessions, one test each, on a clock of their own.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use pollux_protocol::{
    Epoch, Frame, Identifier, Offset, Position, StreamName, action_cable::reply,
};
use pollux_session::{
    Answer, Attachment, Begin, Delivered, Delivery, Due, Hub, Overflow, Owner, Poll, PollConfig,
    Registry, Replay, Session, Shared, Stays, Time, Token,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll as Ready, Wake, Waker},
    time::Duration,
};

mod endings;
mod polls;
mod subscriptions;
mod watched;

const FLUSH: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_secs(15);

/// Counts how often it was woken.
#[derive(Debug, Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rang(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) > 0
    }
}

struct World {
    shared: Arc<Shared>,
    session: Arc<Session>,
    identifier: Identifier,
    now: Time,
}

impl World {
    fn new(config: PollConfig) -> Self {
        Self::with(Shared {
            config,
            ..Shared::default()
        })
    }

    fn with(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let now = Time::from_origin(Duration::from_secs(10));
        let token = Token::from_random(7);
        let session = Session::new(1, token, token, Owner::default(), Arc::clone(&shared), now);
        Self {
            shared,
            session,
            identifier: Identifier::try_new("room").unwrap(),
            now,
        }
    }

    fn open() -> Self {
        Self::new(PollConfig::default())
    }

    fn publish(&self, text: &str) -> Delivered {
        let frame = Frame::from_json(text.as_bytes().to_vec());
        self.session
            .deliver(&self.identifier, &frame, None, self.now)
    }

    fn park(&self) -> Poll {
        self.session.arrive(None, self.now).unwrap();
        self.session.park(self.now + INTERVAL)
    }

    /// Lets time pass and the wheel turn. Whether the session is still there.
    fn pass(&mut self, time: Duration) -> bool {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + Duration::from_millis(20)).min(until);
            let mut due = Vec::new();
            self.shared.deadlines.advance(self.now, &mut due);
            for (tick, session) in due {
                let Some(session) = session.upgrade() else {
                    continue;
                };
                if matches!(session.due(tick, self.now), Due::Expired(_)) {
                    return false;
                }
            }
        }
        true
    }

    fn look(&self, poll: &mut Poll, bell: &Arc<Bell>) -> Option<Answer> {
        match poll.poll_answer(self.now, &Waker::from(Arc::clone(bell))) {
            Ready::Ready(answer) => Some(answer),
            Ready::Pending => None,
        }
    }

    /// The frames of an answer that is there now, delivered.
    fn take(&self, poll: &mut Poll) -> Vec<String> {
        let (frames, delivery) = self.answer(poll);
        self.arrived(delivery);
        frames
    }

    fn answer(&self, poll: &mut Poll) -> (Vec<String>, Delivery) {
        match self.look(poll, &Arc::default()) {
            Some(Answer::Frames {
                frames, delivery, ..
            }) => {
                let text = |frame: &Frame| String::from_utf8(frame.json().to_vec()).unwrap();
                (frames.iter().map(text).collect(), delivery)
            }
            other => panic!("no frames but {other:?}"),
        }
    }

    fn arrived(&self, mut delivery: Delivery) {
        delivery.flushed(self.now);
        delivery.confirm();
    }

    fn subscribe(&self) -> Begin {
        let stream = StreamName::try_new("room").unwrap();
        let begin = self
            .session
            .begin_subscription(&self.identifier, &[stream], self.now);
        if matches!(begin, Begin::New | Begin::Reconfirm) {
            let confirmation = reply::confirm_subscription(&self.identifier);
            let replay = Replay::default();
            assert!(
                self.session
                    .confirm(&self.identifier, confirmation, replay, self.now)
            );
        }
        begin
    }
}
