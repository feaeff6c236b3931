use super::*;
use crate::{Broker as _, History, HistoryError, Offer, Since};
use pollux_protocol::{Meta, Offset, Payload, Position};

fn publication(stream: &str, text: &str) -> Publication {
    Publication {
        stream: StreamName::try_new(stream).unwrap(),
        data: Payload::from_text(text),
        meta: Meta::default(),
    }
}

fn at(position: &Position, offset: u64) -> Since {
    Since::Position(Position {
        epoch: position.epoch.clone(),
        offset: Offset::new(offset),
    })
}

async fn fill(broker: &MemoryBroker, stream: &str, count: usize) -> Position {
    let mut last = None;
    for number in 0..count {
        last = broker
            .publish(publication(stream, &number.to_string()))
            .await
            .unwrap();
    }
    last.unwrap()
}

fn offsets(history: &History) -> Vec<u64> {
    history
        .entries
        .iter()
        .map(|entry| entry.position.offset.get())
        .collect()
}

fn start(config: MemoryConfig) -> (Arc<MemoryBroker>, Events) {
    MemoryBroker::start(config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn positions_have_no_gaps_and_events_come_in_their_order() {
    let (broker, mut events) = start(MemoryConfig::default());
    fill(&broker, "a", 3).await;
    for expected in 1..=3 {
        let Some(Event::Delivery {
            position: Some(position),
            ..
        }) = events.recv().await
        else {
            panic!("an event without a position");
        };
        assert_eq!(position.offset.get(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_read_by_position_and_by_time() {
    let (broker, _events) = start(MemoryConfig {
        history_limit: 3,
        ..MemoryConfig::default()
    });
    let head = fill(&broker, "a", 5).await;
    let stream = StreamName::try_new("a").unwrap();
    let read = async |since| broker.history(&stream, since).await;
    assert_eq!(offsets(&read(at(&head, 2)).await.unwrap()), [3, 4, 5]);
    assert_eq!(offsets(&read(at(&head, 5)).await.unwrap()), [0_u64; 0]);
    assert!(matches!(
        read(at(&head, 1)).await,
        Err(HistoryError::Truncated)
    ));
    assert!(matches!(
        read(at(&head, 6)).await,
        Err(HistoryError::Beyond)
    ));
    let other = Position {
        epoch: Epoch::new("other"),
        offset: Offset::new(5),
    };
    assert!(matches!(
        read(Since::Position(other)).await,
        Err(HistoryError::Epoch)
    ));
    assert_eq!(offsets(&read(Since::Time(0)).await.unwrap()), [3, 4, 5]);
    assert_eq!(
        offsets(&read(Since::Time(i64::MAX)).await.unwrap()),
        [0_u64; 0]
    );
}

#[tokio::test(start_paused = true)]
async fn history_of_an_unknown_stream_is_empty_by_time_and_refused_by_position() {
    let (broker, _events) = start(MemoryConfig::default());
    let stream = StreamName::try_new("nobody").unwrap();
    assert!(
        broker
            .history(&stream, Since::Time(0))
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    let position = Position {
        epoch: Epoch::new("e"),
        offset: Offset::new(1),
    };
    let refused = broker.history(&stream, Since::Position(position)).await;
    assert!(matches!(refused, Err(HistoryError::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn history_expires_and_an_idle_stream_comes_back_in_a_new_epoch() {
    let config = MemoryConfig {
        history_ttl: Duration::from_secs(10),
        ..MemoryConfig::default()
    };
    let (broker, _events) = start(config);
    let old = fill(&broker, "a", 2).await;
    let stream = StreamName::try_new("a").unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        broker
            .history(&stream, Since::Time(0))
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    // The counter outlives the history.
    let next = fill(&broker, "a", 1).await;
    assert_eq!((next.offset.get(), &next.epoch), (3, &old.epoch));
    tokio::time::sleep(Duration::from_secs(10 * 10 + 90)).await;
    assert_eq!((broker.history_streams(), broker.history_bytes()), (0, 0));
    let fresh = fill(&broker, "a", 1).await;
    assert_eq!(fresh.offset.get(), 1);
    assert_ne!(fresh.epoch, old.epoch);
}

#[tokio::test(start_paused = true)]
async fn transient_publications_have_no_position_and_leave_no_trace() {
    let (broker, mut events) = start(MemoryConfig::default());
    let mut transient = publication("a", "1");
    transient.meta.transient = true;
    assert_eq!(broker.publish(transient).await.unwrap(), None);
    assert!(matches!(
        events.recv().await,
        Some(Event::Delivery { position: None, .. })
    ));
    assert_eq!(broker.history_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_and_bytes_are_bounded() {
    let config = MemoryConfig {
        max_streams: 64,
        max_bytes: 64 << 10,
        ..MemoryConfig::default()
    };
    let (broker, mut events) = start(config);
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    for number in 0..1_000 {
        fill(&broker, &format!("stream {number}"), 1).await;
    }
    // A shard without a stream to forget may exceed the bound by one.
    assert!(
        broker.history_streams() <= 64 + SHARDS,
        "{}",
        broker.history_streams()
    );
    let large = "x".repeat(1 << 10);
    for _ in 0..200 {
        broker.publish(publication("large", &large)).await.unwrap();
    }
    // What other shards hold is theirs to free.
    assert!(
        broker.history_bytes() <= (64 << 10) + 2_048,
        "{}",
        broker.history_bytes()
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_event_queue_makes_publishers_wait() {
    let (broker, mut events) = start(MemoryConfig::default());
    fill(&broker, "a", EVENT_QUEUE).await;
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.publish(publication("a", "late")).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    events.recv().await.unwrap();
    waiting.await.unwrap().unwrap();
    drop(events);
    assert!(matches!(
        broker.publish(publication("a", "1")).await,
        Err(BrokerError::Stopped)
    ));
    assert!(!broker.is_ready());
}

#[tokio::test(start_paused = true)]
async fn what_is_restored_keeps_its_time_and_what_follows_is_later() {
    let (broker, mut events) = start(MemoryConfig::default());
    let keep = Keep {
        limit: 2,
        ttl: Duration::from_secs(3_600),
    };
    let now = moment().micros;
    let (old, ahead) = (now - 60_000_000, now + 5_000_000);
    for (text, time) in [("0", 7), ("1", old - 1), ("2", old), ("3", ahead)] {
        broker.restore(publication("a", text), time, keep);
    }
    let stream = StreamName::try_new("a").unwrap();
    let offer = Offer {
        keep: Some(Keep { limit: 3, ..keep }),
        capacity: None,
    };
    broker.offer(publication("a", "4"), offer).await.unwrap();
    let history = broker.history(&stream, Since::Time(0)).await.unwrap();
    let times: Vec<_> = history.entries.iter().map(|entry| entry.time).collect();
    assert_eq!(times, [old, ahead, ahead + 1]);
    assert_eq!(offsets(&history), [3, 4, 5]);
    // Nobody was told of what is not new.
    assert!(matches!(
        events.recv().await,
        Some(Event::Delivery { time, .. }) if time == ahead + 1
    ));
}
