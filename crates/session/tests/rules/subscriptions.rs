//! How subscriptions are set up, confirmed and replayed.

use super::*;

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
