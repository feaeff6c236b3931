//! An application that does as it is told.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use pollux_rpc::{
    Backend, CallError, Options,
    call::{Connect, Connected, Status},
    generated::{
        CommandMessage, CommandResponse, ConnectionRequest, ConnectionResponse, DisconnectRequest,
        DisconnectResponse,
        rpc_server::{Rpc, RpcServer},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// Longer than anything takes on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Grpc,
}

pub(crate) use Transport::{Grpc, Http};

/// What the application does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this status.
    Answer,
    /// Answers with these bytes in its transport's format; HTTP only.
    Say(Bytes),
    /// Fails with an HTTP status or a gRPC code.
    Fail(u16),
    /// Breaks the connection off, having run.
    Break,
    /// Does not answer until it is told to.
    Wait,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// What all connections of an application share.
#[derive(Debug)]
pub(crate) struct App {
    /// What is done with the next calls; then they are answered.
    script: Mutex<VecDeque<Act>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) runs: AtomicU64,
    pub(crate) now: AtomicU64,
    pub(crate) most_at_once: AtomicU64,
    /// Calls that were taken back while they ran.
    pub(crate) stopped: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Connections that were cut, and that the client has closed as well.
    pub(crate) closed: AtomicU64,
    /// Calls that wait go on at true.
    go: watch::Sender<bool>,
    /// Connections end when this changes.
    cut: watch::Sender<u64>,
}

impl App {
    pub(crate) fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            runs: 0.into(),
            now: 0.into(),
            most_at_once: 0.into(),
            stopped: 0.into(),
            connections: 0.into(),
            closed: 0.into(),
            go: watch::Sender::new(false),
            cut: watch::Sender::new(0),
        })
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(SeqCst)
    }

    /// Lets calls that wait go on.
    pub(crate) fn go(&self) {
        self.go.send_replace(true);
    }

    /// Breaks all connections off.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    async fn run(&self, seen: Seen) -> Act {
        self.seen.lock().push(seen);
        self.runs.fetch_add(1, SeqCst);
        let running = Running::new(self);
        let act = self.script.lock().pop_front().unwrap_or(Act::Answer);
        match act {
            Act::Break => {
                self.cut();
                std::future::pending::<()>().await;
            }
            Act::Wait => {
                let mut go = self.go.subscribe();
                go.wait_for(|&go| go).await.unwrap();
            }
            _ => {}
        }
        running.end();
        act
    }
}

struct Running<'a>(&'a App, bool);

impl<'a> Running<'a> {
    fn new(app: &'a App) -> Self {
        let now = app.now.fetch_add(1, SeqCst) + 1;
        app.most_at_once.fetch_max(now, SeqCst);
        Self(app, false)
    }

    fn end(mut self) {
        self.1 = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
        if !self.1 {
            self.0.stopped.fetch_add(1, SeqCst);
        }
    }
}

/// An application that listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(transport: Transport, app: &Arc<App>) -> Self {
        Self::start_at(transport, app, free_address(), None).await
    }

    pub(crate) async fn start_at(
        transport: Transport,
        app: &Arc<App>,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::clone(app);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, SeqCst);
                let app = Arc::clone(&shared);
                let tls = tls.clone();
                connections.spawn(async move {
                    let stream = stream.into_std().unwrap();
                    let twin = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
                    let stream = TcpStream::from_std(stream).unwrap();
                    let mut cut = app.cut.subscribe();
                    tokio::select! {
                        () = serve(transport, stream, tls, Arc::clone(&app)) => {}
                        _ = cut.changed() => {
                            end(twin).await;
                            app.closed.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
        });
        Self {
            app: Arc::clone(app),
            address,
            task,
        }
    }

    pub(crate) fn host(&self, transport: Transport) -> String {
        host(transport, self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends a connection, and waits until the client has done so too.
async fn end(mut stream: TcpStream) {
    // A client that is faster has closed it with an error.
    if stream.shutdown().await.is_ok() {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap_or_default();
    }
}

async fn serve(transport: Transport, stream: TcpStream, tls: Option<TlsAcceptor>, app: Arc<App>) {
    match tls {
        None => speak(transport, TokioIo::new(stream), app).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                Box::pin(speak(transport, TokioIo::new(stream), app)).await;
            }
        }
    }
}

async fn speak<T>(transport: Transport, stream: T, app: Arc<App>)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    // How a connection ends is its client's matter.
    let ended = match transport {
        Http => {
            let service = service_fn(move |request| answer(Arc::clone(&app), request));
            conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(stream, service)
                .await
        }
        Grpc => {
            let service = TowerToHyperService::new(RpcServer::new(Served(app)));
            conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, service)
                .await
        }
    };
    drop(ended);
}

