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

fn room() -> StreamName {
    StreamName::try_new("room").unwrap()
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
    let stream = room();
    let begin = world
        .session
        .begin_subscription(&world.identifier, &[stream], world.now);
    assert_eq!(begin, Begin::New);
    let frame = |number: u64| Frame::from_json(number.to_string().into_bytes());
    let deliver = |offset: u64| {
        let position = at(offset);
        world.session.deliver(
            &world.identifier,
            &frame(offset),
            Some((&room(), &position)),
            world.now,
        );
    };
    (1..=4).for_each(deliver);
    // History is ahead of what was delivered live, and of what is held.
    let replay = Replay {
        frames: (1..=5).map(frame).collect(),
        covered: vec![(room(), at(5))],
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
        covered: vec![(room(), at(9))],
        ..Replay::default()
    };
    assert!(world.session.release(&world.identifier, replay, world.now));
    let position = Position {
        epoch: Epoch::new("new"),
        offset: Offset::new(1),
    };
    let frame = Frame::from_json(b"1".to_vec());
    world.session.deliver(
        &world.identifier,
        &frame,
        Some((&room(), &position)),
        world.now,
    );
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
    let begin = || {
        let streams = std::slice::from_ref(&stream);
        world.session.begin_subscription(&other, streams, world.now)
    };
    assert_eq!(begin(), Begin::TooMany);
    assert!(world.session.unsubscribe(&world.identifier).is_some());
    assert_eq!(begin(), Begin::New);
}

#[test]
fn a_replay_covers_each_stream_of_a_subscription_by_itself() {
    let world = World::open();
    let other = StreamName::try_new("other").unwrap();
    let begin = world
        .session
        .begin_subscription(&world.identifier, &[], world.now);
    assert_eq!(begin, Begin::New);
    assert!(world.session.follow(&world.identifier, &room()));
    assert!(world.session.follow(&world.identifier, &other));
    assert!(!world.session.follow(&world.identifier, &other));
    let deliver = |stream: &StreamName, offset: u64, text: &str| {
        let frame = Frame::from_json(text.as_bytes().to_vec());
        let place = Some((stream, &at(offset)));
        world
            .session
            .deliver(&world.identifier, &frame, place, world.now);
    };
    deliver(&room(), 3, "\"held and covered\"");
    deliver(&other, 3, "1");
    let replay = Replay {
        covered: vec![(room(), at(4)), (other.clone(), at(2))],
        ..Replay::default()
    };
    let confirmation = Frame::from_json(b"0".to_vec());
    let said = vec![(confirmation, true)];
    assert!(
        world
            .session
            .settle(&world.identifier, said, replay, world.now)
    );
    // The same numbers mean other publications in another stream.
    deliver(&other, 4, "2");
    deliver(&room(), 4, "\"covered\"");
    deliver(&room(), 5, "3");
    assert_eq!(world.take(&mut world.park()), ["0", "1", "2", "3"]);
    assert_eq!(world.subscribe(), Begin::Known);
}

#[test]
fn a_subscription_goes_on_without_a_stream_it_has_left() {
    let world = World::open();
    world.subscribe();
    let (session, identifier) = (&world.session, &world.identifier);
    assert!(session.hold(identifier));
    let replay = Replay {
        covered: vec![(room(), at(9))],
        ..Replay::default()
    };
    assert!(session.release(identifier, replay, world.now));
    assert!(session.unfollow(identifier, &room()));
    assert!(!session.unfollow(identifier, &room()));
    assert!(session.streams_of(identifier).unwrap().is_empty());
    assert!(session.is_subscribed(identifier));
    // What was read of it before says nothing of what comes after.
    assert!(session.follow(identifier, &room()));
    let frame = Frame::from_json(b"1".to_vec());
    session.deliver(identifier, &frame, Some((&room(), &at(9))), world.now);
    assert_eq!(world.take(&mut world.park()).len(), 2);
    let ended = session.unsubscribe(identifier).unwrap();
    assert_eq!(ended.streams.as_slice(), [room()]);
    assert!(!session.is_subscribed(identifier));
    assert!(session.streams_of(identifier).is_none());
}

#[test]
fn what_a_node_attaches_lives_with_its_session() {
    let attached: Attachment = Arc::new(7_u64);
    let owner = Owner {
        identifiers: None,
        attached: Some(attached),
    };
    let token = Token::from_random(1);
    let now = Time::from_origin(Duration::from_millis(1));
    let session = Session::new(1, token, token, owner, Arc::default(), now);
    assert_eq!(session.attached::<u64>().as_deref(), Some(&7));
    assert!(session.attached::<String>().is_none());
}
