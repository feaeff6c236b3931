//! Who is present, in the process.

use crate::{
    presence::{Entered, Member},
    queue::countable,
};
use pollux_protocol::{Payload, PresenceRequest, StreamName};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Presence {
    streams: HashMap<StreamName, Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// The id of each session, and until when it is present.
    sessions: HashMap<String, (String, Instant)>,
    /// What each id says of itself, and its sessions.
    ids: HashMap<String, (Payload, usize)>,
}

impl Presence {
    pub(super) fn enter(&mut self, stream: &StreamName, member: Member, until: Instant) -> Entered {
        let PresenceRequest { id, info } = member.present;
        let room = self.streams.entry(stream.clone()).or_default();
        if let Some((known, known_until)) = room.sessions.get_mut(&member.session) {
            if *known != id {
                return Entered::Other;
            }
            *known_until = until;
            if let Some((known, _)) = room.ids.get_mut(&id) {
                *known = info;
            }
            return Entered::Again;
        }
        room.sessions.insert(member.session, (id.clone(), until));
        let (known, sessions) = room.ids.entry(id).or_insert_with(|| (info.clone(), 0));
        *known = info;
        *sessions += 1;
        if *sessions == 1 {
            Entered::First
        } else {
            Entered::Again
        }
    }

    /// The id that has left with this session.
    pub(super) fn exit(&mut self, stream: &StreamName, session: &str) -> Option<String> {
        let room = self.streams.get_mut(stream)?;
        let left = room.exit(session);
        if room.sessions.is_empty() {
            self.streams.remove(stream);
        }
        left
    }

    /// The ids that have left because nobody touched their sessions, and those
    /// of the given sessions that are not known.
    pub(super) fn touch(
        &mut self,
        stream: &StreamName,
        mut sessions: Vec<String>,
        ttl: Duration,
        now: Instant,
    ) -> (Vec<String>, Vec<String>) {
        let Some(room) = self.streams.get_mut(stream) else {
            return (Vec::new(), sessions);
        };
        sessions.retain(|session| match room.sessions.get_mut(session) {
            Some((_, until)) => {
                *until = now + countable(ttl);
                false
            }
            None => true,
        });
        let over = room.sessions.iter().filter(|(_, (_, until))| *until <= now);
        let over: Vec<String> = over.map(|(session, _)| session.clone()).collect();
        let left = over
            .iter()
            .filter_map(|session| room.exit(session))
            .collect();
        if room.sessions.is_empty() {
            self.streams.remove(stream);
        }
        (left, sessions)
    }

    pub(super) fn present(&self, stream: &StreamName, now: Instant) -> Vec<PresenceRequest> {
        let Some(room) = self.streams.get(stream) else {
            return Vec::new();
        };
        let here = room.sessions.values().filter(|(_, until)| *until > now);
        let mut ids: Vec<&String> = here.map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        let present = ids.into_iter().filter_map(|id| {
            let (info, _) = room.ids.get(id)?;
            Some(PresenceRequest {
                id: id.clone(),
                info: info.clone(),
            })
        });
        present.collect()
    }
}

impl Room {
    fn exit(&mut self, session: &str) -> Option<String> {
        let (id, _) = self.sessions.remove(session)?;
        let (_, sessions) = self.ids.get_mut(&id)?;
        *sessions -= 1;
        if *sessions > 0 {
            return None;
        }
        self.ids.remove(&id);
        Some(id)
    }
}
