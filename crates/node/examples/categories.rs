//! Category polling under an application's own paths, with its own access check.
//!
//! ```text
//! cargo run -p pollux-node --example categories
//! curl 'http://127.0.0.1:8000/advanced/events?timeout=30&category=public_actions' &
//! curl -d '{"category":"public_actions","data":"hello"}' http://127.0.0.1:8000/advanced/publish
//! curl 'http://127.0.0.1:8000/advanced/events?timeout=5&category=larry_actions'
//! curl 'http://127.0.0.1:8000/advanced/events?timeout=5&category=larry_actions&user=larry'
//! ```
//!
//! Each user has a category of its own, which nobody else may poll. Who asks is
//! taken from the query here; an application knows it from its own sessions.

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing,
};
use pollux_node::{Config, Node};
use std::collections::HashMap;
use tokio::net::TcpListener;

/// The category of a user ends with this.
const PRIVATE: &str = "_actions";
/// Except for the one that everybody may read.
const PUBLIC: &str = "public_actions";

#[expect(
    clippy::disallowed_methods,
    reason = "an application brings its own server; this is axum's"
)]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::builder()
        .config(Config {
            category_path: "/events".to_owned(),
            category_publish_path: "/publish".to_owned(),
            ..Config::default()
        })
        .build()?;
    let doors = node
        .category_router()
        .layer(middleware::from_fn(only_the_owner));
    let app = Router::new()
        .route("/", routing::get("See the head of this example."))
        .nest("/advanced", doors);
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    Ok(axum::serve(listener, app).await?)
}

async fn only_the_owner(request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
    let category = query
        .get("category")
        .map_or("", |category| category.as_ref());
    let user = query.get("user").map_or("", |user| user.as_ref());
    match category.strip_suffix(PRIVATE) {
        Some(owner) if category != PUBLIC && owner != user => {
            (StatusCode::FORBIDDEN, "This category is somebody else's.\n").into_response()
        }
        _ => next.run(request).await,
    }
}
