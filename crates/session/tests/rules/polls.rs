//! When a waiting poll is answered, and which one.

use super::*;

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
fn a_command_that_takes_long_holds_nothing_back() {
    let mut world = World::new(PollConfig {
        flush_interval: Duration::ZERO,
        ..PollConfig::default()
    });
    let command = pollux_protocol::Command::parse(br#"{"command":"ping"}"#).unwrap();
    assert_eq!(world.session.enqueue(vec![command]), Some(true));
    assert!(world.session.next_command(world.now).is_some());
    let bell = Arc::default();
    let mut poll = world.park();
    world.publish("1");
    assert!(world.look(&mut poll, &bell).is_none());
    world.session.work_goes_on(world.now);
    world.pass(Duration::from_millis(90));
    assert!(world.look(&mut poll, &bell).is_none());
    world.pass(Duration::from_millis(10));
    assert_eq!(world.take(&mut poll), ["1"]);
    // Its reply comes when it comes.
    world.session.reply(reply::pong(), world.now);
    assert_eq!(world.take(&mut world.park()).len(), 1);
    assert!(world.session.next_command(world.now).is_none());
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
