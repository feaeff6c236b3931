use super::*;
use pollux_protocol::{Meta, Payload, StreamName};

fn stamp(epoch: &str, offset: u64, time: u64) -> Stamp {
    Stamp {
        position: Position {
            epoch: Epoch::new(epoch),
            offset: Offset::new(offset),
        },
        time,
    }
}

fn placed(epoch: &str, offset: u64, time: u64) -> Placed {
    Placed {
        stamp: stamp(epoch, offset, time),
        publication: Some(Arc::new(Publication {
            stream: StreamName::try_new("s").unwrap(),
            data: Payload::from_text(&format!("{offset}")),
            meta: Meta::default(),
        })),
        source: None,
        received: Instant::now(),
    }
}

fn reading(head: Stamp, same: bool, low: u64, entries: Vec<Placed>) -> Reading {
    Reading {
        head,
        same,
        low,
        entries,
        more: false,
    }
}

fn offsets(todo: &Todo) -> Vec<u64> {
    let deliver = todo.deliver.iter();
    deliver
        .map(|placed| placed.stamp.position.offset.get())
        .collect()
}

/// Of a stream whose last publication is `offset` of epoch `e`.
fn at(offset: u64) -> State {
    let mut state = State::new();
    let head = stamp("e", offset, offset * 10);
    assert_eq!(
        state.read(Some(reading(head, true, 1, vec![]))),
        Todo::default()
    );
    state
}

#[test]
fn what_follows_is_delivered_and_what_was_is_not() {
    let mut state = at(5);
    assert_eq!(offsets(&state.hear(placed("e", 6, 60))), [6]);
    assert_eq!(state.hear(placed("e", 6, 60)), Todo::default());
    assert_eq!(state.hear(placed("e", 2, 20)), Todo::default());
    assert_eq!(offsets(&state.hear(placed("e", 7, 70))), [7]);
    assert_eq!(state.position().unwrap().offset.get(), 7);
}

#[test]
fn the_first_publication_of_a_new_stream_is_delivered() {
    let mut state = State::new();
    assert!(state.is_new());
    assert_eq!(state.read(None), Todo::default());
    assert_eq!(state.position(), None);
    assert_eq!(offsets(&state.hear(placed("e", 1, 10))), [1]);
}

#[test]
fn announcements_before_the_first_reading_wait_for_it() {
    let mut state = State::new();
    for offset in 3..=6 {
        assert_eq!(
            state.hear(placed("e", offset, offset * 10)),
            Todo::default()
        );
    }
    let todo = state.read(Some(reading(stamp("e", 4, 40), true, 1, vec![])));
    assert_eq!(offsets(&todo), [5, 6]);
}

#[test]
fn a_jump_is_filled_from_the_log_in_order_and_once() {
    let mut state = at(5);
    let todo = state.hear(placed("e", 8, 80));
    assert!(todo.read && todo.deliver.is_empty());
    assert_eq!(state.hear(placed("e", 9, 90)), Todo::default());
    let entries = (6..=8).map(|offset| placed("e", offset, offset * 10));
    let todo = state.read(Some(reading(stamp("e", 8, 80), true, 1, entries.collect())));
    assert_eq!(offsets(&todo), [6, 7, 8, 9]);
    assert_eq!((todo.missed, todo.repaired, todo.read), (None, 3, false));
}

#[test]
fn what_the_log_has_not_any_more_is_counted() {
    let mut state = at(5);
    assert!(state.hear(placed("e", 20, 200)).read);
    let entries = (18..=20).map(|offset| placed("e", offset, offset * 10));
    let todo = state.read(Some(reading(
        stamp("e", 20, 200),
        true,
        18,
        entries.collect(),
    )));
    assert_eq!(offsets(&todo), [18, 19, 20]);
    assert_eq!(todo.missed, Some(12));
    // Without any history.
    assert!(state.check());
    let todo = state.read(Some(reading(stamp("e", 23, 230), true, 0, vec![])));
    assert_eq!((offsets(&todo), todo.missed), (vec![], Some(3)));
    assert_eq!(offsets(&state.hear(placed("e", 24, 240))), [24]);
}

#[test]
fn an_offset_given_twice_is_noticed_by_its_time() {
    let mut state = at(10);
    assert!(state.hear(placed("e", 9, 120)).read);
    // The script has given the stream a new epoch, and brings what is later.
    let entries = vec![placed("f", 9, 120), placed("f", 10, 130)];
    let todo = state.read(Some(reading(stamp("f", 10, 130), false, 1, entries)));
    assert_eq!(offsets(&todo), [9, 10]);
    assert_eq!(todo.missed, None);
    assert_eq!(offsets(&state.hear(placed("f", 11, 140))), [11]);
}

#[test]
fn a_new_life_is_delivered_from_its_beginning() {
    let mut state = at(10);
    let todo = state.hear(placed("f", 1, 500));
    assert!(todo.read);
    let todo = state.read(Some(reading(
        stamp("f", 2, 510),
        false,
        1,
        vec![placed("f", 1, 500), placed("f", 2, 510)],
    )));
    assert_eq!((offsets(&todo), todo.missed), (vec![1, 2], None));
    // And one whose beginning is gone.
    assert!(state.hear(placed("g", 50, 900)).read);
    let todo = state.read(Some(reading(
        stamp("g", 50, 900),
        false,
        50,
        vec![placed("g", 50, 900)],
    )));
    assert_eq!((offsets(&todo), todo.missed), (vec![50], Some(0)));
}

