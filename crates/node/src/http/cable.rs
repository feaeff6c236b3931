//! `GET /cable`: the handshake of a WebSocket, then [`Socket`].

use super::{body::AnswerBody, cors::Origins, problem::Problem};
use crate::{
    auth::ConnectRequest,
    runtime::{Admitted, Runtime},
    server::Counted,
    socket::{Pace, Socket, SocketConfig, refuse},
};
use axum::extract::{FromRequestParts as _, Request, WebSocketUpgrade};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use std::sync::Arc;

/// Speaks positions, resume and pong timeouts. The better one, so it is first:
/// the first of ours that the client offers is chosen.
const EXTENDED: &str = "actioncable-v1-ext-json";

/// What Rails speaks.
const BASE: &str = "actioncable-v1-json";

/// The WebSocket route.
#[derive(Clone, Debug)]
pub(crate) struct CableDoor {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) origins: Origins,
    pub(crate) config: SocketConfig,
}

impl CableDoor {
    /// Serves one request.
    pub(crate) async fn serve(&self, request: Request) -> Response<axum::body::Body> {
        match self.upgrade(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.map(axum::body::Body::new),
        }
    }

    async fn upgrade(
        &self,
        request: Request,
    ) -> Result<Response<axum::body::Body>, Response<AnswerBody>> {
        let (mut head, _body) = request.into_parts();
        // Unlike a poll, a socket without an origin is refused where there is a
        // list: every browser sends one.
        let origin = head.headers.get(header::ORIGIN);
        if !self.origins.is_any() && (origin.is_none() || !self.origins.allow(origin)) {
            let problem = Problem::because("origin", "pages of this origin may not connect");
            return Err(problem.answer(StatusCode::FORBIDDEN));
        }
        let offered = offered(&head.headers);
        if head.version == Version::HTTP_2 {
            let problem = Problem::because("upgrade", "WebSocket is spoken over HTTP/1.1 only");
            return Err(problem.answer(StatusCode::UPGRADE_REQUIRED));
        }
        let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &())
            .await
            .map_err(|_| not_a_handshake())?;
        let chosen = [EXTENDED, BASE]
            .into_iter()
            .find(|ours| offered.iter().any(|theirs| theirs == ours));
        if chosen.is_none() && !offered.is_empty() {
            let problem = Problem::because("protocol", "none of the offered protocols is spoken");
            return Err(problem.answer(StatusCode::BAD_REQUEST));
        }
        let connect = ConnectRequest::of(&head);
        let query = connect.query;
        let source = self.runtime.source(&connect);
        let verdict = self.runtime.let_in(connect).await;
        let limits = |upgrade: WebSocketUpgrade| {
            // Small buffers: what lives as long as the socket is what costs.
            upgrade
                .protocols([EXTENDED, BASE])
                .read_buffer_size(4_096)
                .write_buffer_size(0)
                .max_write_buffer_size(self.config.max_pending)
                .max_message_size(self.config.max_message_size)
                .max_frame_size(self.config.max_message_size)
        };
        let Admitted { client, earlier } = match verdict {
            Ok(admitted) => admitted,
            Err(rejected) => {
                let timeout = self.config.write_timeout;
                return Ok(
                    limits(upgrade).on_upgrade(move |socket| refuse(socket, rejected, timeout))
                );
            }
        };
        let Some(session) = self.runtime.open_socket(client, source) else {
            let problem = Problem::because("busy", "the node takes no more clients now");
            return Err(problem.answer(StatusCode::SERVICE_UNAVAILABLE));
        };
        let socket = Socket {
            runtime: Arc::clone(&self.runtime),
            session,
            earlier,
            pace: Pace::of(&self.config, query, chosen == Some(EXTENDED)),
        };
        // It counts as a connection for as long as it lives.
        let counted = head.extensions.remove::<Arc<Counted>>();
        let tasks = self.runtime.tasks.clone();
        Ok(limits(upgrade).on_upgrade(move |stream| {
            tasks.track_future(async move {
                Box::pin(socket.run(stream)).await;
                drop(counted);
            })
        }))
    }
}

/// The protocols a client offers, in its order.
fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.is_empty())
        .collect()
}

fn not_a_handshake() -> Response<AnswerBody> {
    let problem = Problem::because("upgrade", "this path speaks WebSocket, version 13");
    let mut response = problem.answer(StatusCode::UPGRADE_REQUIRED);
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
