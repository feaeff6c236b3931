//! What was said in a room, as far as its stream's history reaches.
//!
//! A message without an id goes by the time it was published, in microseconds,
//! with leading zeros: so ids sort as messages do.

use super::{RoomDoor, bad_name, error, json, wrong_method};
use crate::{
    http::{
        body::AnswerBody,
        visitor::{self, Refusal},
    },
    rooms::stream_of_room,
};
use http::{Method, Request, Response, StatusCode, request::Parts};
use pollux_broker::{Entry, HistoryError, Since};
use pollux_protocol::RoomMessage;

/// Messages of a page that does not say.
const DEFAULT_LIMIT: usize = 50;

/// Digits of an id made of a time.
const DIGITS: usize = 20;

const SECONDS_A_DAY: u64 = 86_400;

impl RoomDoor {
    /// `/rooms/{room}/messages`: newest first, before `before_id` if given.
    pub(crate) async fn messages(
        &self,
        request: Request<axum::body::Body>,
    ) -> Response<AnswerBody> {
        let (head, _body) = request.into_parts();
        let answer = async {
            let room = part(&head, "/rooms/", "/messages")?;
            let mut messages = self.read(&head, &room).await?;
            if let Some(before) = parameter(&head, "before_id") {
                let at = messages.iter().position(|message| message.id >= before);
                messages.truncate(at.unwrap_or(messages.len()));
            }
            messages.reverse();
            messages.truncate(limit(&head));
            Ok(page(&messages, "room", &room))
        };
        let answer = answer.await.unwrap_or_else(|refusal: Refusal| *refusal);
        self.marked(&head, answer)
    }

    /// `/replay/{start_id}?room=`: oldest first, after that one.
    pub(crate) async fn replay(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, _body) = request.into_parts();
        let answer = async {
            let start = part(&head, "/replay/", "")?;
            let room = parameter(&head, "room").unwrap_or_default();
            let mut messages = self.read(&head, &room).await?;
            messages.retain(|message| message.id > start);
            messages.truncate(limit(&head));
            Ok(page(&messages, "start_id", &start))
        };
        let answer = answer.await.unwrap_or_else(|refusal: Refusal| *refusal);
        self.marked(&head, answer)
    }

    /// All there is, oldest first.
    async fn read(&self, head: &Parts, room: &str) -> Result<Vec<RoomMessage>, Refusal> {
        if head.method != Method::GET {
            return Err(wrong_method("GET"));
        }
        visitor::check_origin(&self.origins, &head.headers)?;
        visitor::admit(&self.rooms.runtime, head).await?;
        let stream = stream_of_room(room).map_err(|error| bad_name(&error))?;
        let broker = &self.rooms.runtime.broker;
        match broker.history(&stream, Since::Time(0)).await {
            Ok(history) => Ok(history.entries.iter().map(stored).collect()),
            Err(HistoryError::Broker(error)) => Err(Box::new(self.publishers.failed(&error))),
            Err(_) => Ok(Vec::new()),
        }
    }
}

/// A message with an id and a time.
fn stored(entry: &Entry) -> RoomMessage {
    let mut message = RoomMessage::of(&entry.publication);
    if message.id.is_empty() {
        message.id = format!("{:0DIGITS$}", entry.time);
    }
    if message.ts.is_empty() {
        message.ts = timestamp(entry.time / 1_000_000);
    }
    message
}

/// A time in UTC, as ISO 8601 has it.
fn timestamp(unix: u64) -> String {
    let (days, second) = (unix / SECONDS_A_DAY, unix % SECONDS_A_DAY);
    // Years that begin in March have their odd day at the end.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn page(messages: &[RoomMessage], name: &str, value: &str) -> Response<AnswerBody> {
    let mut body = format!("{{\"count\":{},\"messages\":", messages.len()).into_bytes();
    body.extend_from_slice(&super::array(messages));
    let value = serde_json::to_string(value).unwrap_or_default();
    body.extend_from_slice(format!(",\"{name}\":{value}}}").as_bytes());
    json(StatusCode::OK, AnswerBody::Plain(body.into()))
}

fn parameter(head: &Parts, name: &str) -> Option<String> {
    let query = head.uri.query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let found = found.last().map(|(_, value)| value.into_owned());
    found.filter(|value| !value.is_empty())
}

fn limit(head: &Parts) -> usize {
    let limit = parameter(head, "limit").and_then(|limit| limit.parse().ok());
    limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_LIMIT)
}

/// What stands between two pieces of the path, decoded.
fn part(head: &Parts, before: &str, after: &str) -> Result<String, Refusal> {
    let path = head.uri.path();
    let part = path
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    // A plus is a plus in a path.
    let part = part.unwrap_or_default().replace('+', "%2B");
    let pairs = form_urlencoded::parse(part.as_bytes());
    let decoded = pairs.map(|(key, _)| key.into_owned()).next();
    decoded
        .filter(|name| !name.is_empty())
        .ok_or_else(|| error(StatusCode::NOT_FOUND, "not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(unix), text);
        }
    }
}
