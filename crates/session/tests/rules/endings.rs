//! Bounds, and how a session ends.

use super::*;

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

#[test]
fn what_goes_elsewhere_is_not_said_to_have_come() {
    let mut world = World::open();
    world.publish("1");
    assert_eq!(world.take(&mut world.park()), ["1"]);
    world.pass(Duration::from_secs(2));
    // The client has the first, and says so; the second waits for its flush.
    assert_eq!(world.session.arrive(Some(1), world.now), Ok(0));
    world.publish("2");
    let bell = Arc::default();
    let mut poll = world.park();
    let departed = world.session.depart(world.now).unwrap();
    assert_eq!(departed.outbox.frames.len(), 1);
    assert_eq!(departed.outbox.end, 3);
    assert_eq!(departed.subscriptions.len(), 0);
    for poll in [&mut poll, &mut world.park()] {
        match world.look(poll, &bell) {
            Some(Answer::Empty { cursor }) => assert_eq!(cursor, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.session.depart(world.now).unwrap_err(), Stays::Over);
    // Elsewhere it goes on, for a client that has it after all, too.
    for (cursor, frames) in [(1, 2), (2, 1)] {
        let world = World::open();
        world.session.unpack(departed.outbox.clone());
        world.publish("3");
        world.session.arrive(Some(cursor), world.now).unwrap();
        assert_eq!(world.take(&mut world.park()).len(), frames);
    }
}

#[test]
fn a_session_stays_while_an_answer_or_a_command_is_on_its_way() {
    let mut world = World::open();
    let command = pollux_protocol::Command::parse(br#"{"command":"ping"}"#).unwrap();
    assert_eq!(world.session.enqueue(vec![command]), Some(true));
    assert_eq!(world.session.depart(world.now).unwrap_err(), Stays::Busy);
    while world.session.next_command(world.now).is_some() {}
    world.publish("1");
    let (_, mut delivery) = world.answer(&mut world.park());
    assert_eq!(world.session.depart(world.now).unwrap_err(), Stays::Busy);
    delivery.flushed(world.now);
    // It may yet turn out to be lost.
    assert_eq!(world.session.depart(world.now).unwrap_err(), Stays::Busy);
    world.pass(Duration::from_millis(100));
    let departed = world.session.depart(world.now).unwrap();
    assert!(departed.outbox.frames.is_empty());
    assert!(world.session.is_over() && world.session.is_told());
}
