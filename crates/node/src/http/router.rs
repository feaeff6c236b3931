//! Which path leads to which door.

use super::{
    api::ApiDoor, body::AnswerBody, broadcast::BroadcastDoor, cable::CableDoor,
    category::CategoryDoor, events::EventDoor, mailbox::MailboxDoor, ops, poll::PollDoor,
    problem::Problem, room::RoomDoor, visitor,
};
use crate::{rooms::Rooms, runtime::Runtime};
use axum::{Router, extract::Request, routing};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;

/// All doors of a node, and where they are.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) poll: Option<(String, PollDoor)>,
    pub(crate) cable: Option<(Vec<String>, CableDoor)>,
    pub(crate) events: Option<(String, EventDoor)>,
    /// Where it is polled, and where it takes publications.
    pub(crate) category: Option<([String; 2], CategoryDoor)>,
    pub(crate) broadcast: Option<(String, BroadcastDoor)>,
    /// Where it is polled, and where pushed.
    pub(crate) mailbox: Option<([String; 2], MailboxDoor)>,
    pub(crate) room: Option<RoomRoutes>,
    pub(crate) api: Option<ApiDoor>,
    pub(crate) ops: Ops,
}

/// What operators and their tools ask for.
#[derive(Clone, Debug)]
pub(crate) struct Ops {
    pub(crate) runtime: Arc<Runtime>,
    /// They have metrics of their own.
    pub(crate) rooms: Option<Arc<Rooms>>,
    pub(crate) health_path: String,
    pub(crate) ready_path: String,
    /// Where the metrics are, if they are on this port.
    pub(crate) metrics_path: Option<String>,
    /// Whether the console page is on this port.
    pub(crate) console: bool,
}

impl Doors {
    /// What operators and their tools ask for, and no door for anybody else.
    pub(crate) const fn none_but(ops: Ops) -> Self {
        Self {
            poll: None,
            cable: None,
            events: None,
            category: None,
            broadcast: None,
            mailbox: None,
            room: None,
            api: None,
            ops,
        }
    }
}

/// Where rooms are.
#[derive(Clone, Debug)]
pub(crate) struct RoomRoutes {
    pub(crate) door: RoomDoor,
    pub(crate) poll: String,
    pub(crate) send: String,
    pub(crate) sockets: Vec<String>,
    /// Whether history can be read.
    pub(crate) history: bool,
}

/// Every door of a port.
pub(crate) fn router(doors: Doors) -> Router {
    let Doors {
        poll,
        cable,
        events,
        category,
        broadcast,
        mailbox,
        room,
        api,
        ops,
    } = doors;
    let console = ops.console;
    let mut router = watch_router(ops);
    if console {
        router = router
            .route("/", routing::get(async || other(ops::console())))
            .route("/pollux.js", routing::get(async || other(ops::client())));
    }
    if let Some((path, door)) = poll {
        let serve = async move |request: Request| other(door.serve(request, None).await);
        router = router.route(&path, routing::any(serve));
    }
    if let Some((paths, door)) = cable {
        for path in paths {
            let door = door.clone();
            let serve = async move |request: Request| door.serve(request).await;
            router = router.route(&path, routing::get(serve));
        }
    }
    if let Some((path, door)) = events {
        let serve = async move |request: Request| door.serve(request).await;
        router = router.route(&path, routing::any(serve));
    }
    if let Some(([poll, push], door)) = mailbox {
        let pusher = door.clone();
        let serve = async move |request: Request| other(door.poll(request).await);
        router = router.route(&poll, routing::any(serve));
        let serve = async move |request: Request| other(pusher.push(request).await);
        router = router.route(&push, routing::any(serve));
    }
    if let Some(routes) = room {
        router = router.merge(room_router(routes));
    }
    if let Some(door) = api {
        if door.is_admin {
            let door = door.clone();
            let serve = async move |request: Request| other(door.admin(&request));
            router = router.route("/admin/{*path}", routing::any(serve));
        }
        let serve = async move |request: Request| other(door.serve(request).await);
        router = router.route("/api/{*path}", routing::any(serve));
    }
    if let Some((paths, door)) = category {
        router = router.merge(category_router(&paths, door));
    }
    if let Some((path, door)) = broadcast {
        router = router.merge(broadcast_router(&path, door));
    }
    router.fallback(not_found)
}

async fn not_found() -> Response<axum::body::Body> {
    other(Problem::because("not found", "no door has this path").answer(StatusCode::NOT_FOUND))
}

/// What tools of operators ask for.
fn watch_router(ops: Ops) -> Router {
    let Ops {
        runtime,
        rooms,
        health_path,
        ready_path,
        metrics_path,
        ..
    } = ops;
    let ready = Arc::clone(&runtime);
    let mut router = Router::new()
        .route(&health_path, routing::get(async || other(ops::health())))
        .route(
            &ready_path,
            routing::get(async move || other(ops::ready(&ready))),
        );
    if let Some(path) = metrics_path {
        let serve = async move |headers: HeaderMap| {
            let more = match rooms {
                Some(rooms) => rooms.families().await,
                None => Vec::new(),
            };
            other(ops::metrics(&runtime, &headers, &more))
        };
        router = router.route(&path, routing::get(serve));
    }
    router
}

/// What is served to connections that are too many: tools of operators only,
/// one request each.
pub(crate) fn spare_router(ops: Ops) -> Router {
    let runtime = Arc::clone(&ops.runtime);
    watch_router(ops)
        .fallback(async move || {
            runtime.metrics.refused_connections.inc();
            other(visitor::busy())
        })
        .layer(axum::middleware::map_response(
            async |mut answer: Response<axum::body::Body>| {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
                answer
            },
        ))
}

/// The category doors alone: where they are polled, and where they take
/// publications.
pub(crate) fn category_router([polls, publications]: &[String; 2], door: CategoryDoor) -> Router {
    let publish = {
        let door = door.clone();
        async move |request: Request| other(door.publish(request).await)
    };
    let poll = async move |request: Request| other(door.poll(request).await);
    Router::new()
        .route(polls, routing::any(poll))
        .route(publications, routing::any(publish))
}

/// The publishing door alone, for a port of its own.
pub(crate) fn broadcast_router(path: &str, door: BroadcastDoor) -> Router {
    let serve = async move |request: Request| other(door.serve(request).await);
    Router::new().route(path, routing::any(serve))
}

fn room_router(routes: RoomRoutes) -> Router {
    let RoomRoutes {
        door,
        poll,
        send,
        sockets,
        history,
    } = routes;
    let mut router = Router::new();
    let room = door.clone();
    let serve = async move |request: Request| other(room.poll(request).await);
    router = router.route(&poll, routing::any(serve));
    let room = door.clone();
    let serve = async move |request: Request| other(room.send(request).await);
    router = router.route(&send, routing::any(serve));
    for path in sockets {
        let room = door.clone();
        let serve = async move |request: Request| room.connect(request).await;
        router = router.route(&path, routing::any(serve));
    }
    if history {
        let room = door.clone();
        let serve = async move |request: Request| other(room.messages(request).await);
        router = router.route("/rooms/{room}/messages", routing::any(serve));
        let serve = async move |request: Request| other(door.replay(request).await);
        router = router.route("/replay/{start_id}", routing::any(serve));
    }
    router
}

/// An answer as axum wants it.
fn other(response: Response<AnswerBody>) -> Response<axum::body::Body> {
    response.map(axum::body::Body::new)
}
