//! What a session that moves takes along, as the broker keeps it.

use crate::application::{Attended, Kept, Told};
use pollux_protocol::{
    Epoch, Frame, HistoryRequest, Identifier, Offset, Payload, Position, PresenceRequest,
    StreamName,
};
use pollux_session::{Departed, Remains, Session};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// See the module's head.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Luggage {
    pub(super) sid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identifiers: Option<Box<str>>,
    /// Seconds since 1970 when what the client proved counts no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<u64>,
    /// Seconds since 1970 when it left.
    left: i64,
    /// What the client has yet to get.
    frames: Vec<Box<RawValue>>,
    /// The number after those frames.
    end: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acked: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gap: bool,
    subscriptions: Vec<Followed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    present: Vec<Present>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    connection: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_known: bool,
}

/// One subscription.
#[derive(Debug, Deserialize, Serialize)]
struct Followed {
    identifier: String,
    /// Each stream, and the last publication that the session was given, if the
    /// node knew of any.
    streams: Vec<(String, Option<(String, u64)>)>,
}

/// Where it is present, and as whom.
#[derive(Debug, Deserialize, Serialize)]
struct Present {
    stream: String,
    id: String,
    info: Box<RawValue>,
}

fn raw(json: &[u8]) -> Option<Box<RawValue>> {
    let text = String::from_utf8(json.to_vec()).ok()?;
    RawValue::from_string(text).ok()
}

/// Of what was published live and what was read from history, the later. They
/// differ in their epochs only if history was read since.
fn later(reached: Option<Position>, covered: Option<&Position>) -> Option<Position> {
    match (reached, covered) {
        (Some(reached), Some(covered))
            if reached.epoch == covered.epoch && reached.offset >= covered.offset =>
        {
            Some(reached)
        }
        (_, Some(covered)) => Some(covered.clone()),
        (reached, None) => reached,
    }
}

impl Luggage {
    /// Packs what `session` has left, with where it was `present`, and what
    /// each stream's subscribers here were given last.
    pub(super) fn pack(
        session: &Session,
        departed: &Departed,
        present: Vec<(StreamName, PresenceRequest)>,
        reached: impl Fn(&StreamName) -> Option<Position>,
    ) -> Self {
        let subscriptions = departed.subscriptions.iter().map(|known| {
            let streams = known.streams.iter().map(|stream| {
                let place = later(reached(stream), known.covered(stream));
                let place = place
                    .map(|Position { epoch, offset }| (epoch.as_str().to_owned(), offset.get()));
                (stream.as_str().to_owned(), place)
            });
            Followed {
                identifier: known.identifier.as_str().to_owned(),
                streams: streams.collect(),
            }
        });
        let present = present.into_iter().filter_map(|(stream, present)| {
            Some(Present {
                stream: stream.as_str().to_owned(),
                id: present.id,
                info: raw(present.info.as_bytes())?,
            })
        });
        let kept = Attended::of(session).map(|attended| {
            attended.move_on();
            attended.kept()
        });
        let kept = kept.unwrap_or_default();
        let frames = &departed.outbox.frames;
        let packed: Vec<_> = frames
            .iter()
            .filter_map(|frame| raw(&frame.json()))
            .collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            sid: session.sid().text(),
            identifiers: session.named_identifiers().map(Into::into),
            expires: session.expires(),
            left: since.map_or(0, |since| {
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
            }),
            gap: departed.outbox.gap || packed.len() < frames.len(),
            frames: packed,
            end: departed.outbox.end,
            acked: departed.outbox.acked,
            subscriptions: subscriptions.collect(),
            present: present.collect(),
            connection: kept.connection,
            channels: kept
                .channels
                .into_iter()
                .map(|(channel, state)| (channel.as_str().to_owned(), state))
                .collect(),
            is_known: kept.is_known,
        }
    }

    /// What its outbox goes on with.
    pub(super) fn remains(&self) -> Remains {
        let frames = self.frames.iter();
        Remains {
            frames: frames
                .map(|frame| Frame::from_json(Payload::from_raw(frame).as_bytes().to_vec()))
                .collect(),
            end: self.end,
            acked: self.acked,
            gap: self.gap,
        }
    }

    /// What its backend wanted kept.
    pub(super) fn attended(&self, told: Told) -> Arc<Attended> {
        let channels = self.channels.iter().filter_map(|(channel, state)| {
            let channel = Identifier::try_new(channel).ok()?;
            Some((channel, state.clone()))
        });
        Arc::new(Attended::new(
            told,
            Kept {
                connection: self.connection.clone(),
                channels: channels.collect(),
                is_known: self.is_known,
            },
        ))
    }

    /// Its subscriptions: the identifier, the streams, and where it was in them.
    pub(super) fn subscriptions(
        &self,
    ) -> impl Iterator<Item = (Identifier, Vec<StreamName>, HistoryRequest)> {
        self.subscriptions.iter().filter_map(|known| {
            let identifier = Identifier::try_new(&known.identifier).ok()?;
            let (mut streams, mut places) = (Vec::new(), Vec::new());
            for (name, place) in &known.streams {
                let Ok(stream) = StreamName::try_new(name) else {
                    continue;
                };
                if let Some((epoch, offset)) = place {
                    let position = Position {
                        epoch: Epoch::new(epoch),
                        offset: Offset::new(*offset),
                    };
                    places.push((stream.clone(), position));
                }
                streams.push(stream);
            }
            // Where nothing was published there is no place, but a time.
            let request = HistoryRequest {
                since: Some(self.left),
                streams: places,
            };
            Some((identifier, streams, request))
        })
    }

    /// Where it was present.
    pub(super) fn present(&self) -> impl Iterator<Item = (StreamName, PresenceRequest)> {
        self.present.iter().filter_map(|present| {
            let stream = StreamName::try_new(&present.stream).ok()?;
            let request = PresenceRequest {
                id: present.id.clone(),
                info: Payload::from_raw(&present.info),
            };
            Some((stream, request))
        })
    }
}