async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let seen = Seen {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    let (status, body) = match app.run(seen).await {
        Act::Say(body) => (200, body),
        Act::Fail(status) => (status, Bytes::from_static(b"a secret trace")),
        _ => (
            200,
            Bytes::from_static(br#"{"status":1,"identifiers":"me"}"#),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

struct Served(Arc<App>);

impl Served {
    async fn run<T>(
        &self,
        path: &str,
        request: tonic::Request<impl prost::Message>,
        answer: T,
    ) -> Result<tonic::Response<T>, tonic::Status> {
        let seen = Seen {
            path: path.to_owned(),
            headers: request.metadata().clone().into_headers(),
            body: request.into_inner().encode_to_vec().into(),
        };
        match self.0.run(seen).await {
            Act::Fail(code) => Err(tonic::Status::new(
                tonic::Code::from_i32(code.into()),
                "a secret trace",
            )),
            _ => Ok(tonic::Response::new(answer)),
        }
    }
}

#[tonic::async_trait]
impl Rpc for Served {
    async fn connect(
        &self,
        request: tonic::Request<ConnectionRequest>,
    ) -> Result<tonic::Response<ConnectionResponse>, tonic::Status> {
        let answer = ConnectionResponse {
            status: 1,
            identifiers: "me".to_owned(),
            ..ConnectionResponse::default()
        };
        self.run("connect", request, answer).await
    }

    async fn command(
        &self,
        request: tonic::Request<CommandMessage>,
    ) -> Result<tonic::Response<CommandResponse>, tonic::Status> {
        let answer = CommandResponse {
            status: 2,
            streams: vec!["s".repeat(100)],
            ..CommandResponse::default()
        };
        self.run("command", request, answer).await
    }

    async fn disconnect(
        &self,
        request: tonic::Request<DisconnectRequest>,
    ) -> Result<tonic::Response<DisconnectResponse>, tonic::Status> {
        let answer = DisconnectResponse {
            status: 1,
            ..DisconnectResponse::default()
        };
        self.run("disconnect", request, answer).await
    }
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn host(transport: Transport, address: SocketAddr) -> String {
    match transport {
        Http => format!("http://{address}/_anycable"),
        Grpc => address.to_string(),
    }
}

pub(crate) fn options(hosts: impl IntoIterator<Item = String>) -> Options {
    Options {
        hosts: hosts.into_iter().collect(),
        ..Options::default()
    }
}

pub(crate) fn backend(options: Options) -> Arc<Backend> {
    Arc::new(Backend::new(options).unwrap())
}

/// A call as short as it can be.
pub(crate) async fn call(backend: &Backend) -> Result<Connected, CallError> {
    let answer = backend.connect("sid", Connect::default()).await?;
    assert_eq!(
        (answer.status, &*answer.identifiers),
        (Status::Success, "me")
    );
    Ok(answer)
}

/// A call that runs beside the test.
pub(crate) fn start(backend: &Arc<Backend>) -> JoinHandle<Result<Connected, CallError>> {
    let backend = Arc::clone(backend);
    tokio::spawn(async move { call(&backend).await })
}
