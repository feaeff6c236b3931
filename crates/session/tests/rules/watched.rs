//! What the node is told of answers it watches.

use super::*;
use parking_lot::Mutex;
use pollux_session::{AnswerId, Fate, Watcher};

/// Says what became of answers that were to be watched.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(AnswerId, Fate)>>);

impl Watcher for Notes {
    fn note(&self, answer: AnswerId, fate: Fate) {
        self.0.lock().push((answer, fate));
    }
}

#[test]
fn a_watched_answer_is_told_of_once() {
    let notes = Arc::new(Notes::default());
    let watcher: Arc<dyn Watcher> = Arc::<Notes>::clone(&notes);
    let world = World::with(Shared {
        watcher: Some(watcher),
        ..Shared::default()
    });
    world.subscribe();
    let mut poll = world.park();
    // The confirmation; nobody asked.
    world.take(&mut poll);
    assert!(notes.0.lock().is_empty());

    for fate in [Fate::Flushed, Fate::Lost] {
        world.publish("{}");
        let mut poll = world.park();
        let (_, mut delivery) = world.answer(&mut poll);
        let answer = delivery.watch();
        match fate {
            Fate::Flushed => world.arrived(delivery),
            Fate::Lost => drop(delivery),
        }
        assert_eq!(notes.0.lock().pop(), Some((answer, fate)));
    }
    assert!(notes.0.lock().is_empty());
}
