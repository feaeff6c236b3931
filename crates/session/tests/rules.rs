//! The rules of poll sessions, one test each, on a clock of their own.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use pollux_protocol::{
    Epoch, Frame, Identifier, Offset, Position, StreamName, action_cable::reply,
};
use pollux_session::{
    Answer, Begin, Delivered, Delivery, Due, Hub, Overflow, Poll, PollConfig, Registry, Replay,
    Session, Shared, Time, Token,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll as Ready, Wake, Waker},
    time::Duration,
};

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
        let shared = Arc::new(Shared {
            config,
            ..Shared::default()
        });
        let now = Time::from_origin(Duration::from_secs(10));
        let token = Token::from_random(7);
        let session = Session::new(1, token, token, None, Arc::clone(&shared), now);
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
            .begin_subscription(&self.identifier, &stream, self.now);
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

#[test]
fn the_first_frame_after_a_quiet_time_goes_at_once_and_the_next_wait() {
    let mut world = World::open();
    let bell = Arc::default();
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    world.publish("1");
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["1"]);

    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    world.publish("2");
    assert!(!bell.rang());
    world.pass(FLUSH / 2);
    world.publish("3");
    assert!(!bell.rang() && world.look(&mut poll, &bell).is_none());
    world.pass(FLUSH / 2 + Duration::from_millis(20));
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["2", "3"]);
}

#[test]
fn frames_that_wait_are_answered_to_a_new_poll_at_once() {
    let world = World::open();
    world.publish("1");
    assert_eq!(world.take(&mut world.park()), ["1"]);
    world.publish("2");
    assert_eq!(world.take(&mut world.park()), ["2"]);
}

#[test]
fn replies_do_not_wait_for_the_flush() {
    let world = World::open();
    world.publish("1");
    assert_eq!(world.take(&mut world.park()), ["1"]);
    let bell = Arc::default();
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    assert!(world.session.reply(reply::pong(), world.now));
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), [r#"{"type":"pong"}"#]);
}

#[test]
fn replies_to_commands_go_together_when_the_last_is_done() {
    let world = World::open();
    let command = || pollux_protocol::Command::parse(br#"{"command":"ping"}"#).unwrap();
    assert_eq!(
        world.session.enqueue(vec![command(), command()]),
        Some(true)
    );
    assert_eq!(world.session.enqueue(vec![command()]), Some(false));
    let bell = Arc::default();
    let mut poll = world.park();
    for _ in 0..3 {
        assert!(world.session.next_command(world.now).is_some());
        world.session.reply(reply::pong(), world.now);
        assert!(world.look(&mut poll, &bell).is_none());
    }
    assert!(world.session.next_command(world.now).is_none());
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll).len(), 3);
}

#[test]
fn a_newer_poll_gets_the_batch_and_the_older_stays() {
    let mut world = World::open();
    let (old_bell, new_bell) = (Arc::default(), Arc::default());
    let mut old = world.park();
    let mut new = world.park();
    assert!(world.look(&mut old, &old_bell).is_none());
    assert!(world.look(&mut new, &new_bell).is_none());
    world.publish("1");
    assert!(new_bell.rang() && !old_bell.rang());
    assert!(world.look(&mut old, &old_bell).is_none());
    assert_eq!(world.take(&mut new), ["1"]);
    world.pass(FLUSH);
    world.publish("2");
    assert!(old_bell.rang());
    assert_eq!(world.take(&mut old), ["2"]);
}

#[test]
fn one_poll_too_many_sends_the_oldest_home() {
    let world = World::open();
    let bell = Arc::default();
    let mut polls: Vec<Poll> = (0..3).map(|_| world.park()).collect();
    for poll in &mut polls {
        assert!(world.look(poll, &bell).is_none());
    }
    let mut fourth = world.park();
    assert!(bell.rang());
    assert!(matches!(
        world.look(&mut polls[0], &bell),
        Some(Answer::Empty { .. })
    ));
    for poll in polls.iter_mut().skip(1).chain([&mut fourth]) {
        assert!(world.look(poll, &bell).is_none());
    }
}

#[test]
fn a_poll_that_leaves_lets_the_next_have_its_frames() {
    let world = World::open();
    let (old_bell, new_bell) = (Arc::default(), Arc::default());
    let mut old = world.park();
    let mut new = world.park();
    assert!(world.look(&mut old, &old_bell).is_none());
    assert!(world.look(&mut new, &new_bell).is_none());
    world.publish("1");
    assert!(new_bell.rang());
    drop(new);
    assert!(old_bell.rang());
    assert_eq!(world.take(&mut old), ["1"]);
}

