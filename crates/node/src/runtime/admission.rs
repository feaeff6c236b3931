//! Who is let in, and for how long.
//!
//! A client that comes back to a session it had need not prove again who it
//! is: it knows the session's `sid`. But what it proved then still ends when it
//! would have ended, and a token it brings has to be its own.

use super::{
    Runtime,
    resume::{Restorable, wanted},
};
use crate::auth::{Client, ConnectRequest, Introduction, Presented, Verdict};
use parking_lot::Mutex;
use pollux_protocol::{DisconnectReason, Frame, action_cable::reply};
use pollux_session::Session;
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::MissedTickBehavior;

/// Sessions are ended within this time after what their clients proved has
/// ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// So many sessions of which most are gone are not worth cleaning up.
const FEW: usize = 1_024;

/// A client that may open a session.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) client: Client,
    /// The session it had, if it wants that back and may have it.
    pub(crate) earlier: Option<Restorable>,
}

/// A client may not.
#[derive(Clone, Debug)]
pub(crate) enum Rejected {
    /// It is told so.
    Dismissed {
        farewell: Frame,
        reason: DisconnectReason,
    },
    /// Not now: nobody knows whether it may.
    Later,
}

/// Why a client may not, for good.
const fn never(reason: DisconnectReason) -> Verdict {
    Verdict::Refuse {
        reason,
        reconnect: false,
    }
}

/// Sessions that end at a known time, by the second.
#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<Seconds>);

#[derive(Debug, Default)]
struct Seconds {
    sessions: BTreeMap<u64, Vec<Weak<Session>>>,
    count: usize,
    /// The count at which those are looked for that ended before.
    clean_at: usize,
}

impl Expiries {
    fn add(&self, second: u64, session: &Arc<Session>) {
        let mut seconds = self.0.lock();
        let those = seconds.sessions.entry(second).or_default();
        those.push(Arc::downgrade(session));
        seconds.count += 1;
        if seconds.count >= seconds.clean_at {
            seconds.clean();
        }
    }

    /// Those whose time has come.
    fn due(&self, now: u64) -> Vec<Arc<Session>> {
        let mut seconds = self.0.lock();
        let Some(next) = now.checked_add(1) else {
            return Vec::new();
        };
        let later = seconds.sessions.split_off(&next);
        let due = std::mem::replace(&mut seconds.sessions, later);
        let due: Vec<_> = due.into_values().flatten().collect();
        seconds.count -= due.len();
        due.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Seconds {
    /// Forgets those that ended before their time, or there would be more and
    /// more of them: tokens live for hours, sessions often for seconds.
    fn clean(&mut self) {
        let is_alive = |session: &Weak<Session>| session.strong_count() > 0;
        self.sessions.retain(|_, sessions| {
            sessions.retain(is_alive);
            !sessions.is_empty()
        });
        self.count = self.sessions.values().map(Vec::len).sum();
        self.clean_at = self.count.saturating_mul(2).max(FEW);
    }
}

/// Seconds since 1970. Before that it is 1970.
fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl Runtime {
    /// Whether a client may have a session, and the earlier one it asks for if
    /// that is its own.
    pub(crate) async fn let_in(&self, request: ConnectRequest<'_>) -> Result<Admitted, Rejected> {
        let earlier = self
            .restorable(wanted(request.headers, request.query))
            .await;
        let (verdict, earlier) = match earlier {
            None => (self.authenticator.authenticate(request).await, None),
            Some(earlier) => {
                let had = earlier.client();
                match self
                    .authenticator
                    .recognize(request, had.identifiers.as_deref())
                {
                    Presented::Nothing if had.expires.is_some_and(is_over) => {
                        (never(DisconnectReason::TokenExpired), None)
                    }
                    Presented::Nothing => (Verdict::Accept(had), Some(earlier)),
                    Presented::Same(client) => (Verdict::Accept(client), Some(earlier)),
                    Presented::Other => (self.authenticator.authenticate(request).await, None),
                    Presented::Worthless(reason) => (never(reason), None),
                }
            }
        };
        let client = self.read(verdict, request, earlier.as_ref())?;
        Ok(Admitted { client, earlier })
    }

    /// Who a client is that opens a session which ends with its connection.
    pub(crate) async fn let_in_anew(
        &self,
        request: ConnectRequest<'_>,
    ) -> Result<Client, Rejected> {
        let verdict = self.authenticator.authenticate(request).await;
        self.read(verdict, request, None)
    }

    fn read(
        &self,
        verdict: Verdict,
        request: ConnectRequest<'_>,
        earlier: Option<&Restorable>,
    ) -> Result<Client, Rejected> {
        let (farewell, reason) = match verdict {
            Verdict::Accept(mut client) => {
                if let Some(application) = &self.application
                    && client.introduction.is_none()
                {
                    let kept = earlier.map(Restorable::kept).unwrap_or_default();
                    let attended = application.attend(&request, kept);
                    client.introduction = Introduction::new(attended, None);
                }
                return Ok(client);
            }
            Verdict::Unavailable => return Err(Rejected::Later),
            Verdict::Dismiss { farewell, reason } => (farewell, reason),
            Verdict::Refuse { reason, reconnect } => (reply::disconnect(reason, reconnect), reason),
        };
        self.metrics.failed_auths.inc();
        Err(Rejected::Dismissed { farewell, reason })
    }

    /// The session ends when what its client proved does.
    pub(super) fn limit(&self, session: &Arc<Session>, expires: Option<SystemTime>) {
        self.limit_to(session, expires.map(unix));
    }

    /// The same with seconds since 1970.
    pub(super) fn limit_to(&self, session: &Arc<Session>, expires: Option<u64>) {
        session.set_expires(expires);
        if let Some(second) = expires {
            self.expiries.add(second, session);
        }
    }

    /// Whether a poll that presents this may have this session's frames, and if
    /// not, why.
    pub(crate) fn refuses(
        &self,
        session: &Arc<Session>,
        request: ConnectRequest<'_>,
    ) -> Option<DisconnectReason> {
        let identifiers = session.named_identifiers();
        match self.authenticator.recognize(request, identifiers) {
            Presented::Nothing => None,
            Presented::Same(client) => {
                // A newer token than the one before prolongs the session.
                let expires = client.expires.map(unix);
                if session.expires() < expires.or(Some(u64::MAX)) && session.expires().is_some() {
                    self.limit(session, client.expires);
                }
                None
            }
            Presented::Other => Some(DisconnectReason::Unauthorized),
            Presented::Worthless(reason) => Some(reason),
        }
    }

    /// Ends sessions when what their clients proved has ended.
    pub(crate) async fn run_expiries(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = unix(SystemTime::now());
            for session in self.expiries.due(now) {
                // It may have been prolonged.
                if session.expires().is_some_and(|expires| expires <= now) && !session.is_over() {
                    self.metrics.expired_tokens.inc();
                    self.close(&session, DisconnectReason::TokenExpired, false);
                }
            }
        }
    }
}

fn is_over(time: SystemTime) -> bool {
    unix(time) <= unix(SystemTime::now())
}
