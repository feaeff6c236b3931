//! The loops of golongpoll's own clients, as their sources have them.

use super::*;
use tokio::task::JoinHandle;

with_both_brokers! {
    the_go_client_sees_everything_once,
    the_javascript_client_sees_everything_once,
    clients_that_lose_answers_and_change_nodes_see_everything_once,
    a_client_of_several_categories_sees_everything_once,
}

/// What one turn of a loop brought.
enum Turn {
    Events(usize),
    Timeout,
}

/// `client.go`: keeps its last id over a timeout, whose time it takes if that is later.
struct GoClient {
    category: &'static str,
    since: i64,
    last: Option<String>,
    seen: Vec<Value>,
}

impl GoClient {
    fn start(category: &'static str) -> Self {
        Self {
            category,
            // Whole seconds.
            since: now() / 1_000 * 1_000,
            last: None,
            seen: Vec::new(),
        }
    }

    async fn turn(&mut self, node: &Node) -> Result<Turn> {
        // Go sorts the keys.
        let mut query = format!("category={}", self.category);
        if let Some(last) = &self.last {
            query += &format!("&last_id={last}");
        }
        query += &format!("&since_time={}&timeout=1", self.since);
        let answer = poll(node, &query).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body)?;
        ensure!(body.get("error").is_none(), "{body}");
        let Some(read) = body["events"].as_array().filter(|read| !read.is_empty()) else {
            let time = body["timestamp"].as_i64().context("no timestamp")?;
            self.since = self.since.max(time);
            return Ok(Turn::Timeout);
        };
        for event in read {
            // One that does not parse fails the whole answer.
            ensure!(event["timestamp"].is_i64() && is_uuid(id(event)), "{event}");
        }
        let last = read.last().context("no events")?;
        self.since = timestamp(last);
        self.last = Some(id(last).to_owned());
        self.seen
            .extend(read.iter().map(|event| event["data"].clone()));
        Ok(Turn::Events(read.len()))
    }
}

/// `client.js`: sends an empty last id at first, and does not move its time by a timeout.
struct JsClient {
    category: &'static str,
    since: i64,
    last: String,
    seen: Vec<Value>,
}

