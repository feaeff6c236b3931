//! Opens a node's ports, and takes leave of those who came.

use super::Node;
use crate::{
    http,
    server::{Server, ServerConfig, Service},
    telemetry::Throttle,
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Sockets for [`Node::serve`].
#[derive(Debug)]
pub struct Listeners {
    /// For clients, and whatever has no port of its own.
    pub main: TcpListener,
    /// For publishing, where that has a port of its own.
    pub broadcast: Option<TcpListener>,
    /// For metrics, where they have a port of their own.
    pub metrics: Option<TcpListener>,
    /// For the console page, where it has a port of its own. The metrics, which
    /// it shows, are there too.
    pub console: Option<TcpListener>,
}

impl Node {
    /// Serves `listeners` until `shutdown` is done, then takes leave of all
    /// clients and returns. Sets no signal handlers.
    pub async fn serve(&self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let server = Arc::new(Server {
            config: ServerConfig {
                max_connections: self.config.max_connections,
                header_read_timeout: self.config.header_read_timeout,
                write_timeout: self.config.poll_write_timeout,
            },
            tls: self.tls.clone(),
            clock: self.runtime.clock,
            metrics: Arc::clone(&self.runtime.metrics),
            stop_accepting: CancellationToken::new(),
            stop_connections: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: AtomicUsize::new(0),
            trouble: Throttle::default(),
        });
        if let Ok(address) = listeners.main.local_addr() {
            self.heart.listens(address);
        }
        let main = Service {
            in_lot: true,
            poll: self.poll_door(),
            ..Service::new(http::router(self.doors()))
        };
        let spare = http::spare_router(self.main_ops());
        let mut ports = vec![(listeners.main, main.with_spare(spare))];
        if let Some(listener) = listeners.broadcast {
            let (path, door) = self.broadcast_door();
            let router = http::broadcast_router(&path, door);
            ports.push((listener, Service::new(router)));
        }
        // A full node can be looked at.
        let spare = || http::spare_router(self.all_ops());
        if let Some(listener) = listeners.metrics {
            let router = http::router(self.metrics_doors());
            ports.push((listener, Service::new(router).with_spare(spare())));
        }
        if let Some(listener) = listeners.console {
            let console = Service {
                poll: self.poll_door(),
                ..Service::new(http::router(self.console_doors()))
            };
            ports.push((listener, console.with_spare(spare())));
        }
        let accepting: Vec<_> = ports
            .into_iter()
            .map(|(listener, service)| {
                tokio::spawn(Arc::clone(&server).run(listener, Arc::new(service)))
            })
            .collect();
        shutdown.await;
        self.stop(&server).await;
        for loop_task in accepting {
            if let Err(error) = loop_task.await {
                warn!(%error, "An accept loop failed");
            }
        }
    }

    async fn stop(&self, server: &Server) {
        self.runtime.announce_drain();
        let delay = self.config.shutdown_delay;
        if delay > Duration::ZERO {
            info!(?delay, "Not ready any more; stopping after the delay");
            tokio::time::sleep(delay).await;
        }
        server.stop_accepting.cancel();
        let leave = async {
            self.runtime.drain(self.config.shutdown_timeout).await;
            let connections = || server.connections.load(Ordering::Relaxed);
            self.runtime.serve_stragglers(connections).await;
            tokio::select! {
                () = server.finish() => {}
                () = self.runtime.keep_leaving() => {}
            }
            // Of what the last polls have brought back.
            self.runtime.drain(Duration::ZERO).await;
        };
        if tokio::time::timeout(self.config.shutdown_timeout, leave)
            .await
            .is_err()
        {
            let sessions = self.runtime.registry.len();
            warn!(
                sessions,
                "The shutdown timeout is over; some clients were not told"
            );
        }
        if let Some(archive) = &self.archive {
            archive.close().await;
        }
        self.heart.stop().await;
        self.runtime.broker.stop().await;
        self.runtime.stop.cancel();
        info!("Stopped");
    }
}
