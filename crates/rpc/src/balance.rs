//! Which host a call goes to: all in turn, those that fail last.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::time::{self, Instant};

use crate::{
    dial::Task,
    host::Target,
    peer::{Admission, Peer, Wire},
    shared::Shared,
};

/// Names are asked for again after so long: hosts come and go.
const NAMES_AGE: Duration = Duration::from_secs(30);
/// If a host could not be reached, it may be because it has gone.
const NAMES_AGE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A name server that takes longer does not answer.
const NAMES_TIMEOUT: Duration = Duration::from_secs(2);

type Peers = Arc<[Arc<Peer>]>;
/// Asks for the addresses of a name.
pub(crate) type Resolve = dyn Fn(Target) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>
    + Send
    + Sync;
/// Makes a host of an address of the target with this number.
pub(crate) type Make = dyn Fn(usize, SocketAddr) -> Option<Peer> + Send + Sync;

/// All hosts of the application.
#[derive(Debug)]
pub(crate) struct Balance {
    peers: RwLock<Peers>,
    /// Whose turn it is.
    next: AtomicUsize,
    /// Where hosts come from; none if they are given once and for all.
    names: Option<Arc<Names>>,
    /// The first answer of the names.
    first: Shared<()>,
    again: Mutex<Again>,
}

/// Names whose addresses are the hosts.
pub(crate) struct Names {
    pub(crate) targets: Vec<Target>,
    pub(crate) resolve: Box<Resolve>,
    pub(crate) make: Box<Make>,
}

/// When the names are asked for again.
#[derive(Debug)]
struct Again {
    asked: Instant,
    failed: bool,
    task: Option<Task>,
}

/// Why no host is to be had.
#[derive(Debug)]
pub(crate) enum NoPeer {
    /// All fail, and are left alone for now.
    AllOpen,
    /// The names have no address.
    Nameless(Box<str>),
}

impl Balance {
    pub(crate) fn of_peers(peers: Vec<Peer>) -> Self {
        Self::new(peers.into_iter().map(Arc::new).collect(), None)
    }

    pub(crate) fn of_names(names: Names) -> Self {
        Self::new(Arc::new([]), Some(Arc::new(names)))
    }

    fn new(peers: Peers, names: Option<Arc<Names>>) -> Self {
        Self {
            peers: RwLock::new(peers),
            next: AtomicUsize::new(0),
            names,
            first: Shared::new(),
            again: Mutex::new(Again {
                asked: Instant::now(),
                failed: false,
                task: None,
            }),
        }
    }

    /// The next host, one that was not `tried` before if there is one.
    pub(crate) async fn pick(self: &Arc<Self>, tried: &[Arc<Peer>]) -> Result<Admission, NoPeer> {
        if let Some(names) = &self.names {
            self.first
                .get(|()| true, self.ask_first(names))
                .await
                .map_err(NoPeer::Nameless)?;
            self.ask_again(names);
        }
        let now = Instant::now();
        let peers = Arc::clone(&self.peers.read());
        let worse = |peer: &Arc<Peer>| (is_in(peer, tried), peer.rests(now));
        let mut order: Vec<_> = peers.iter().filter(|peer| peer.admits(now)).collect();
        order.sort_by_key(|peer| worse(peer));
        if let Some(best) = order.first().map(|peer| worse(peer)) {
            let best = order.partition_point(|peer| worse(peer) <= best);
            let turn = self.next.fetch_add(1, Relaxed);
            order[..best].rotate_left(turn % best);
        }
        order
            .into_iter()
            .find_map(|peer| peer.admit(now))
            .ok_or(NoPeer::AllOpen)
    }

    /// Whether a host may be called that was not `tried`.
    pub(crate) fn has_others(&self, tried: &[Arc<Peer>]) -> bool {
        let now = Instant::now();
        let peers = self.peers.read();
        peers
            .iter()
            .any(|peer| !is_in(peer, tried) && peer.admits(now))
    }

    /// A host could not be reached: perhaps it has gone.
    pub(crate) fn failed(&self) {
        self.again.lock().failed = true;
    }

    /// How many hosts are left alone, and how many there are.
    pub(crate) fn count(&self) -> (u64, u64) {
        let peers = self.peers.read();
        let open = peers.iter().filter(|peer| peer.is_open()).count();
        (open as u64, peers.len() as u64)
    }

    async fn ask_first(&self, names: &Arc<Names>) -> io::Result<()> {
        let found = names.ask().await;
        let failure = found.iter().find_map(|found| found.as_ref().err());
        let failure = failure.map(|error| io::Error::new(error.kind(), error.to_string()));
        self.replace(names, found);
        let mut again = self.again.lock();
        again.asked = Instant::now();
        again.failed = failure.is_some();
        match failure {
            Some(error) if self.peers.read().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks for the names again if it is time, and waits for nothing.
    fn ask_again(self: &Arc<Self>, names: &Arc<Names>) {
        let mut again = self.again.lock();
        let age = again.asked.elapsed();
        let due = age >= NAMES_AGE || again.failed && age >= NAMES_AGE_AFTER_FAILURE;
        if !due || again.task.as_ref().is_some_and(|task| !task.is_over()) {
            return;
        }
        again.asked = Instant::now();
        again.failed = false;
        let names = Arc::clone(names);
        let balance = Arc::downgrade(self);
        again.task = Some(Task::spawn(async move {
            let found = names.ask().await;
            if let Some(balance) = Weak::upgrade(&balance) {
                balance.replace(&names, found);
            }
        }));
    }

    /// Takes up new addresses and lets the others go. A name that was not
    /// answered keeps what it had.
    fn replace(&self, names: &Names, found: Vec<io::Result<Vec<SocketAddr>>>) {
        let mut peers = self.peers.write();
        let mut known = HashMap::new();
        for peer in peers.iter() {
            if let Wire::Grpc(host) = peer.wire() {
                known.insert((peer.origin, host.address()), Arc::clone(peer));
            }
        }
        let mut seen = HashSet::new();
        let mut fresh = Vec::new();
        for (origin, (target, found)) in names.targets.iter().zip(found).enumerate() {
            let addresses = found.unwrap_or_else(|error| {
                tracing::warn!(host = %target.authority, %error, "Cannot find a host's addresses");
                known
                    .keys()
                    .filter(|known| known.0 == origin)
                    .map(|known| known.1)
                    .collect()
            });
            for address in addresses {
                // Two names for one address would be two hosts for one.
                if !seen.insert(address) {
                    continue;
                }
                let peer = known
                    .remove(&(origin, address))
                    .or_else(|| (names.make)(origin, address).map(Arc::new));
                fresh.extend(peer);
            }
        }
        *peers = fresh.into();
    }
}

fn is_in(peer: &Arc<Peer>, tried: &[Arc<Peer>]) -> bool {
    tried.iter().any(|tried| Arc::ptr_eq(tried, peer))
}

impl Names {
    async fn ask(&self) -> Vec<io::Result<Vec<SocketAddr>>> {
        join_all(self.targets.iter().map(|target| self.ask_for(target))).await
    }

    async fn ask_for(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let name = &target.authority;
        let failed = |kind, why: &dyn fmt::Display| io::Error::new(kind, format!("{name}: {why}"));
        match time::timeout(NAMES_TIMEOUT, (self.resolve)(target.clone())).await {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                Err(failed(io::ErrorKind::NotFound, &"has no address"))
            }
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(failed(error.kind(), &error)),
            Err(_) => Err(failed(
                io::ErrorKind::TimedOut,
                &"the name server does not answer",
            )),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
