//! A client of each kind against the outbox, with every way an answer can go.

use super::*;
use proptest::prelude::*;

fn frame(number: u64) -> Frame {
    Frame::from_json(number.to_string().into_bytes())
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch
        .frames
        .iter()
        .map(|frame| std::str::from_utf8(&frame.json()).unwrap().parse().unwrap())
        .collect()
}

fn bounded(max_frames: usize, overflow: Overflow) -> PollConfig {
    PollConfig {
        max_frames,
        overflow,
        ..PollConfig::default()
    }
}

/// One thing that happens between the server and its client.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    /// An answer that arrives.
    Answer,
    /// An answer that never reached the socket.
    LostBefore,
    /// An answer that reached the socket and not the client, known at once.
    LostAfter,
    /// Like it, but nobody notices before the next poll.
    LostUnnoticed,
    /// A poll from before the last answer comes in late.
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..5_u8).prop_map(Step::Publish),
        3 => Just(Step::Answer),
        1 => Just(Step::LostBefore),
        1 => Just(Step::LostAfter),
        1 => Just(Step::LostUnnoticed),
        1 => Just(Step::Stale),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// A client that sends its cursor gets every frame once and in order,
    /// whatever is lost, noticed or not.
    #[test]
    fn cursor_client_gets_each_frame_once(steps in steps()) {
        let config = PollConfig::default();
        let mut outbox = Outbox::default();
        let (mut published, mut cursor, mut before) = (0, 0, 0);
        let mut received = Vec::new();
        let ending = [Step::Answer, Step::Answer];
        for step in steps.into_iter().chain(ending) {
            match step {
                Step::Publish(count) => for _ in 0..count {
                    published += 1;
                    outbox.push(frame(published), &config);
                },
                Step::Stale => { outbox.acknowledge(before); }
                outcome => {
                    outbox.acknowledge(cursor);
                    let Some(batch) = outbox.take() else { continue };
                    prop_assert_eq!(numbers(&batch).len() as u64, batch.last - cursor);
                    match outcome {
                        Step::Answer => {
                            outbox.flushed(batch.ticket, Time::ZERO);
                            outbox.confirm(batch.ticket);
                            received.extend(numbers(&batch).into_iter().filter(|n| *n > cursor));
                            before = cursor;
                            cursor = batch.last;
                        }
                        Step::LostBefore => { outbox.give_back(batch.ticket); }
                        Step::LostAfter => {
                            outbox.flushed(batch.ticket, Time::ZERO);
                            outbox.give_back(batch.ticket);
                        }
                        _ => outbox.flushed(batch.ticket, Time::ZERO),
                    }
                }
            }
        }
        prop_assert_eq!(received, (1..=published).collect::<Vec<_>>());
        outbox.acknowledge(cursor);
        prop_assert!(outbox.is_empty());
        prop_assert_eq!(outbox.bytes(), 0);
    }

    /// A client without a cursor gets every frame once and in order, as long
    /// as the server learns of each lost answer.
    #[test]
    fn plain_client_gets_each_frame_once(steps in steps()) {
        let config = PollConfig::default();
        let mut outbox = Outbox::default();
        let mut published = 0;
        let mut received = Vec::new();
        let mut now = Time::ZERO;
        for step in steps.into_iter().chain([Step::Answer]) {
            now = now + Duration::from_secs(2);
            match step {
                Step::Publish(count) => for _ in 0..count {
                    published += 1;
                    outbox.push(frame(published), &config);
                },
                Step::LostUnnoticed | Step::Stale => outbox.settle(now),
                outcome => {
                    outbox.settle(now);
                    let Some(batch) = outbox.take() else { continue };
                    if !matches!(outcome, Step::LostBefore) {
                        outbox.flushed(batch.ticket, now);
                    }
                    if matches!(outcome, Step::Answer) {
                        received.extend(numbers(&batch));
                    } else {
                        outbox.give_back(batch.ticket);
                    }
                }
            }
        }
        prop_assert_eq!(received, (1..=published).collect::<Vec<_>>());
        outbox.settle(now + Duration::from_secs(2));
        prop_assert!(outbox.is_empty());
    }

    /// Under the drop-oldest policy the bound holds at every moment, and a
    /// frame is missing only where an answer said that there is a gap.
    #[test]
    fn a_dropped_frame_is_always_told(steps in steps()) {
        let config = bounded(4, Overflow::DropOldest);
        let mut outbox = Outbox::default();
        let (mut published, mut last) = (0, 0);
        for step in steps {
            match step {
                Step::Publish(count) => for _ in 0..count {
                    published += 1;
                    outbox.push(frame(published), &config);
                    prop_assert!(outbox.len() <= 4);
                },
                Step::LostBefore => if let Some(batch) = outbox.take() {
                    outbox.give_back(batch.ticket);
                },
                _ => if let Some(batch) = outbox.take() {
                    let got = numbers(&batch);
                    let contiguous = got.first() == Some(&(last + 1));
                    prop_assert_eq!(batch.gap, !contiguous, "{:?} after {}", got, last);
                    last = batch.last;
                    outbox.flushed(batch.ticket, Time::ZERO);
                    outbox.confirm(batch.ticket);
                },
            }
        }
    }
}

