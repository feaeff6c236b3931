//! One connection's requests, sent to their doors.

use super::accept::Counted;
use crate::http::{AnswerBody, InFlight, PollDoor};
use axum::{Router, extract::ConnectInfo};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tower::ServiceExt as _;

/// What a listener serves: shared by all its connections.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Whether connections start in the parking lot.
    pub(crate) in_lot: bool,
    /// The poll route, if it is served here. Nothing stands between it and the
    /// connection: no router, no layers. The parking lot serves it too.
    pub(crate) poll: Option<(String, PollDoor)>,
    /// Every other path.
    pub(crate) router: Router,
    /// What a few connections get that are too many; `None`: they get nothing.
    pub(crate) spare: Option<Arc<Self>>,
    /// Seconds instead of the operator's time for a request, where places are
    /// few.
    pub(crate) hurries: bool,
}

impl Service {
    /// A router, and nothing for connections that are too many.
    pub(crate) const fn new(router: Router) -> Self {
        Self {
            in_lot: false,
            poll: None,
            router,
            spare: None,
            hurries: false,
        }
    }

    /// The same with what a few connections get that are too many.
    pub(crate) fn with_spare(self, router: Router) -> Self {
        let spare = Self {
            hurries: true,
            ..Self::new(router)
        };
        Self {
            spare: Some(Arc::new(spare)),
            ..self
        }
    }

    /// Serves one request of the connection that `in_flight` belongs to.
    pub(super) async fn call(
        self: Arc<Self>,
        in_flight: Arc<InFlight>,
        counted: Option<Arc<Counted>>,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        in_flight.next_request();
        if let Some((path, door)) = &self.poll
            && request.uri().path() == path
        {
            return Ok(door.serve(request, Some(in_flight)).await);
        }
        if let Some(peer) = in_flight.peer() {
            let peer = ConnectInfo(SocketAddr::new(peer, 0));
            request.extensions_mut().insert(peer);
        }
        // For doors whose answers must not be lost.
        request.extensions_mut().insert(Arc::clone(&in_flight));
        if let Some(counted) = counted {
            request.extensions_mut().insert(counted);
        }
        // Boxed, so that a parked poll is not as large as the largest of all
        // other requests.
        let response = Box::pin(self.router.clone().oneshot(request)).await?;
        Ok(response.map(AnswerBody::Other))
    }
}
