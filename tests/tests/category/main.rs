//! The category dialect, as golongpoll's clients see it: one test a promise, with both brokers
//! wherever the broker has a part in it. With Redis one node publishes and another is polled.

mod clients;
mod cluster;
mod cursor;
mod delete;
mod file;
mod leaving;
mod options;
mod publish;
mod query;
mod rights;
mod waiting;

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Connection, Node, PATIENCE, Redis, Request, Response, assert_eventually};
use serde_json::{Value, json};

/// What keeps the events.
#[derive(Clone, Copy, PartialEq)]
enum Broker {
    /// The node itself.
    Memory,
    /// A Redis, which the publisher's and the pollers' node share.
    Redis,
}

/// The nodes of one test.
struct Nodes {
    publisher: Node,
    /// `None` if there is one node for both.
    polled: Option<Node>,
    redis: Option<Redis>,
}

impl Broker {
    async fn start(self, flags: &[(&str, &str)]) -> Result<Nodes> {
        let builder = Node::builder();
        let builder = flags
            .iter()
            .fold(builder, |builder, (name, value)| builder.flag(name, value));
        let redis = match self {
            Self::Memory => None,
            Self::Redis => Some(Redis::spawn().await?),
        };
        let (builder, polled) = match &redis {
            None => (builder, None),
            Some(redis) => {
                let builder = builder.redis(redis);
                let polled = builder.clone().spawn_ready().await?;
                (builder, Some(polled))
            }
        };
        Ok(Nodes {
            publisher: builder.spawn_ready().await?,
            polled,
            redis,
        })
    }
}

impl Nodes {
    /// The node of the pollers.
    fn polled(&self) -> &Node {
        self.polled.as_ref().unwrap_or(&self.publisher)
    }

    /// Publishes through the category's own door.
    async fn publish(&self, category: &str, data: &Value) -> Result<()> {
        publish(&self.publisher, category, data).await
    }

    /// Polls and reads the answer.
    async fn poll(&self, query: &str) -> Result<Response> {
        poll(self.polled(), query).await
    }

    /// The events of a poll that finds some.
    async fn events(&self, query: &str) -> Result<Vec<Value>> {
        events(&self.poll(query).await?)
    }

    /// Polls until it waits, as the only ones.
    async fn park(&self, queries: &[&str]) -> Result<Vec<Connection>> {
        park(self.polled(), queries).await
    }

    /// Three events, named a, b and c, that happened in one millisecond.
    async fn three_at_once(&self) -> Result<(String, Vec<Value>)> {
        for attempt in 0..200 {
            let category = format!("at once {attempt}");
            let publication =
                |data: &str| json!({"stream": category, "data": format!("\"{data}\"")});
            let batch = Value::from(["a", "b", "c"].map(publication).to_vec());
            let answer = self.publisher.broadcast(&batch.to_string()).await?;
            ensure!(answer.status == 201, "{answer:?}");
            let query = format!("timeout=1&since_time=0&category={}", escaped(&category));
            let three = self.events(&query).await?;
            if three.len() == 3 && three[0]["timestamp"] == three[2]["timestamp"] {
                return Ok((category, three));
            }
        }
        anyhow::bail!("the machine is too slow for three events in one millisecond")
    }
}

/// Each test with each broker.
macro_rules! with_both_brokers {
    ($($test:ident),+ $(,)?) => {
        crate::with_both_brokers! { @ memory Memory $($test)+ }
        crate::with_both_brokers! { @ redis Redis $($test)+ }
    };
    (@ $module:ident $broker:ident $($test:ident)+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(crate::Broker::$broker).await
                }
            )+
        }
    };
}
pub(crate) use with_both_brokers;

const EVENTS: &str = "/longpoll/events";
const PUBLISH: &str = "/longpoll/publish";

/// A category as it stands in a query.
fn escaped(category: &str) -> String {
    category
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect()
}

fn poll_request(query: &str) -> Request {
    Request::get(&format!("{EVENTS}?{query}"))
}

async fn poll(node: &Node, query: &str) -> Result<Response> {
    node.ask(&poll_request(query)).await
}

fn publish_request(category: &str, data: &Value) -> Request {
    Request::post(PUBLISH).body(json!({"category": category, "data": data}).to_string())
}

async fn publish(node: &Node, category: &str, data: &Value) -> Result<()> {
    let answer = node.ask(&publish_request(category, data)).await?;
    ensure!(
        answer.status == 200 && answer.body == "{\"success\": true}",
        "{answer:?}"
    );
    Ok(())
}

/// Sends polls and waits until all of them wait, and no other.
async fn park(node: &Node, queries: &[&str]) -> Result<Vec<Connection>> {
    let mut parked = Vec::new();
    for query in queries {
        let mut connection = Connection::open(node.address()).await?;
        connection.send(&poll_request(query)).await?;
        parked.push(connection);
    }
    waiting(node, parked.len()).await?;
    Ok(parked)
}

/// Waits until so many polls wait.
async fn waiting(node: &Node, polls: usize) -> Result<()> {
    assert_eventually!(
        node.metric("category_waiting").await? == polls as f64,
        PATIENCE
    );
    Ok(())
}

/// The events of an answer.
fn events(answer: &Response) -> Result<Vec<Value>> {
    let body: Value = serde_json::from_slice(&answer.body).context("not JSON")?;
    let events = body["events"].as_array();
    Ok(events
        .with_context(|| format!("no events: {body}"))?
        .clone())
}

/// Makes sure that an answer is that of a poll that heard nothing, and returns its time.
fn nothing(answer: &Response) -> Result<i64> {
    ensure!(answer.status == 200, "{answer:?}");
    let text = answer.text()?;
    let rest = text.strip_prefix("{\"timeout\":\"no events before timeout\",\"timestamp\":");
    let digits = rest.and_then(|rest| rest.strip_suffix('}'));
    let digits = digits.with_context(|| format!("not a timeout: {text}"))?;
    Ok(digits.parse()?)
}

fn data(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["data"]).collect()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap_or_default()
}

fn timestamp(event: &Value) -> i64 {
    event["timestamp"].as_i64().unwrap_or_default()
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
