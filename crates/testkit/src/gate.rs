//! A way between a node and a server that can be closed.

use crate::free_port;
use anyhow::{Context, Result};
use socket2::SockRef;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Bytes that are carried in one step.
const STEP: usize = 64 << 10;

/// A free port may be taken by somebody else before the gate binds it.
const PORTS_TO_TRY: usize = 5;

/// Carries bytes between those who connect to it and one server. It runs in the test's runtime,
/// and dropping it breaks its connections.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    /// The task that accepts, which owns all connections; none while it is cut.
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each piece of data is held up for so long.
    Open(Duration),
    Frozen,
    Cut,
}

impl Gate {
    /// An open gate before this address.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let mut last = None;
        for _ in 0..PORTS_TO_TRY {
            let mut gate = Self {
                address: (Ipv4Addr::LOCALHOST, free_port()?).into(),
                target,
                mode: watch::Sender::new(Mode::Cut),
                accepting: None,
            };
            match gate.heal().await {
                Ok(()) => return Ok(gate),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no port was tried")?)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, if the server is a Redis that lets everybody in.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Resets all connections and refuses new ones, until it is healed.
    pub async fn cut(&mut self) {
        self.mode.send_replace(Mode::Cut);
        if let Some(task) = self.accepting.take()
            && let Err(error) = task.await
        {
            eprintln!("the gate {} broke: {error}", self.address);
        }
    }

    /// Carries no more bytes, until it is healed. Connections stay, and new ones are accepted,
    /// but nobody hears anything.
    ///
    /// # Errors
    /// It was cut, and its port is taken.
    pub async fn freeze(&mut self) -> Result<()> {
        self.set(Mode::Frozen).await
    }

    /// Holds up each piece of data for so long, in both directions.
    ///
    /// # Errors
    /// It was cut, and its port is taken.
    pub async fn slow(&mut self, delay: Duration) -> Result<()> {
        self.set(Mode::Open(delay)).await
    }

    /// Carries everything again, also what waited while it was frozen.
    ///
    /// # Errors
    /// It was cut, and its port is taken.
    pub async fn heal(&mut self) -> Result<()> {
        self.set(Mode::Open(Duration::ZERO)).await
    }

    async fn set(&mut self, mode: Mode) -> Result<()> {
        self.mode.send_replace(mode);
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).await;
            let listener = listener.with_context(|| format!("listening at {}", self.address))?;
            let accept = accept(listener, self.target, self.mode.subscribe());
            self.accepting = Some(tokio::spawn(accept));
        }
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(task) = &self.accepting {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    let watched = mode.clone();
    loop {
        tokio::select! {
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => break,
            accepted = listener.accept() => {
                // An error is the connection's, which is gone.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(carry(client, target, watched.clone()));
            }
            // So that ended connections are not kept.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, until it ends or the gate is cut.
async fn carry(client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let cut = {
        let mut mode = mode.clone();
        async move { mode.wait_for(|mode| *mode == Mode::Cut).await.is_ok() }
    };
    let connect = async {
        let thawed = mode.wait_for(|mode| *mode != Mode::Frozen).await;
        thawed.map_err(io::Error::other)?;
        TcpStream::connect(target).await
    };
    tokio::pin!(cut);
    let server = tokio::select! {
        _ = &mut cut => return reset(&client),
        server = connect => match server {
            Ok(server) => server,
            // What a client would see if it had connected to a dead server.
            Err(_) => return reset(&client),
        }
    };
    // Resets need the sockets as they are, and the two directions need them in halves.
    let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else {
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let there = carry_one_way(from_client, &mut to_server, mode.clone());
    let back = carry_one_way(from_server, &mut to_client, mode.clone());
    let broken = tokio::select! {
        _ = cut => true,
        ends = async { tokio::try_join!(there, back) } => ends.is_err(),
    };
    if broken {
        for half in [to_client, to_server] {
            reset(half.as_ref());
            // A half that is dropped says a polite goodbye first.
            half.forget();
        }
    }
}

async fn carry_one_way(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; STEP];
    loop {
        let count = from.read(&mut buffer).await?;
        let open = |mode: &Mode| !matches!(mode, Mode::Frozen);
        let now = *mode.wait_for(open).await.map_err(io::Error::other)?;
        if let Mode::Open(delay) = now
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default())
            .await?;
    }
}

/// Makes the connection's end a reset.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        eprintln!("a connection ends without a reset: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PATIENCE, Redis, RedisClient};

    const SHORT: Duration = Duration::from_millis(200);

    async fn ping(client: &mut RedisClient) -> bool {
        client.command(&["PING"]).await.is_ok()
    }

    #[tokio::test]
    async fn a_gate_that_is_cut_resets_and_refuses() {
        let redis = Redis::spawn().await.unwrap();
        let mut gate = Gate::to(redis.address()).await.unwrap();
        assert!(gate.url().starts_with("redis://127.0.0.1:"));
        let mut client = RedisClient::open(gate.address()).await.unwrap();
        assert!(ping(&mut client).await);
        gate.cut().await;
        let error = client.command(&["PING"]).await.unwrap_err();
        assert!(error.to_string().contains("reset"), "{error}");
        assert!(RedisClient::open(gate.address()).await.is_err());
        gate.heal().await.unwrap();
        let mut client = RedisClient::open(gate.address()).await.unwrap();
        assert!(ping(&mut client).await);
    }

    #[tokio::test]
    async fn a_frozen_gate_is_silent_and_forgets_nothing() {
        let redis = Redis::spawn().await.unwrap();
        let mut gate = Gate::to(redis.address()).await.unwrap();
        let open = RedisClient::open(gate.address()).await.unwrap();
        let mut old = open.with_patience(SHORT);
        assert!(ping(&mut old).await);
        gate.freeze().await.unwrap();
        assert!(!ping(&mut old).await);
        let open = RedisClient::open(gate.address()).await.unwrap();
        let mut new = open.with_patience(SHORT);
        assert!(!ping(&mut new).await);
        gate.heal().await.unwrap();
        for client in [&mut old, &mut new] {
            assert_eq!(client.receive().await.unwrap().text(), Some("PONG"));
        }
    }

    #[tokio::test]
    async fn a_slow_gate_holds_up_both_directions() {
        let redis = Redis::spawn().await.unwrap();
        let mut gate = Gate::to(redis.address()).await.unwrap();
        gate.slow(SHORT).await.unwrap();
        let open = RedisClient::open(gate.address()).await.unwrap();
        let mut client = open.with_patience(PATIENCE);
        let since = tokio::time::Instant::now();
        assert!(ping(&mut client).await);
        assert!(since.elapsed() >= 2 * SHORT);
    }

    #[tokio::test]
    async fn a_connection_ends_at_both_sides_when_it_ends_at_one() {
        let mut redis = Redis::spawn().await.unwrap();
        let gate = Gate::to(redis.address()).await.unwrap();
        let mut client = RedisClient::open(gate.address()).await.unwrap();
        assert!(ping(&mut client).await);
        redis.stop();
        let error = client.receive().await.unwrap_err();
        assert!(!error.to_string().contains("timed out"), "{error}");
    }
}
