//! An application that serves its own pages and all of Pollux's doors, and
//! publishes from its own code.
//!
//! ```text
//! cargo run -p pollux-node --example clock
//! curl -N 'http://127.0.0.1:8000/events?stream=clock'
//! ```

use axum::{Router, response::Html, routing};
use pollux_node::Node;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;

/// Shows what comes.
const PAGE: &str = "<!doctype html><title>Clock</title><h1>Wait\u{2026}</h1><script>
new EventSource('/events?stream=clock').onmessage =
  event => document.querySelector('h1').textContent = JSON.parse(event.data).now
</script>";

#[expect(
    clippy::disallowed_methods,
    reason = "an application brings its own server; this is axum's"
)]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Arc::new(Node::builder().build()?);
    // The node's own page, if it has one, is at the same path.
    let app = Router::new()
        .route("/clock", routing::get(async || Html(PAGE)))
        .merge(node.router());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let data = format!("{{\"now\":{}}}", now.as_secs());
            // With a broker that is away this fails; the next one may not.
            if let Err(error) = node.publish("clock", &data).await {
                tracing::warn!(%error, "The time was not told");
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    Ok(axum::serve(listener, app).await?)
}
