//! How far a subscriber has come: what it listens to, and what it has of each stream.

use crate::Trouble;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// What was published.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// The stream, if the frame or the subscription names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The subscription, if the stream is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// What kind of message it is, if it is no plain one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The message as it was published.
    pub message: Box<RawValue>,
    /// Which numbering its position belongs to, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Its number in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// What a frame comes to.
#[derive(Debug)]
pub(crate) enum Taken {
    Message(Box<Message>),
    /// All that was asked for is confirmed.
    Ready,
    /// Messages may have been lost.
    Gap,
    /// The node lives, and will say so again.
    Ping,
    Nothing,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Progress {
    subscriptions: Vec<Subscription>,
    /// What the node calls the session.
    pub(crate) sid: Option<String>,
}

#[derive(Debug)]
struct Subscription {
    identifier: String,
    /// The stream, where the identifier names it in plain.
    stream: Option<String>,
    /// When it was confirmed for the first time, in seconds since 1970. What came since then and
    /// was not delivered was lost.
    since: Option<u64>,
    /// The last position of each of its streams.
    positions: BTreeMap<String, Position>,
    is_confirmed: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Position {
    epoch: String,
    offset: u64,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: Option<String>,
    identifier: Option<String>,
    message: Option<Box<RawValue>>,
    stream_id: Option<String>,
    epoch: Option<String>,
    offset: Option<u64>,
    sid: Option<String>,
    reason: Option<String>,
    reconnect: Option<bool>,
}

impl Progress {
    /// Subscriptions by their identifiers, each with its stream where that is known.
    pub(crate) fn new(subscriptions: Vec<(String, Option<String>)>) -> Self {
        let subscriptions = subscriptions.into_iter();
        Self {
            subscriptions: subscriptions
                .map(|(identifier, stream)| Subscription {
                    identifier,
                    stream,
                    since: None,
                    positions: BTreeMap::new(),
                    is_confirmed: false,
                })
                .collect(),
            sid: None,
        }
    }

    /// What a new session is told, a line for each subscription: to begin, or to go on behind what
    /// is there already.
    pub(crate) fn commands(&mut self) -> Vec<String> {
        let commands = self.subscriptions.iter_mut().map(|subscription| {
            subscription.is_confirmed = false;
            let mut command = json!({
                "command": "subscribe",
                "identifier": subscription.identifier,
            });
            if let Some(since) = subscription.since {
                command["history"] = json!({"since": since, "streams": subscription.positions});
            }
            command.to_string()
        });
        commands.collect()
    }

    pub(crate) fn take(&mut self, line: &str) -> Result<Taken, Trouble> {
        let Ok(frame) = serde_json::from_str::<Frame>(line) else {
            // The node may be of a later version.
            return Ok(Taken::Nothing);
        };
        match frame.kind.as_deref() {
            Some("welcome") => {
                self.sid = frame.sid;
                Ok(Taken::Nothing)
            }
            Some("ping") => Ok(Taken::Ping),
            Some("disconnect") if frame.reconnect == Some(false) => {
                let reason = frame.reason.unwrap_or_default();
                Err(Trouble::Refused {
                    status: matches!(&*reason, "unauthorized" | "token_expired").then_some(401),
                    why: format!("the node ended the session: {reason}"),
                })
            }
            Some("disconnect") => Err(Trouble::Over),
            Some("confirm_subscription") => Ok(self.confirm(frame.identifier.as_deref())),
            Some("reject_subscription") => {
                let subscription = self.find(frame.identifier.as_deref());
                let what = subscription.map_or("a subscription", |subscription| {
                    let stream = subscription.stream.as_deref();
                    stream.unwrap_or(&subscription.identifier)
                });
                Err(Trouble::Refused {
                    status: None,
                    why: format!("the node refused the subscription to {what}"),
                })
            }
            Some("reject_history") => {
                let Some(subscription) = self.find(frame.identifier.as_deref()) else {
                    return Ok(Taken::Nothing);
                };
                subscription.positions.clear();
                subscription.since = Some(now());
                Ok(Taken::Gap)
            }
            _ => Ok(self.message(frame)),
        }
    }

    fn confirm(&mut self, identifier: Option<&str>) -> Taken {
        if let Some(subscription) = self.find(identifier) {
            subscription.is_confirmed = true;
            subscription.since.get_or_insert_with(now);
        }
        match self.subscriptions.iter().all(|known| known.is_confirmed) {
            true => Taken::Ready,
            false => Taken::Nothing,
        }
    }