#[test]
fn an_answer_that_broke_does_not_wait_for_the_flush_again() {
    let world = World::open();
    world.publish("1");
    let (_, delivery) = world.answer(&mut world.park());
    let bell = Arc::default();
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    assert_eq!(delivery.failed(), 1);
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["1"]);
}

#[test]
fn a_second_answer_does_not_overtake_the_first() {
    let mut world = World::open();
    world.publish("1");
    let (_, mut delivery) = world.answer(&mut world.park());
    delivery.flushed(world.now);
    world.publish("2");
    let bell = Arc::default();
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    world.pass(Duration::from_millis(120));
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["2"]);

    world.publish("3");
    let (_, mut delivery) = world.answer(&mut world.park());
    delivery.flushed(world.now);
    world.publish("4");
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    delivery.confirm();
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["4"]);
}

#[test]
fn a_client_with_a_cursor_is_answered_at_once() {
    let world = World::open();
    world.publish("1");
    let (_, mut delivery) = world.answer(&mut world.park());
    delivery.flushed(world.now);
    world.publish("2");
    world.session.arrive(Some(1), world.now).unwrap();
    let mut poll = world.session.park(world.now + INTERVAL);
    assert_eq!(world.take(&mut poll), ["2"]);
}

#[test]
fn an_idle_poll_ends_with_nothing_and_its_cursor() {
    let mut world = World::open();
    let bell = Arc::default();
    world.publish("1");
    assert_eq!(world.take(&mut world.park()), ["1"]);
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    assert!(world.pass(INTERVAL + Duration::from_millis(40)));
    assert!(bell.rang());
    assert!(matches!(
        world.look(&mut poll, &bell),
        Some(Answer::Empty { cursor: 1 })
    ));
}

#[test]
fn keepalive_runs_only_while_no_poll_is_held() {
    let mut world = World::open();
    let mut poll = world.park();
    let bell = Arc::default();
    assert!(world.look(&mut poll, &bell).is_none());
    assert!(world.pass(Duration::from_secs(14)));
    drop(poll);
    assert!(world.pass(Duration::from_millis(4_900)));
    let poll = world.park();
    assert!(world.pass(Duration::from_secs(6)));
    drop(poll);
    assert!(!world.pass(Duration::from_millis(5_100)));
    assert!(world.session.arrive(None, world.now).is_err());
}

#[test]
fn an_answer_on_its_way_keeps_the_session() {
    let mut world = World::open();
    world.publish("1");
    let (_, delivery) = world.answer(&mut world.park());
    assert!(world.pass(Duration::from_secs(30)));
    drop(delivery);
    assert_eq!(world.take(&mut world.park()), ["1"]);
    assert!(!world.pass(Duration::from_secs(6)));
}

#[test]
fn a_subscription_is_confirmed_once() {
    let mut world = World::open();
    assert_eq!(world.subscribe(), Begin::New);
    // The confirmation waits in the outbox.
    assert_eq!(world.subscribe(), Begin::Known);
    let (frames, mut delivery) = world.answer(&mut world.park());
    assert_eq!(frames.len(), 1);
    // It is on its way.
    assert_eq!(world.subscribe(), Begin::Known);
    delivery.flushed(world.now);
    world.pass(Duration::from_millis(1_400));
    assert_eq!(world.subscribe(), Begin::Known);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.subscribe(), Begin::Reconfirm);
    assert_eq!(world.subscribe(), Begin::Known);
    delivery.confirm();
    assert_eq!(world.take(&mut world.park()).len(), 1);
}

#[test]
fn a_confirmation_whose_answer_broke_comes_again_by_itself() {
    let world = World::open();
    world.subscribe();
    let (first, delivery) = world.answer(&mut world.park());
    assert_eq!(delivery.failed(), 1);
    assert_eq!(world.subscribe(), Begin::Known);
    assert_eq!(world.take(&mut world.park()), first);
}

fn at(offset: u64) -> Position {
    Position {
        epoch: Epoch::new("e"),
        offset: Offset::new(offset),
    }
}

