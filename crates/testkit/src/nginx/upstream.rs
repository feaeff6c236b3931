//! A server that is no node: it notes what it is sent, and says what it is told to.

use crate::{CHECK_EVERY, free_port};
use anyhow::Result;
use parking_lot::Mutex;
use std::{fmt, io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Where nginx believes a node to be.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// What all connections that were answered say next.
    more: watch::Sender<String>,
    task: JoinHandle<()>,
}

type Answer = dyn Fn(usize) -> Option<String> + Send + Sync;

struct Shared {
    requests: Mutex<Vec<String>>,
    answer: Box<Answer>,
}

impl Upstream {
    /// Starts it on a free port. `answer` gets the number of a request, starting with 0, and
    /// returns the bytes of its answer, or nothing to close the connection without one.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn spawn(
        answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", free_port()?)).await {
                // Others look for a port at the same time.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => break bound?,
            }
        };
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            answer: Box::new(answer),
        });
        let (more, _) = watch::channel(String::new());
        let task = tokio::spawn({
            let (shared, more) = (Arc::clone(&shared), more.clone());
            async move {
                // They end with the listener.
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(Arc::clone(&shared).serve(stream, more.subscribe()));
                }
            }
        });
        Ok(Self {
            address,
            shared,
            more,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, as they came.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    /// Stops listening and ends its connections: from now on, all are refused.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends with an error, which says that it was told to.
        drop((&mut self.task).await);
        // A program that another test is just starting holds the socket until it runs.
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Says more on every open connection.
    pub fn say(&self, bytes: &str) {
        self.more.send_replace(bytes.to_owned());
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: TcpStream, mut more: watch::Receiver<String>) {
        let mut bytes = Vec::new();
        loop {
            let say = tokio::select! {
                read = stream.read_buf(&mut bytes) => {
                    if !matches!(read, Ok(length) if length > 0) {
                        return;
                    }
                    if !is_complete(&bytes) {
                        continue;
                    }
                    let request = String::from_utf8_lossy(&bytes).into_owned();
                    bytes.clear();
                    match self.answer_to(request) {
                        Some(answer) => answer,
                        None => return,
                    }
                }
                Ok(()) = more.changed() => more.borrow_and_update().clone(),
            };
            if stream.write_all(say.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer_to(&self, request: String) -> Option<String> {
        let mut requests = self.requests.lock();
        requests.push(request);
        (self.answer)(requests.len() - 1)
    }
}

/// Whether this is a request with its body, whose length nginx always says.
fn is_complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    body.len() >= length.map_or(0, |(_, length)| length.parse().unwrap_or(0))
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