#[test]
fn a_long_log_is_read_in_pages() {
    let mut state = at(0);
    assert!(state.hear(placed("e", 5, 50)).read);
    let mut page = reading(
        stamp("e", 5, 50),
        true,
        1,
        vec![placed("e", 1, 10), placed("e", 2, 20)],
    );
    page.more = true;
    let todo = state.read(Some(page));
    assert!(todo.read);
    assert_eq!(offsets(&todo), [1, 2]);
    assert_eq!(state.mark(), Some(&stamp("e", 2, 20)));
    let rest = (3..=5).map(|offset| placed("e", offset, offset * 10));
    let todo = state.read(Some(reading(stamp("e", 5, 50), true, 1, rest.collect())));
    assert_eq!(offsets(&todo), [3, 4, 5]);
    assert!(!todo.read);
}

#[test]
fn more_than_can_wait_is_read_again() {
    let mut state = at(0);
    assert!(state.check());
    for offset in 1..=u64::try_from(HELD).unwrap() + 10 {
        assert_eq!(state.hear(placed("e", offset, offset)), Todo::default());
    }
    let todo = state.read(Some(reading(stamp("e", 0, 0), true, 0, vec![])));
    assert_eq!(todo.deliver.len(), HELD);
    assert!(todo.read);
}

#[test]
fn what_comes_again_at_another_place_is_not_delivered_again() {
    let mut state = at(5);
    let from = |source, placed| Placed {
        source: Source::parse(source),
        ..placed
    };
    assert_eq!(offsets(&state.hear(from("1-0-0", placed("e", 6, 60)))), [6]);
    assert_eq!(offsets(&state.hear(from("1-0-1", placed("e", 7, 70)))), [7]);
    // A failover forgets offset 7, and the intake's entry is published again.
    assert!(state.hear(from("1-0-1", placed("e", 7, 90))).read);
    let entries = vec![
        from("1-0-1", placed("f", 7, 90)),
        from("2-0-0", placed("f", 8, 95)),
    ];
    let todo = state.read(Some(reading(stamp("f", 8, 95), false, 1, entries)));
    assert_eq!(offsets(&todo), [8]);
    assert_eq!(offsets(&state.hear(placed("f", 9, 99))), [9]);
}

#[test]
fn an_announcement_that_nothing_explains_is_forgotten() {
    let mut state = at(5);
    let mut todo = state.hear(placed("x", 3, 900));
    let mut readings = 0;
    while todo.read {
        readings += 1;
        assert!(readings < 10, "it reads for ever");
        todo = state.read(Some(reading(stamp("e", 5, 50), true, 1, vec![])));
    }
    assert_eq!(offsets(&state.hear(placed("e", 6, 60))), [6]);
}

#[test]
fn a_stream_that_vanished_goes_on_with_what_is_announced() {
    let mut state = at(10);
    assert!(state.hear(placed("f", 3, 300)).read);
    let todo = state.read(None);
    assert_eq!(offsets(&todo), [3]);
    assert_eq!(offsets(&state.hear(placed("f", 4, 400))), [4]);
}

proptest::proptest! {
    /// A model Redis publishes, announcements get lost, readings come late:
    /// what is delivered is everything, in order, once.
    #[test]
    fn nothing_is_lost_or_doubled(steps in proptest::collection::vec(0_u8..8, 1..200)) {
        let mut state = at(0);
        let (mut log, mut seen, mut wire) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut pending: Option<Stamp> = None;
        let mut settle = |state: &mut State, todo: Todo, pending: &mut Option<Stamp>| {
            seen.extend(offsets(&todo));
            if todo.read {
                *pending = state.mark().cloned();
            }
        };
        let answer = |log: &[Placed], mark: &Stamp| {
            let from = usize::try_from(mark.position.offset.get()).unwrap();
            let mut page = reading(
                log.last().map_or_else(|| stamp("e", 0, 0), |last: &Placed| last.stamp.clone()),
                true,
                1,
                log[from..].iter().take(3).cloned().collect(),
            );
            page.more = page.entries.len() == 3;
            page
        };
        for step in steps {
            match step {
                0..=2 => {
                    let offset = u64::try_from(log.len()).unwrap() + 1;
                    let next = placed("e", offset, offset * 10);
                    log.push(next.clone());
                    wire.push_back(next);
                }
                3 => drop(wire.pop_front()),
                4 | 5 => {
                    if let Some(next) = wire.pop_front() {
                        let todo = state.hear(next);
                        settle(&mut state, todo, &mut pending);
                    }
                }
                6 => {
                    if let Some(mark) = pending.take() {
                        let todo = state.read(Some(answer(&log, &mark)));
                        settle(&mut state, todo, &mut pending);
                    }
                }
                _ => {
                    if state.check() {
                        pending = state.mark().cloned();
                    }
                }
            }
        }
        // In the end every reading comes back and a check finds the rest.
        for _ in 0..200 {
            if pending.is_none() && state.check() {
                pending = state.mark().cloned();
            }
            if let Some(mark) = pending.take() {
                let todo = state.read(Some(answer(&log, &mark)));
                settle(&mut state, todo, &mut pending);
            }
        }
        let all: Vec<u64> = (1..=u64::try_from(log.len()).unwrap()).collect();
        proptest::prop_assert_eq!(seen, all);
    }
}