#[test]
fn frames_come_after_the_confirmation_and_not_twice_after_a_replay() {
    let world = World::open();
    let stream = StreamName::try_new("room").unwrap();
    let begin = world
        .session
        .begin_subscription(&world.identifier, &stream, world.now);
    assert_eq!(begin, Begin::New);
    let frame = |number: u64| Frame::from_json(number.to_string().into_bytes());
    let deliver = |offset: u64| {
        let position = at(offset);
        world.session.deliver(
            &world.identifier,
            &frame(offset),
            Some(&position),
            world.now,
        );
    };
    (1..=4).for_each(deliver);
    // History is ahead of what was delivered live, and of what is held.
    let replay = Replay {
        frames: (1..=5).map(frame).collect(),
        covered: Some(at(5)),
        verdict: None,
    };
    assert!(
        world
            .session
            .confirm(&world.identifier, frame(0), replay, world.now)
    );
    (5..=7).for_each(deliver);
    assert_eq!(
        world.take(&mut world.park()),
        ["0", "1", "2", "3", "4", "5", "6", "7"]
    );
}

#[test]
fn a_new_epoch_is_not_covered_by_a_replay_of_the_old_one() {
    let world = World::open();
    world.subscribe();
    assert!(world.session.hold(&world.identifier));
    let replay = Replay {
        covered: Some(at(9)),
        ..Replay::default()
    };
    assert!(world.session.release(&world.identifier, replay, world.now));
    let position = Position {
        epoch: Epoch::new("new"),
        offset: Offset::new(1),
    };
    let frame = Frame::from_json(b"1".to_vec());
    world
        .session
        .deliver(&world.identifier, &frame, Some(&position), world.now);
    assert_eq!(world.take(&mut world.park()).len(), 2);
}

#[test]
fn a_session_has_only_so_many_subscriptions() {
    let world = World::new(PollConfig {
        max_subscriptions: 1,
        ..PollConfig::default()
    });
    assert_eq!(world.subscribe(), Begin::New);
    let other = Identifier::try_new("other").unwrap();
    let stream = StreamName::try_new("other").unwrap();
    let begin = || world.session.begin_subscription(&other, &stream, world.now);
    assert_eq!(begin(), Begin::TooMany);
    assert!(world.session.unsubscribe(&world.identifier).is_some());
    assert_eq!(begin(), Begin::New);
}

#[test]
fn a_full_outbox_ends_the_session_and_says_that_frames_were_lost() {
    let mut world = World::new(PollConfig {
        max_frames: 2,
        ..PollConfig::default()
    });
    assert_eq!(world.subscribe(), Begin::New);
    assert_eq!(world.take(&mut world.park()).len(), 1);
    assert!(matches!(world.publish("1"), Delivered::Queued));
    assert!(matches!(world.publish("2"), Delivered::Queued));
    let Delivered::Overflow(subscriptions) = world.publish("3") else {
        panic!("no overflow")
    };
    assert_eq!(subscriptions.len(), 1);
    assert!(matches!(world.publish("4"), Delivered::Ignored));
    assert!(world.session.arrive(None, world.now).is_err());
    assert!(!world.pass(Duration::from_secs(6)));
}

#[test]
fn a_client_that_fetches_none_of_its_replies_loses_its_session() {
    let mut world = World::new(PollConfig {
        max_frames: 2,
        ..PollConfig::default()
    });
    assert_eq!(world.subscribe(), Begin::New);
    let replies = (0..100)
        .take_while(|_| world.session.reply(reply::pong(), world.now))
        .count();
    assert!(replies < 20, "{replies} replies were kept");
    assert!(world.session.arrive(None, world.now).is_err());
    assert!(matches!(world.publish("1"), Delivered::Ignored));
    assert!(!world.pass(Duration::from_secs(6)));
}

#[test]
fn one_large_publication_does_not_end_a_session() {
    let world = World::new(PollConfig {
        max_bytes: 10,
        ..PollConfig::default()
    });
    assert!(matches!(
        world.publish("12345678901234567890"),
        Delivered::Queued
    ));
    assert_eq!(world.take(&mut world.park()), ["12345678901234567890"]);
    assert!(matches!(
        world.publish("12345678901234567890"),
        Delivered::Queued
    ));
    assert!(matches!(world.publish("1"), Delivered::Overflow(_)));
}

#[test]
fn a_lost_farewell_comes_again_to_a_client_with_a_cursor() {
    let world = World::open();
    world.publish("1");
    world
        .session
        .close(Frame::from_json(b"\"bye\"".to_vec()), world.now);
    let (_, mut delivery) = world.answer(&mut world.park());
    delivery.flushed(world.now);
    assert_eq!(world.session.arrive(Some(0), world.now), Ok(2));
    let mut poll = world.session.park(world.now + INTERVAL);
    assert_eq!(world.take(&mut poll), ["1", "\"bye\""]);
    assert!(world.session.arrive(Some(2), world.now).is_err());
}

