//! Recovering what was missed, with positions, from either broker.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Connection, Node, PATIENCE, Poller, Redis, frames};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What keeps the history.
#[derive(Clone, Copy)]
enum Broker {
    /// The node itself.
    Memory,
    /// A Redis, which the publisher's and the client's node share.
    Redis,
}

/// The nodes of one test.
struct Nodes {
    publisher: Node,
    /// `None` if there is one node for both.
    client: Option<Node>,
    _redis: Option<Redis>,
}

impl Broker {
    async fn start(self, flags: &[(&str, &str)]) -> Result<Nodes> {
        let redis = match self {
            Self::Memory => None,
            Self::Redis => Some(Redis::spawn().await?),
        };
        let builder = Node::builder().flag("poll_flush_interval", "0");
        let builder = flags
            .iter()
            .fold(builder, |builder, (name, value)| builder.flag(name, value));
        let (builder, client) = match &redis {
            None => (builder, None),
            Some(redis) => {
                let builder = builder.redis(redis);
                let client = builder.clone().spawn_ready().await?;
                (builder, Some(client))
            }
        };
        Ok(Nodes {
            publisher: builder.spawn_ready().await?,
            client,
            _redis: redis,
        })
    }

    /// With a history of ten publications.
    async fn with_ten(self) -> Result<Nodes> {
        let flags = [("poll_interval", "0.3"), ("history_limit", "10")];
        self.start(&flags).await
    }
}

impl Nodes {
    /// The node of the clients.
    fn client(&self) -> &Node {
        self.client.as_ref().unwrap_or(&self.publisher)
    }
}

/// Each test with each broker.
macro_rules! with_both_brokers {
    ($($test:ident),+ $(,)?) => {
        with_both_brokers! { @ memory Memory $($test)+ }
        with_both_brokers! { @ redis Redis $($test)+ }
    };
    (@ $module:ident $broker:ident $($test:ident)+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Broker::$broker).await
                }
            )+
        }
    };
}

with_both_brokers! {
    messages_carry_positions_without_a_hole,
    a_replay_starts_after_the_given_offset,
    a_new_client_recovers_while_it_subscribes,
    what_is_replayed_does_not_come_live_as_well,
    history_is_found_by_time_too,
    what_history_cannot_tell_is_rejected_and_nothing_is_sent,
    a_request_that_asks_for_nothing_is_a_mistake_without_an_answer,
    transient_messages_are_not_kept,
    without_history_every_request_is_rejected,
}

async fn publish(node: &Node, count: u64) -> Result<()> {
    for number in 1..=count {
        node.publish("a", &number.into()).await?;
    }
    Ok(())
}

/// The position of a message.
fn position(frame: &Value) -> Result<(u64, String)> {
    assert_eq!(frame["stream_id"], "a", "{frame}");
    let epoch = frame["epoch"].as_str().context("no epoch")?;
    Ok((
        frame["offset"].as_u64().context("no offset")?,
        epoch.to_owned(),
    ))
}

/// All frames that come until history was confirmed or rejected, and then until it is quiet.
async fn ask(poller: &mut Poller, line: &str) -> Result<Vec<Value>> {
    let deadline = Instant::now() + PATIENCE;
    let mut frames = poller.poll_with(line).await?.frames;
    loop {
        let answer = poller.poll().await?;
        let is_verdict = |frame| frames::kind(frame).ends_with("_history");
        if answer.response.status == 204 && frames.iter().any(is_verdict) {
            return Ok(frames);
        }
        ensure!(Instant::now() < deadline, "no verdict: {frames:?}");
        frames.extend(answer.frames);
    }
}

fn at(offset: u64, epoch: &str) -> Value {
    json!({"streams": {"a": {"offset": offset, "epoch": epoch}}})
}

async fn messages_carry_positions_without_a_hole(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    publish(&nodes.publisher, 5).await?;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(poller.poll().await?.frames);
    }
    let positions = seen.iter().map(position).collect::<Result<Vec<_>>>()?;
    let offsets: Vec<u64> = positions.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5]);
    assert!(positions.iter().all(|(_, epoch)| *epoch == positions[0].1));
    Ok(())
}

async fn a_replay_starts_after_the_given_offset(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    publish(&nodes.publisher, 5).await?;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(poller.poll().await?.frames);
    }
    let epoch = position(&seen[0])?.1;
    let a = frames::public("a");
    for since in 0..=5 {
        let frames = ask(&mut poller, &frames::history(&a, &at(since, &epoch))).await?;
        let (verdict, replayed) = frames.split_last().context("no answer")?;
        assert_eq!(frames::kind(verdict), "confirm_history");
        assert_eq!(verdict["identifier"], a);
        let skip = usize::try_from(since)?;
        assert_eq!(replayed, &seen[skip..], "a replayed message is the message");
    }
    Ok(())
}

async fn a_new_client_recovers_while_it_subscribes(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut first = Poller::subscribed(nodes.client(), &["a"]).await?;
    publish(&nodes.publisher, 1).await?;
    let (_, epoch) = position(&first.poll().await?.frames[0])?;
    publish(&nodes.publisher, 3).await?;

    let a = frames::public("a");
    let mut second = Poller::open(nodes.client()).await?;
    let line = frames::subscribe_with_history(&a, &at(1, &epoch));
    let frames = ask(&mut second, &line).await?;
    let expected = [
        "confirm_subscription",
        "message",
        "message",
        "message",
        "confirm_history",
    ];
    assert_eq!(frames::kinds(&frames), expected);
    assert_eq!(frames::messages(&frames), [1, 2, 3]);
    assert_eq!(position(&frames[1])?.0, 2);
    Ok(())
}

