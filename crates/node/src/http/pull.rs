//! Taking what waits in a stream for a group of readers: now, or as soon as
//! there is something.

use super::{
    lent::{LEASE, Lent},
    listener::{Heard, Listener},
};
use crate::{
    auth::Client,
    runtime::{Runtime, voice},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pollux_broker::{BrokerError, Entry, Group, Take};
use pollux_protocol::{Frame, Identifier, Inbound, Publication, StreamName};
use pollux_session::Source;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// A lease that ends announces nothing; whoever waits looks for it himself.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A reader that died without a word counts as waiting for so much longer than
/// it would have looked again.
const MARGIN: Duration = Duration::from_secs(5);

/// The `broadcast_type` of what is for sockets alone: readers pass it over.
pub(crate) const FOR_SOCKETS: &str = "room.forward";

/// Who takes what.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) stream: StreamName,
    pub(crate) group: Group,
    /// Publications at most.
    pub(crate) max: usize,
    /// How many may wait; older ones are passed over.
    pub(crate) bound: usize,
    /// After so long without life everything is passed over.
    pub(crate) idle: Option<Duration>,
}

/// Publications that are lent to whoever holds this.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) entries: Vec<Entry>,
    /// Gives them back when it is dropped.
    pub(crate) lent: Lent,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum Pulled {
    /// Something that was kept.
    Loan(Loan),
    /// Something that is not kept: it is here or nowhere.
    Live(Vec<Publication>),
    /// Nothing in time, or the node takes leave.
    Nothing,
}

/// Why nobody could wait.
#[derive(Debug)]
pub(super) enum PullError {
    /// The node takes no more clients.
    Busy,
    /// The broker failed.
    Broker(BrokerError),
}

impl From<BrokerError> for PullError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// One that waits. Dropped, it is taken off the list of those that do.
struct Reader {
    pull: Pull,
    id: String,
    gone: Arc<AtomicBool>,
}

impl Pull {
    /// What there is now.
    pub(crate) async fn now(&self) -> Result<Option<Loan>, BrokerError> {
        self.take(String::new(), None, None).await
    }

    /// What there is now, or what comes in time.
    pub(super) async fn within(
        self,
        client: Client,
        source: Option<Source>,
        wait: Duration,
    ) -> Result<Pulled, PullError> {
        let deadline = Instant::now() + wait;
        // Most polls of a busy stream find something, and need not listen.
        if let Some(loan) = self.now().await? {
            return Ok(Pulled::Loan(loan));
        }
        if wait.is_zero() {
            return Ok(Pulled::Nothing);
        }
        let listener = Listener::open(&self.runtime, client, source);
        let mut listener = listener.ok_or(PullError::Busy)?;
        let voice = Identifier::try_new(voice::READER)
            .map_err(|_| BrokerError::Stream("nobody can read it"))?;
        let listening = timeout_at(deadline, listener.listen(&voice, &self.stream)).await;
        match listening {
            Ok(listening) => listening?,
            Err(_) => {
                let reason = "nobody can listen now".to_owned();
                return Err(BrokerError::Unavailable(reason).into());
            }
        }
        let reader = Reader::new(self)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let look = left.min(LOOK_EVERY);
            match reader.take(look + MARGIN).await {
                Ok(Some(loan)) => return Ok(Pulled::Loan(loan)),
                Ok(None) => {}
                // What is away comes back; the poll is held meanwhile.
                Err(error) => debug!(%error, "A waiting poll could not look"),
            }
            let is_last = match listener.next(Instant::now() + look).await {
                Heard::Frames(frames) => match live(&frames) {
                    live if live.is_empty() => false,
                    live => return Ok(Pulled::Live(live)),
                },
                Heard::Nothing => Instant::now() >= deadline,
                Heard::Over => true,
            };
            if is_last {
                return Ok(reader.finish().await);
            }
        }
    }

    /// On a task of its own: whoever asked may be gone before the broker has
    /// answered, and what it lends must come back.
    async fn take(
        &self,
        reader: String,
        wait: Option<Duration>,
        gone: Option<Arc<AtomicBool>>,
    ) -> Result<Option<Loan>, BrokerError> {
        let pull = self.clone();
        let work = self.runtime.tasks.spawn(async move {
            let take = Take {
                group: pull.group,
                reader,
                max: pull.max,
                bound: pull.bound,
                idle: pull.idle,
                lease: LEASE,
                wait,
            };
            let taken = pull.runtime.broker.take(&pull.stream, &take).await?;
            pull.runtime.metrics.dropped.inc_by(taken.dropped);
            if gone.is_some_and(|gone| gone.load(Ordering::Relaxed)) {
                pull.leave(&take.reader).await;
            }
            let positions: Vec<_> = taken
                .entries
                .iter()
                .map(|entry| entry.position.clone())
                .collect();
            if positions.is_empty() {
                return Ok(None);
            }
            let lent = Lent::new(pull.runtime, pull.stream, pull.group, positions);
            Ok(Some(Loan {
                entries: taken.entries,
                lent,
            }))
        });
        match work.await {
            Ok(taken) => taken,
            Err(_) => Err(BrokerError::Stopped),
        }
    }

    async fn leave(&self, reader: &str) {
        let left = self
            .runtime
            .broker
            .leave(&self.stream, self.group, reader)
            .await;
        if let Err(error) = left {
            debug!(%error, "A reader is gone, which the broker will notice later");
        }
    }
}

impl Reader {
    fn new(pull: Pull) -> Result<Self, BrokerError> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)
            .map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        Ok(Self {
            pull,
            id: URL_SAFE_NO_PAD.encode(random),
            gone: Arc::default(),
        })
    }

    async fn take(&self, wait: Duration) -> Result<Option<Loan>, BrokerError> {
        let gone = Some(Arc::clone(&self.gone));
        self.pull.take(self.id.clone(), Some(wait), gone).await
    }

    /// A last look, because somebody may have counted on this reader. Ends the
    /// waiting.
    async fn finish(self) -> Pulled {
        match self.pull.take(self.id.clone(), None, None).await {
            Ok(Some(loan)) => Pulled::Loan(loan),
            Ok(None) => Pulled::Nothing,
            Err(error) => {
                debug!(%error, "A poll could not look a last time");
                Pulled::Nothing
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        let (pull, id) = (self.pull.clone(), std::mem::take(&mut self.id));
        let tasks = &self.pull.runtime.tasks;
        tasks.spawn(async move { pull.leave(&id).await });
    }
}

/// The publications among a reader's frames. The others only say: look.
fn live(frames: &[Frame]) -> Vec<Publication> {
    let mut live = Vec::new();
    for frame in frames {
        if let Ok(Inbound::Publications(publications)) = Inbound::parse(&frame.json()) {
            live.extend(publications);
        }
    }
    live.retain(|publication| publication.meta.broadcast_type.as_deref() != Some(FOR_SOCKETS));
    live
}