#[test]
fn a_half_full_outbox_does_not_wait_for_the_flush() {
    let world = World::new(PollConfig {
        max_frames: 4,
        ..PollConfig::default()
    });
    world.publish("1");
    assert_eq!(world.take(&mut world.park()), ["1"]);
    let bell = Arc::default();
    let mut poll = world.park();
    assert!(world.look(&mut poll, &bell).is_none());
    world.publish("2");
    assert!(!bell.rang());
    world.publish("3");
    assert!(bell.rang());
    assert_eq!(world.take(&mut poll), ["2", "3"]);
}

#[test]
fn dropping_the_oldest_keeps_the_session_and_marks_the_gap() {
    let config = PollConfig {
        max_frames: 2,
        overflow: Overflow::DropOldest,
        ..PollConfig::default()
    };
    let world = World::new(config);
    world.publish("1");
    world.publish("2");
    assert!(matches!(world.publish("3"), Delivered::Dropped(1)));
    let mut poll = world.park();
    let Some(Answer::Frames {
        frames, gap: true, ..
    }) = world.look(&mut poll, &Arc::default())
    else {
        panic!("no gap was told")
    };
    assert_eq!(frames.len(), 2);
}

#[test]
fn a_closed_session_tells_its_newest_poll_and_sends_the_others_home() {
    let mut world = World::open();
    let (old_bell, new_bell) = (Arc::default(), Arc::default());
    let mut old = world.park();
    let mut new = world.park();
    assert!(world.look(&mut old, &old_bell).is_none());
    assert!(world.look(&mut new, &new_bell).is_none());
    world
        .session
        .close(Frame::from_json(b"\"bye\"".to_vec()), world.now);
    assert!(old_bell.rang() && new_bell.rang());
    assert!(matches!(
        world.look(&mut old, &old_bell),
        Some(Answer::Empty { .. })
    ));
    assert!(!world.session.is_told());
    assert_eq!(world.take(&mut new), ["\"bye\""]);
    assert!(world.session.is_told());
    assert!(world.session.arrive(None, world.now).is_err());
    assert!(!world.pass(Duration::from_secs(6)));
}

#[test]
fn a_farewell_that_was_lost_is_said_again() {
    let world = World::open();
    world
        .session
        .close(Frame::from_json(b"\"bye\"".to_vec()), world.now);
    let (_, delivery) = world.answer(&mut world.park());
    drop(delivery);
    assert_eq!(world.take(&mut world.park()), ["\"bye\""]);
}

#[test]
fn hub_and_registry_forget_what_left() {
    let world = World::open();
    let (hub, registry) = (Hub::default(), Registry::default());
    let stream = StreamName::try_new("room").unwrap();
    registry.insert(Arc::clone(&world.session));
    hub.subscribe(&stream, &world.identifier, &world.session);
    hub.subscribe(&stream, &world.identifier, &world.session);
    assert_eq!(
        hub.subscribers(&stream)
            .iter()
            .map(|(_, all)| all.len())
            .sum::<usize>(),
        1
    );
    assert_eq!((hub.streams(), registry.census().sessions), (1, 1));
    assert!(hub.unsubscribe(&stream, &world.identifier, world.session.serial()));
    assert!(!hub.unsubscribe(&stream, &world.identifier, world.session.serial()));
    assert!(registry.remove(world.session.secret()).is_some());
    assert_eq!((hub.streams(), registry.len()), (0, 0));
    assert!(registry.get(world.session.secret()).is_none());
}

#[test]
fn remote_commands_name_sessions_exactly() {
    let world = World::open();
    let own = world.session.identifiers();
    assert_eq!(
        own,
        format!("{{\"sid\":\"{}\"}}", world.session.sid().text())
    );
    assert!(world.session.has_identifiers(&own));
    assert!(!world.session.has_identifiers(&format!("{own} ")));
}

/// What a session costs must not grow by accident. Sizes of 64-bit targets.
#[test]
fn a_session_is_small() {
    let size = size_of::<Session>();
    assert!(size <= 528, "a session takes {size} bytes");
    assert!(size_of::<Poll>() <= 16);
    assert!(size_of::<Delivery>() <= 24);
}
