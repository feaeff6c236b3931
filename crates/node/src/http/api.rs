//! `/api`: publishing, and who is present, for backends. `/admin`: what a node holds, for whoever
//! has the same key.

mod admin;

use super::{BroadcastDoor, body::AnswerBody, problem::Problem};
use crate::node::Report;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use pollux_protocol::StreamName;

/// Where publications go.
const PUBLISH: &str = "/api/publish";

/// What presence queries begin and end with.
const PRESENCE: (&str, &str) = ("/api/presence/", "/users");

/// The REST API.
#[derive(Clone, Debug)]
pub(crate) struct ApiDoor {
    /// Takes publications, and knows who may ask.
    pub(crate) publish: BroadcastDoor,
    /// Whether it tells what the node holds: with a key, or in development mode.
    pub(crate) is_admin: bool,
    /// What the node says of itself.
    pub(crate) report: Report,
}

impl ApiDoor {
    /// Serves one request.
    pub(crate) async fn serve(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let path = request.uri().path();
        if path == PUBLISH {
            return self.publish.serve(request).await;
        }
        let (start, end) = PRESENCE;
        let stream = path
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .and_then(decoded);
        match stream {
            Some(stream) => {
                let (head, _body) = request.into_parts();
                self.presence(&head, &stream).await
            }
            None => {
                let reason = "there is /api/publish and /api/presence/<stream>/users";
                Problem::because("not found", reason).answer(StatusCode::NOT_FOUND)
            }
        }
    }

    async fn presence(&self, head: &Parts, stream: &StreamName) -> Response<AnswerBody> {
        if head.method != Method::GET {
            let problem = Problem::because("method", "presence is asked for with GET");
            return problem.answer(StatusCode::UNPROCESSABLE_ENTITY);
        }
        if let Err(refusal) = self.publish.admit(&head.headers) {
            return *refusal;
        }
        match self.publish.runtime.who_is_present(stream, true).await {
            Ok(info) => {
                let mut response = Response::new(AnswerBody::Plain(info.as_bytes().clone()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => self.publish.failed(&error),
        }
    }
}

/// A path's segment as the stream it names.
fn decoded(segment: &str) -> Option<StreamName> {
    // What has a meaning in forms has none here.
    let mut plain = String::with_capacity(segment.len());
    for letter in segment.chars() {
        match letter {
            '+' => plain.push_str("%2B"),
            '=' => plain.push_str("%3D"),
            '&' => plain.push_str("%26"),
            letter => plain.push(letter),
        }
    }
    let mut pairs = form_urlencoded::parse(plain.as_bytes());
    let (name, _) = pairs.next()?;
    StreamName::try_new(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_decoded() {
        let name = |segment| decoded(segment).map(|name| name.as_str().to_owned());
        assert_eq!(name("chat%2F1").as_deref(), Some("chat/1"));
        assert_eq!(name("a+b%20c=d&e").as_deref(), Some("a+b c=d&e"));
        assert_eq!(name(""), None);
    }
}