impl JsClient {
    async fn turn(&mut self, node: &Node) -> Result<Turn> {
        let query = format!(
            "category={}&timeout=1&since_time={}&last_id={}",
            self.category, self.since, self.last
        );
        let answer = poll(node, &query).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body)?;
        if let Some(read) = body["events"].as_array().filter(|read| !read.is_empty()) {
            for event in read {
                self.since = timestamp(event);
                self.last = id(event).to_owned();
                self.seen.push(event["data"].clone());
            }
            Ok(Turn::Events(read.len()))
        } else if body["timeout"].is_string() {
            Ok(Turn::Timeout)
        } else {
            anyhow::bail!("the client got an unexpected response: {body}")
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let is_dash = |at| matches!(at, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match byte {
            b'-' => is_dash(at),
            byte => !is_dash(at) && byte.is_ascii_hexdigit(),
        })
}

/// Publishes numbers on a connection that stays, as fast as it can.
fn publish_all(node: &Node, numbers: std::ops::RangeInclusive<u64>) -> JoinHandle<Result<()>> {
    publish_to(node, "a", numbers)
}

fn publish_to(
    node: &Node,
    category: &'static str,
    numbers: std::ops::RangeInclusive<u64>,
) -> JoinHandle<Result<()>> {
    let address = node.address();
    tokio::spawn(async move {
        let mut connection = Connection::open(address).await?;
        for number in numbers {
            let answer = connection
                .ask(&publish_request(category, &number.into()))
                .await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        Ok(())
    })
}

fn numbers(numbers: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    numbers.map(Value::from).collect()
}

/// In turns: at the same time as publications, in silence, and right after silence.
macro_rules! run {
    ($client:ident, $nodes:ident) => {
        let node = $nodes.polled();
        let publishing = publish_all(&$nodes.publisher, 1..=240);
        while $client.seen.len() < 240 {
            $client.turn(node).await?;
        }
        publishing.await??;
        assert!(matches!($client.turn(node).await?, Turn::Timeout));
        for round in 0..3_u64 {
            let first = 241 + round * 10;
            let publishing = publish_all(&$nodes.publisher, first..=first + 9);
            if round > 0 {
                // Published between two polls.
                publishing.await??;
            }
            while $client.seen.len() < usize::try_from(first)? + 9 {
                if let Turn::Events(count) = $client.turn(node).await? {
                    assert!(count > 0);
                }
            }
            assert!(matches!($client.turn(node).await?, Turn::Timeout));
        }
        assert_eq!($client.seen, numbers(1..=270));
    };
}

async fn the_go_client_sees_everything_once(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut client = GoClient::start("a");
    run!(client, nodes);
    // A client of before 1.3 has no id to send and sends this one.
    client.last = Some("00000000-0000-0000-0000-000000000000".to_owned());
    assert!(matches!(client.turn(nodes.polled()).await?, Turn::Timeout));
    Ok(())
}

async fn the_javascript_client_sees_everything_once(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[]).await?;
    let mut client = JsClient {
        category: "a",
        since: now() - 1,
        last: String::new(),
        seen: Vec::new(),
    };
    run!(client, nodes);
    Ok(())
}

/// Two publishers, and a dozen clients that poll one node, then the other, and often vanish before
/// they are answered.
async fn clients_that_lose_answers_and_change_nodes_see_everything_once(
    broker: Broker,
) -> Result<()> {
    let nodes = broker.start(&[("history_limit", "300")]).await?;
    let both = [&nodes.publisher, nodes.polled()];
    let publishing = [
        publish_all(both[0], 1..=150),
        publish_all(both[1], 1_001..=1_150),
    ];
    let follow = async |client: usize| {
        let mut reader = GoClient::start("a");
        let mut turn = client;
        while reader.seen.len() < 300 {
            let node = both[turn % 2];
            if turn.is_multiple_of(3) {
                let query = format!("category=a&since_time={}&timeout=1", reader.since);
                let mut vanishing = Connection::open(node.address()).await?;
                vanishing.send(&poll_request(&query)).await?;
                drop(vanishing);
            }
            reader.turn(node).await?;
            turn += 1;
        }
        anyhow::Ok(reader)
    };
    let readers = futures_util::future::try_join_all((0..12).map(follow)).await?;
    for publisher in publishing {
        publisher.await??;
    }
    for reader in &readers {
        assert_eq!(reader.seen, readers[0].seen);
    }
    let mut all = readers[0].seen.clone();
    all.sort_by_key(Value::as_u64);
    let expected: Vec<_> = (1..=150).chain(1_001..=1_150).map(Value::from).collect();
    assert_eq!(all, expected);
    Ok(())
}

/// Our extension, with a publisher for each of them.
async fn a_client_of_several_categories_sees_everything_once(broker: Broker) -> Result<()> {
    let nodes = broker.start(&[("history_limit", "300")]).await?;
    let both = [&nodes.publisher, nodes.polled()];
    let publishing = [
        publish_to(both[0], "a", 1..=150),
        publish_to(both[1], "b", 1_001..=1_150),
        publish_to(both[0], "c", 2_001..=2_150),
    ];
    let follow = async |client: usize| {
        let mut reader = GoClient::start("a&category=b&category=c");
        let mut turn = client;
        while reader.seen.len() < 450 {
            reader.turn(both[turn % 2]).await?;
            turn += 1;
        }
        anyhow::Ok(reader)
    };
    let readers = futures_util::future::try_join_all((0..6).map(follow)).await?;
    for publisher in publishing {
        publisher.await??;
    }
    for reader in &readers {
        let of = |range: std::ops::RangeInclusive<u64>| {
            let seen = reader.seen.iter().filter_map(Value::as_u64);
            seen.filter(|number| range.contains(number))
                .collect::<Vec<_>>()
        };
        for range in [1..=150, 1_001..=1_150, 2_001..=2_150] {
            assert_eq!(of(range.clone()), range.collect::<Vec<_>>());
        }
    }
    Ok(())
}
