//! A node and the application that decides for it: what is asked, what is made of the answers,
//! and what happens when there are none.

/// Runs each scenario with an application that speaks HTTP, and with one that speaks gRPC.
macro_rules! over_both {
    ($($scenario:ident),+ $(,)?) => {
        mod over_http {
            $(#[tokio::test]
            async fn $scenario() -> anyhow::Result<()> {
                Box::pin(super::$scenario(pollux_testkit::Face::Http)).await
            })+
        }
        mod over_grpc {
            $(#[tokio::test]
            async fn $scenario() -> anyhow::Result<()> {
                Box::pin(super::$scenario(pollux_testkit::Face::Grpc)).await
            })+
        }
    };
}

mod channels;
mod connect;
mod endings;
mod failures;
mod forwarding;
mod grpc;
mod http;
mod order;
mod resume;
mod state;
mod tokens;

use anyhow::{Context as _, Result, ensure};
use pollux_testkit::{
    Backend, Cable, Face, Node, NodeBuilder, PATIENCE, PROTOCOLS, Poller, Request, Response, frames,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, thread, time::Duration};
use tokio::time::timeout;

const ANN: &str = r#"{"user":"ann"}"#;

/// When at the latest a client has its answer, whatever the application does: the three seconds
/// that a call is tried for, and what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_millis(3_500);

/// A node and its application. The node goes first.
struct Chat {
    node: Node,
    backend: Backend,
}

impl Drop for Chat {
    fn drop(&mut self) {
        // Nothing a test does makes a node break the protocol.
        if !thread::panicking() {
            assert!(self.backend.complaints().is_empty());
        }
    }
}

impl Chat {
    async fn start(face: Face) -> Result<Self> {
        Self::with(face, &[]).await
    }

    async fn with(face: Face, flags: &[(&str, &str)]) -> Result<Self> {
        let backend = Backend::builder(face).start().await?;
        let node = flags
            .iter()
            .fold(node(&backend), |node, (name, value)| node.flag(name, value));
        Ok(Self {
            node: node.spawn().await?,
            backend,
        })
    }

    /// A session of this user over long polling.
    async fn poller(&self, user: &str) -> Result<Poller> {
        Poller::from_open(self.node.address(), &self.open(user).await?)
    }

    /// The answer to a user's first request.
    async fn open(&self, user: &str) -> Result<Response> {
        let request = Request::post(&format!("/lp?user={user}"));
        self.node.ask(&request).await
    }

    /// A session of this user over a WebSocket.
    async fn cable(&self, user: &str) -> Result<Cable> {
        let path = format!("/cable?user={user}");
        Cable::open_at(self.node.address(), &path, PROTOCOLS).await
    }

    /// A socket of this user of which nothing is read yet.
    async fn socket(&self, user: &str) -> Result<Cable> {
        let path = format!("/cable?user={user}");
        Cable::connect(self.node.address(), &path, &[]).await
    }

    /// Waits until the node holds no session.
    async fn is_empty(&self) -> Result<()> {
        pollux_testkit::assert_eventually!(self.node.metric("clients_num").await? == 0.0, PATIENCE);
        Ok(())
    }
}

/// A node with this application.
fn node(backend: &Backend) -> NodeBuilder {
    Node::builder()
        .flag("rpc_host", &backend.url())
        .flag("poll_flush_interval", "0")
        // Some wait for an application for longer than pollers may be away.
        .flag("poll_keepalive_timeout", "60")
        .flag("broadcast_key", "key")
        .publish_with_key("key")
}

/// A channel of the chat.
fn room(name: &str) -> String {
    json!({"channel": "ChatChannel", "room": name}).to_string()
}

/// A channel without parameters.
fn channel(name: &str) -> String {
    json!({"channel": name}).to_string()
}

/// The line that does something on a channel.
fn perform(identifier: &str, data: &Value) -> String {
    let line = json!({"command": "message", "identifier": identifier, "data": data.to_string()});
    format!("{line}\n")
}

fn speak(identifier: &str, text: &str) -> String {
    perform(identifier, &json!({"action": "speak", "text": text}))
}

fn confirmed(identifier: &str) -> Value {
    json!({"type": "confirm_subscription", "identifier": identifier})
}

fn greeting(identifier: &str, user: &str) -> Value {
    json!({"identifier": identifier, "message": {"hello": user}})
}

fn echo(identifier: &str, text: &str, number: u64) -> Value {
    json!({"identifier": identifier, "message": {"said": text, "n": number}})
}

/// The frame of a refusal.
fn unauthorized() -> Value {
    json!({"type": "disconnect", "reason": "unauthorized", "reconnect": false})
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into_iter().collect()
}

/// Sends commands and polls until so many frames came.
async fn exchange(poller: &mut Poller, commands: &str, count: usize) -> Result<Vec<Value>> {
    let exchange = async {
        let mut seen = poller.poll_with(commands).await?.frames;
        while seen.len() < count {
            seen.extend(poller.poll().await?.frames);
        }
        Ok(seen)
    };
    timeout(PATIENCE, exchange)
        .await
        .context("too few frames")?
}

/// So many frames from a socket, positions left out.
async fn hear(cable: &mut Cable, count: usize) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(plain(cable.frame().await?));
    }
    Ok(seen)
}

/// A frame without its position.
fn plain(mut frame: Value) -> Value {
    if let Some(fields) = frame.as_object_mut() {
        for name in ["stream_id", "epoch", "offset"] {
            fields.remove(name);
        }
    }
    frame
}

/// Makes sure that a client which got this answer to its first request tries again: the words
/// of no other answer but 401 are read.
fn is_retryable(answer: &Response) -> Result<()> {
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(answer.header("x-anycable-poll-id").is_none(), "{answer:?}");
    Ok(())
}

/// Makes sure that a socket ends so that its client tries again.
async fn ends_retryably(mut socket: Cable) -> Result<()> {
    let (said, code, reason) = socket.ending().await?;
    ensure!(
        said.iter()
            .all(|frame| frames::kind(frame) == "disconnect" && frame["reconnect"] != false),
        "{said:?}"
    );
    ensure!(
        (code, reason.as_str()) == (1011, "Auth Error"),
        "{code} {reason}"
    );
    Ok(())
}
