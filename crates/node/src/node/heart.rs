//! What a node says of itself, every few seconds, for whoever asks the cluster.

use crate::runtime::Runtime;
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Between two reports. Who asks calls a node silent after three of them.
const EVERY: Duration = Duration::from_secs(5);

/// A broker that does not answer holds a stopping node up no longer than this.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Makes the node's reports. Held by the task that sends them and by the door that shows them.
#[derive(Clone, Debug)]
pub(crate) struct Report(Arc<Source>);

#[derive(Debug)]
struct Source {
    runtime: Arc<Runtime>,
    node_id: String,
    started: Instant,
    /// What the machine or container is called.
    host: Option<String>,
    /// Where clients are served, once they are.
    address: Mutex<Option<SocketAddr>>,
}

/// What a node says of itself at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Said {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    version: &'static str,
    uptime_seconds: u64,
    state: &'static str,
    sessions: usize,
    parked_polls: usize,
    long_polls: usize,
    websockets: usize,
    event_streams: usize,
    subscriptions: usize,
    streams: usize,
}

/// Sends reports until it is stopped.
#[derive(Debug)]
pub(super) struct Heart {
    report: Report,
    stop: CancellationToken,
    /// The last report was taken back.
    stopped: CancellationToken,
}

impl Heart {
    pub(super) fn start(runtime: &Arc<Runtime>, node_id: &str) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.map(|host| host.trim().to_owned());
        let report = Report(Arc::new(Source {
            runtime: Arc::clone(runtime),
            node_id: node_id.to_owned(),
            started: Instant::now(),
            host: host.filter(|host| !host.is_empty()),
            address: Mutex::default(),
        }));
        let heart = Self {
            report: report.clone(),
            stop: runtime.stop.child_token(),
            stopped: CancellationToken::new(),
        };
        let (stop, stopped) = (heart.stop.clone(), heart.stopped.clone());
        runtime.tasks.spawn(async move {
            report.send_until(&stop).await;
            stopped.cancel();
        });
        heart
    }

    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }

    /// The node serves clients here.
    pub(super) fn listens(&self, address: SocketAddr) {
        *self.report.0.address.lock() = Some(address);
    }

    /// Takes the last report back.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        drop(timeout(LEAVE_WITHIN, self.stopped.cancelled()).await);
    }
}

impl Report {
    /// What there is to say now. Looks at every session.
    pub(crate) fn now(&self) -> Said {
        let source = &self.0;
        let runtime = &source.runtime;
        let census = runtime.registry.census();
        let websockets = runtime.sockets.load(Ordering::Relaxed);
        let event_streams = runtime.event_streams.load(Ordering::Relaxed);
        // To a session these are polls that always wait.
        let others = websockets + event_streams;
        Said {
            id: source.node_id.clone(),
            address: source.address(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: source.started.elapsed().as_secs(),
            state: match () {
                () if runtime.is_leaving() => "draining",
                () if runtime.broker.is_ready() => "ready",
                () => "waiting",
            },
            sessions: census.sessions,
            parked_polls: census.parked.saturating_sub(others),
            long_polls: census.sessions.saturating_sub(others),
            websockets,
            event_streams,
            subscriptions: census.subscriptions,
            streams: runtime.hub.streams(),
        }
    }

    async fn send_until(&self, stop: &CancellationToken) {
        let broker = &self.0.runtime.broker;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let report = serde_json::to_vec(&self.now()).unwrap_or_default();
            if let Err(error) = broker.report(Some(report.into())).await {
                debug!(%error, "Nobody was told that this node lives");
            }
        }
        if let Err(error) = broker.report(None).await {
            debug!(%error, "Nobody was told that this node stops");
        }
    }
}

impl Source {
    /// Where clients are served. A node that listens everywhere is found by its host's name.
    fn address(&self) -> Option<String> {
        let address = (*self.address.lock())?;
        match &self.host {
            Some(host) if address.ip().is_unspecified() => {
                Some(format!("{host}:{}", address.port()))
            }
            _ => Some(address.to_string()),
        }
    }
}