async fn what_is_replayed_does_not_come_live_as_well(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[("poll_interval", "0.1")]).await?;
    let mut publisher = Connection::open(nodes.publisher.address()).await?;
    for round in 0..20 {
        let stream = format!("s{round}");
        let batch: Vec<Value> = (1..=50)
            .map(|number| json!({"stream": stream, "data": number}))
            .collect();
        let request = nodes
            .publisher
            .broadcast_request(&Value::from(batch).to_string());
        let mut poller = Poller::open(nodes.client()).await?;
        // The client subscribes while the batch is on its way to the sessions.
        publisher.send(&request).await?;
        let identifier = frames::public(&stream);
        let line = frames::subscribe_with_history(&identifier, &json!({"since": 0}));
        let mut frames = ask(&mut poller, &line).await?;
        assert_eq!(publisher.response().await?.status, 201);
        // The publisher may be slower than its reader.
        loop {
            let answer = poller.poll().await?;
            if answer.response.status == 204 {
                break;
            }
            frames.extend(answer.frames);
        }
        let expected: Vec<Value> = (1..=50).map(Value::from).collect();
        assert_eq!(frames::messages(&frames), expected, "round {round}");
    }
    Ok(())
}

async fn history_is_found_by_time_too(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    publish(&nodes.publisher, 3).await?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let a = frames::public("a");
    for (since, count) in [(0, 3), (now - 60, 3), (now + 60, 0)] {
        let mut poller = Poller::open(nodes.client()).await?;
        let line = frames::subscribe_with_history(&a, &json!({"since": since, "streams": {}}));
        let frames = ask(&mut poller, &line).await?;
        assert_eq!(frames::messages(&frames).len(), count, "since {since}");
        let last = frames.last().context("no answer")?;
        assert_eq!(frames::kind(last), "confirm_history");
    }
    // A stream nobody knows has nothing to tell, and that is no error.
    let unknown = frames::public("unknown");
    let mut poller = Poller::open(nodes.client()).await?;
    let line = frames::subscribe_with_history(&unknown, &json!({"since": 0}));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(
        frames::kinds(&frames),
        ["confirm_subscription", "confirm_history"]
    );
    Ok(())
}

async fn what_history_cannot_tell_is_rejected_and_nothing_is_sent(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    // The history holds ten.
    publish(&nodes.publisher, 15).await?;
    let mut seen = Vec::new();
    while seen.len() < 15 {
        seen.extend(poller.poll().await?.frames);
    }
    let epoch = position(&seen[0])?.1;
    let a = frames::public("a");
    let bad = [
        at(15, "another"),
        at(4, &epoch),
        at(0, &epoch),
        at(16, &epoch),
    ];
    for request in bad {
        let frames = ask(&mut poller, &frames::history(&a, &request)).await?;
        assert_eq!(frames::kinds(&frames), ["reject_history"], "{request}");
        assert_eq!(frames[0]["identifier"], a);
    }
    let frames = ask(&mut poller, &frames::history(&a, &at(5, &epoch))).await?;
    assert_eq!(frames.len(), 11, "the oldest that is kept");
    let unknown = frames::public("unknown");
    poller.subscribe(&unknown).await?;
    let request = json!({"streams": {"unknown": {"offset": 1, "epoch": epoch}}});
    let frames = ask(&mut poller, &frames::history(&unknown, &request)).await?;
    assert_eq!(frames::kinds(&frames), ["reject_history"]);
    Ok(())
}

async fn a_request_that_asks_for_nothing_is_a_mistake_without_an_answer(
    broker: Broker,
) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    let line = frames::history(&frames::public("a"), &json!({}));
    let answer = poller.poll_with(&line).await?;
    assert_eq!(answer.response.status, 204, "{:?}", answer.frames);
    assert_eq!(nodes.client().metric("failed_client_msg_total").await?, 1.0);
    Ok(())
}

async fn transient_messages_are_not_kept(broker: Broker) -> Result<()> {
    let nodes = broker.with_ten().await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    let body = json!({"stream": "a", "data": "1", "meta": {"transient": true}}).to_string();
    assert_eq!(nodes.publisher.broadcast(&body).await?.status, 201);
    nodes.publisher.publish("a", &2.into()).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(poller.poll().await?.frames);
    }
    assert!(seen[0].get("offset").is_none(), "{}", seen[0]);
    assert_eq!(position(&seen[1])?.0, 1);
    let line = frames::history(&frames::public("a"), &json!({"since": 0}));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(frames::messages(&frames), [2]);
    Ok(())
}

async fn without_history_every_request_is_rejected(broker: Broker) -> Result<()> {
    let flags = [("poll_interval", "0.3"), ("history_limit", "0")];
    let nodes = broker.start(&flags).await?;
    let mut poller = Poller::subscribed(nodes.client(), &["a"]).await?;
    publish(&nodes.publisher, 2).await?;
    assert_eq!(poller.messages(2).await?, [1, 2]);
    let line = frames::history(&frames::public("a"), &at(0, "x"));
    let frames = ask(&mut poller, &line).await?;
    assert_eq!(frames::kinds(&frames), ["reject_history"]);
    Ok(())
}
