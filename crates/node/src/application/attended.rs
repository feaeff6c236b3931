//! What is kept with a session for the backend that attends to it.

use super::{Greeting, request::Told};
use parking_lot::Mutex;
use pollux_protocol::{Identifier, StreamName};
use pollux_rpc::call::{Changes, Disconnect, Env, State};
use pollux_session::{Session, Subscription};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

/// The channel's state that names the stream its clients whisper to.
const WHISPER_STREAM: &str = "$w";

/// The channel's state that names the stream its clients are present in.
const PRESENCE_STREAM: &str = "$p";

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Attended {
    /// Of the request that opened the connection.
    told: Told,
    kept: Mutex<Kept>,
    /// What the backend wants said first, until it is said.
    greeting: Mutex<Greeting>,
    /// The backend has heard of this session.
    is_known: AtomicBool,
    /// It is told, or will not be, that the session has ended.
    is_dismissed: AtomicBool,
}

/// What a backend wants kept, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// With the connection.
    pub(crate) connection: State,
    /// With each channel.
    pub(crate) channels: BTreeMap<Identifier, State>,
    /// The backend has heard of the session.
    pub(crate) is_known: bool,
}

/// An empty value takes its key away.
fn change(state: &mut State, changes: &State) {
    for (key, value) in changes {
        if value.is_empty() {
            state.remove(key);
        } else {
            state.insert(key.clone(), value.clone());
        }
    }
}

impl Attended {
    pub(crate) const fn new(told: Told, kept: Kept) -> Self {
        Self {
            told,
            is_known: AtomicBool::new(kept.is_known),
            kept: Mutex::new(kept),
            greeting: Mutex::new(Vec::new()),
            is_dismissed: AtomicBool::new(false),
        }
    }

    /// What a session's backend attends to, if it has one.
    pub(crate) fn of(session: &Session) -> Option<std::sync::Arc<Self>> {
        session.attached()
    }

    /// The backend knows the session, and this is what its client is told first.
    pub(super) fn introduce(&self, greeting: Greeting) {
        self.note_known();
        *self.greeting.lock() = greeting;
    }

    /// What the client is told first; empty if the backend has not said, or it
    /// was taken already.
    pub(crate) fn take_greeting(&self) -> Greeting {
        std::mem::take(&mut self.greeting.lock())
    }

    /// The backend hears of the session.
    pub(crate) fn note_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// What a call says of the connection, with the state of one channel.
    pub(crate) fn env(&self, channel: Option<&Identifier>) -> Env {
        let kept = self.kept.lock();
        let istate = channel.and_then(|channel| kept.channels.get(channel));
        Env {
            url: self.told.url.clone(),
            headers: self.told.headers.clone(),
            cstate: kept.connection.clone(),
            istate: istate.cloned().unwrap_or_default(),
        }
    }

    /// Keeps what an answer says, of a channel if it was about one. Returns
    /// whether that makes a difference.
    pub(crate) fn apply(&self, channel: Option<&Identifier>, changes: &Changes) -> bool {
        if changes.cstate.is_empty() && changes.istate.is_empty() {
            return false;
        }
        let mut kept = self.kept.lock();
        change(&mut kept.connection, &changes.cstate);
        if let Some(channel) = channel.filter(|_| !changes.istate.is_empty()) {
            let state = kept.channels.entry(channel.clone()).or_default();
            change(state, &changes.istate);
            if state.is_empty() {
                kept.channels.remove(channel);
            }
        }
        true
    }

    /// The channel has ended.
    pub(crate) fn forget(&self, channel: &Identifier) {
        self.kept.lock().channels.remove(channel);
    }

    /// The stream a channel's clients whisper to.
    pub(crate) fn whisper_stream(&self, channel: &Identifier) -> Option<StreamName> {
        self.stream(channel, WHISPER_STREAM)
    }

    /// The stream a channel's clients are present in.
    pub(crate) fn presence_stream(&self, channel: &Identifier) -> Option<StreamName> {
        self.stream(channel, PRESENCE_STREAM)
    }

    fn stream(&self, channel: &Identifier, key: &str) -> Option<StreamName> {
        let kept = self.kept.lock();
        StreamName::try_new(kept.channels.get(channel)?.get(key)?).ok()
    }

    /// What calls say of the request that opened the connection.
    pub(crate) fn told(&self) -> Told {
        self.told.clone()
    }

    /// The session goes on at another node: it does not end with this one.
    pub(crate) fn move_on(&self) {
        self.is_dismissed.store(true, Ordering::Relaxed);
    }

    /// What is kept, for a client that comes back.
    pub(crate) fn kept(&self) -> Kept {
        let mut kept = self.kept.lock().clone();
        kept.is_known = self.is_known.load(Ordering::Relaxed);
        kept
    }

    /// What the backend is told of the end of `session`, if it is: once, and
    /// `always` or only if it knows of it.
    pub(crate) fn dismiss(
        &self,
        session: &Session,
        subscriptions: &[Subscription],
        always: bool,
    ) -> Option<Disconnect> {
        let is_wanted = always || self.is_known.load(Ordering::Relaxed);
        if !is_wanted || self.is_dismissed.swap(true, Ordering::Relaxed) {
            return None;
        }
        let mut env = self.env(None);
        let kept = self.kept.lock();
        for (channel, state) in &kept.channels {
            if let Ok(state) = serde_json::to_string(state) {
                env.istate.insert(channel.as_str().to_owned(), state);
            }
        }
        let channels = subscriptions.iter().map(|known| &known.identifier);
        Some(Disconnect {
            identifiers: session.identifiers(),
            subscriptions: channels.map(|known| known.as_str().to_owned()).collect(),
            env,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pairs: &[(&str, &str)]) -> State {
        let pairs = pairs.iter().copied();
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn changes_are_kept_and_an_empty_value_takes_its_key_away() {
        let attended = Attended::new(Told::default(), Kept::default());
        let chat = Identifier::try_new("chat").unwrap();
        let changes = Changes {
            cstate: state(&[("a", "1"), ("b", "2")]),
            istate: state(&[("room", "7"), ("$w", "chat/7"), ("$p", "")]),
        };
        assert!(attended.apply(Some(&chat), &changes));
        let env = attended.env(Some(&chat));
        assert_eq!(env.cstate, state(&[("a", "1"), ("b", "2")]));
        assert_eq!(env.istate, state(&[("room", "7"), ("$w", "chat/7")]));
        assert_eq!(attended.whisper_stream(&chat).unwrap().as_str(), "chat/7");
        assert!(attended.presence_stream(&chat).is_none());
        let other = Identifier::try_new("other").unwrap();
        assert!(attended.env(Some(&other)).istate.is_empty());
        let changes = Changes {
            cstate: state(&[("a", "")]),
            istate: state(&[("room", ""), ("$w", "")]),
        };
        assert!(attended.apply(Some(&chat), &changes));
        assert_eq!(attended.env(Some(&chat)).cstate, state(&[("b", "2")]));
        assert!(attended.kept().channels.is_empty());
        assert!(!attended.apply(Some(&chat), &Changes::default()));
    }
}