#[test]
fn an_empty_answer_never_claims_a_batch_that_may_be_lost() {
    let config = PollConfig::default();
    let mut outbox = Outbox::default();
    assert_eq!(outbox.cursor(), 0);
    outbox.push(frame(1), &config);
    outbox.push(frame(2), &config);
    let batch = outbox.take().unwrap();
    assert_eq!((batch.last, outbox.cursor()), (2, 0));
    outbox.flushed(batch.ticket, Time::ZERO);
    assert_eq!(outbox.cursor(), 0);
    outbox.acknowledge(2);
    assert_eq!(outbox.cursor(), 2);
}

#[test]
fn only_one_batch_is_on_its_way() {
    let config = PollConfig::default();
    let mut outbox = Outbox::default();
    outbox.push(frame(1), &config);
    let first = outbox.take().unwrap();
    outbox.push(frame(2), &config);
    assert!(outbox.take().is_none());
    outbox.give_back(first.ticket);
    assert_eq!(numbers(&outbox.take().unwrap()), [1, 2]);
}

#[test]
fn a_poll_right_after_a_flush_does_not_settle_it() {
    let config = PollConfig::default();
    let mut outbox = Outbox::default();
    outbox.push(frame(1), &config);
    let batch = outbox.take().unwrap();
    outbox.flushed(batch.ticket, Time::ZERO);
    outbox.settle(Time::ZERO + Duration::from_millis(10));
    assert_eq!(outbox.give_back(batch.ticket), 1);
    let again = outbox.take().unwrap();
    assert_eq!((numbers(&again), again.redelivered), (vec![1], 1));
    outbox.flushed(again.ticket, Time::ZERO);
    outbox.settle(Time::ZERO + Duration::from_secs(3));
    assert_eq!(outbox.give_back(again.ticket), 0);
    assert!(outbox.is_empty());
}

#[test]
fn a_full_outbox_believes_flushed_frames_before_it_gives_up() {
    let config = bounded(2, Overflow::Expire);
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(frame(1), &config), Push::Stored);
    assert_eq!(outbox.push(frame(2), &config), Push::Stored);
    let batch = outbox.take().unwrap();
    outbox.flushed(batch.ticket, Time::ZERO);
    assert_eq!(outbox.push(frame(3), &config), Push::Stored);
    assert_eq!(outbox.push(frame(4), &config), Push::Stored);
    assert_eq!(outbox.push(frame(5), &config), Push::Overflow);
}

#[test]
fn bytes_are_bounded_as_well_as_frames() {
    let config = PollConfig {
        max_bytes: 10,
        ..PollConfig::default()
    };
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(frame(1_234_567_890), &config), Push::Stored);
    assert_eq!(outbox.push(frame(1), &config), Push::Overflow);
}

#[test]
fn a_gap_in_a_lost_answer_is_told_again() {
    let config = bounded(1, Overflow::DropOldest);
    let mut outbox = Outbox::default();
    outbox.push(frame(1), &config);
    assert_eq!(outbox.push(frame(2), &config), Push::Dropped(1));
    let batch = outbox.take().unwrap();
    assert!(batch.gap);
    outbox.give_back(batch.ticket);
    assert!(outbox.take().unwrap().gap);
}

#[test]
fn a_cursor_beyond_what_was_sent_confirms_no_more_than_that() {
    let config = PollConfig::default();
    let mut outbox = Outbox::default();
    outbox.push(frame(1), &config);
    assert_eq!(outbox.acknowledge(u64::MAX), 0);
    assert_eq!(numbers(&outbox.take().unwrap()), [1]);
}

#[test]
fn a_long_replay_leaves_room_for_live_frames() {
    let config = bounded(10, Overflow::Expire);
    let mut outbox = Outbox::default();
    for number in 1..=50 {
        assert_eq!(outbox.push_reply(frame(number), &config), Push::Stored);
    }
    for number in 51..=60 {
        assert_eq!(outbox.push(frame(number), &config), Push::Stored);
    }
    assert_eq!(outbox.push(frame(61), &config), Push::Overflow);
}

#[test]
fn the_room_goes_with_the_replay() {
    let config = bounded(10, Overflow::Expire);
    let mut outbox = Outbox::default();
    for number in 1..=50 {
        outbox.push_reply(frame(number), &config);
    }
    let batch = outbox.take().unwrap();
    outbox.flushed(batch.ticket, Time::ZERO);
    outbox.confirm(batch.ticket);
    assert!(outbox.is_empty());
    for number in 51..=60 {
        assert_eq!(outbox.push(frame(number), &config), Push::Stored);
    }
    assert_eq!(outbox.push(frame(61), &config), Push::Overflow);
}