    fn message(&mut self, frame: Frame) -> Taken {
        let (Some(message), Some(identifier)) = (frame.message, frame.identifier) else {
            return Taken::Nothing;
        };
        let Some(subscription) = self.find(Some(&identifier)) else {
            return Taken::Nothing;
        };
        if let (Some(stream), Some(epoch), Some(offset)) =
            (&frame.stream_id, &frame.epoch, frame.offset)
        {
            let last = subscription.positions.get(stream);
            if last.is_some_and(|last| last.epoch == *epoch && offset <= last.offset) {
                return Taken::Nothing;
            }
            let position = Position {
                epoch: epoch.clone(),
                offset,
            };
            subscription.positions.insert(stream.clone(), position);
        }
        let stream = frame.stream_id.or_else(|| subscription.stream.clone());
        Taken::Message(Box::new(Message {
            identifier: stream.is_none().then_some(identifier),
            stream,
            kind: frame.kind,
            message,
            epoch: frame.epoch,
            offset: frame.offset,
        }))
    }

    fn find(&mut self, identifier: Option<&str>) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| Some(subscription.identifier.as_str()) == identifier)
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress::new(vec![("one".to_owned(), Some("s".to_owned()))])
    }

    fn message(offset: u64, epoch: &str) -> String {
        json!({
            "identifier": "one", "message": {"n": offset}, "stream_id": "s",
            "epoch": epoch, "offset": offset,
        })
        .to_string()
    }

    fn is_message(taken: &Taken) -> bool {
        matches!(taken, Taken::Message(_))
    }

    #[test]
    fn what_was_had_is_not_told_twice_but_what_follows_is() {
        let mut progress = progress();
        for (offset, epoch, is_told) in [
            (1, "a", true),
            (2, "a", true),
            (2, "a", false),
            (1, "a", false),
            (3, "a", true),
            (1, "b", true),
        ] {
            let taken = progress.take(&message(offset, epoch)).unwrap();
            assert_eq!(is_message(&taken), is_told, "{offset}/{epoch}");
        }
    }

    #[test]
    fn a_new_session_goes_on_where_the_last_one_ended() {
        let mut progress = progress();
        assert!(!progress.commands()[0].contains("history"));
        let confirm = r#"{"type":"confirm_subscription","identifier":"one"}"#;
        assert!(matches!(progress.take(confirm).unwrap(), Taken::Ready));
        progress.take(&message(7, "a")).unwrap();
        let command: serde_json::Value = serde_json::from_str(&progress.commands()[0]).unwrap();
        let streams = &command["history"]["streams"];
        assert_eq!(*streams, json!({"s": {"epoch": "a", "offset": 7}}));
        assert!(command["history"]["since"].is_u64());

        let rejected = r#"{"type":"reject_history","identifier":"one"}"#;
        assert!(matches!(progress.take(rejected).unwrap(), Taken::Gap));
        let command: serde_json::Value = serde_json::from_str(&progress.commands()[0]).unwrap();
        assert_eq!(command["history"]["streams"], json!({}));
    }

    #[test]
    fn ends_are_told_apart() {
        let mut progress = progress();
        let mut trouble = |line: &str| progress.take(line).unwrap_err();
        let end = |reconnect: bool| {
            json!({"type": "disconnect", "reason": "remote", "reconnect": reconnect}).to_string()
        };
        assert!(matches!(trouble(&end(true)), Trouble::Over));
        assert!(matches!(trouble(&end(false)), Trouble::Refused { .. }));
        let rejected = r#"{"type":"reject_subscription","identifier":"one"}"#;
        assert!(trouble(rejected).to_string().ends_with("to s"));
    }

    #[test]
    fn a_message_without_a_stream_is_told_by_its_identifier() {
        let mut progress = Progress::new(vec![("two".to_owned(), None)]);
        let line = r#"{"type":"x","identifier":"two","message":"m"}"#;
        let Taken::Message(message) = progress.take(line).unwrap() else {
            panic!("no message");
        };
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"identifier":"two","type":"x","message":"m"}"#
        );
        for nonsense in ["", "{", "7", r#"{"identifier":"other","message":1}"#] {
            assert!(matches!(progress.take(nonsense).unwrap(), Taken::Nothing));
        }
    }
}
