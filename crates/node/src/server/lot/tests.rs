//! The lot and hyper, side by side: the same request gets the same answer.

use crate::{
    clock::Clock,
    config::Config,
    http::{self, PollDoor},
    node::Node,
    server::{Server, ServerConfig, Service, listen},
    telemetry::Throttle,
};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A node with two listeners: one starts connections in the lot, the other
/// gives them to hyper at once.
struct Pair {
    node: Node,
    server: Arc<Server>,
    lot: SocketAddr,
    hyper: SocketAddr,
}

impl Pair {
    /// Boxed: a node is too large to be part of every test's future.
    fn start(config: Config) -> Pin<Box<impl Future<Output = Self>>> {
        Box::pin(Self::of(Node::builder().config(config).build().unwrap()))
    }

    async fn of(node: Node) -> Self {
        let server = Arc::new(Server {
            config: ServerConfig {
                max_connections: 0,
                header_read_timeout: Duration::from_secs(75),
                write_timeout: Duration::from_secs(10),
            },
            tls: None,
            clock: Clock::start(),
            metrics: Arc::clone(&node.runtime().metrics),
            stop_accepting: CancellationToken::new(),
            stop_connections: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: AtomicUsize::new(0),
            trouble: Throttle::default(),
        });
        let mut addresses = Vec::new();
        for in_lot in [true, false] {
            let listener = listen("127.0.0.1", 0).await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let poll: (String, PollDoor) = node.poll_door().unwrap();
            let router = http::router(node.doors());
            let service = Service {
                in_lot,
                poll: Some(poll),
                router,
                spare: None,
                hurries: false,
            };
            tokio::spawn(Arc::clone(&server).run(listener, Arc::new(service)));
        }
        Self {
            node,
            server,
            lot: addresses[0],
            hyper: addresses[1],
        }
    }

    /// The routes of the poll ids that both give to an open with this header.
    async fn routes(&self, header: &str) -> [String; 2] {
        let open = format!("POST /lp HTTP/1.1\r\n{header}\r\n\r\n");
        let mut routes = Vec::new();
        for address in [self.lot, self.hyper] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let answer = ask(&mut stream, open.as_bytes()).await;
            let id = answer
                .lines()
                .find_map(|line| line.strip_prefix("x-anycable-poll-id: "));
            let (route, _secret) = id.unwrap().split_once('.').unwrap();
            routes.push(route.to_owned());
        }
        routes.try_into().unwrap()
    }

    /// The answers of both, and that the lot served it or handed it over.
    async fn both(&self, request: &[u8]) -> (String, String) {
        tokio::join!(exchange(self.lot, request), exchange(self.hyper, request))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.server.stop_accepting.cancel();
    }
}

/// Sends bytes in two halves and returns the answer, and that to a farewell
/// unless the connection was closed before.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (first, second) = request.split_at(request.len() / 2);
    stream.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    let mut seen = ask(&mut stream, second).await;
    let farewell = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    if stream.write_all(farewell).await.is_ok() {
        seen.push_str(&ask(&mut stream, b"").await);
    }
    normal(&seen)
}

/// Without what differs from one request to the next.
fn normal(answer: &str) -> String {
    let mut normal = String::new();
    for line in answer.split_inclusive('\n') {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "date" => normal.push_str("date: …\r\n"),
            "x-anycable-poll-id" => normal.push_str("x-anycable-poll-id: …\r\n"),
            _ if line.contains("\"sid\"") => normal.push_str("{welcome}\n"),
            _ => normal.push_str(line),
        }
    }
    normal
}

fn config() -> Config {
    Config {
        poll_interval: Duration::from_millis(50),
        poll_max_request_size: 1_000,
        ..Config::default()
    }
}

const SUBSCRIBE: &str =
    r#"{"command":"subscribe","identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"a\"}"}"#;

fn with_body(head: &str, body: &str) -> Vec<u8> {
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let large = "x".repeat(1_001);
    let requests: Vec<Vec<u8>> = vec![
        b"POST /lp HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"POST /lp?jid=1 HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n".to_vec(),
        with_body("POST /lp HTTP/1.1\r\nHost: a", SUBSCRIBE),
        with_body(
            "POST /lp HTTP/1.1\r\nHost: a",
            &format!("{SUBSCRIBE}\n{{\"command\":\"ping\"}}\n"),
        ),
        with_body("POST /lp HTTP/1.1\r\nHost: a", "not json"),
        with_body("POST /lp HTTP/1.1\r\nHost: a", &large),
        b"POST /lp HTTP/1.1\r\nX-Anycable-Poll-ID: null\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.1\r\nX-Anycable-Poll-ID: a.AAAAAAAAAAAAAAAAAAAAAA\r\n\r\n".to_vec(),
        b"OPTIONS /lp HTTP/1.1\r\nOrigin: http://b\r\nAccess-Control-Request-Method: POST\r\n\r\n"
            .to_vec(),
        b"GET /lp HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PUT /lp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.0\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_vec(),
        b"POST /lp HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec(),
        b"POST /lp HTTP/1.1\r\nbad header\r\n\r\n".to_vec(),
        b"POST /nowhere HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
    ];
    for allowed in [vec![], vec!["b".to_owned()]] {
        let pair = Pair::start(Config {
            allowed_origins: allowed,
            ..config()
        })
        .await;
        for request in &requests {
            let (lot, hyper) = pair.both(request).await;
            assert!(!lot.is_empty(), "{}", String::from_utf8_lossy(request));
            assert_eq!(lot, hyper, "{}", String::from_utf8_lossy(request));
        }
        assert!(pair.node.session_count() > 0);
    }
}

/// A session's whole life on one connection, as its bytes.
async fn life(node: &Node, address: SocketAddr, stream_name: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut seen = String::new();
    let open = with_body(
        "POST /lp HTTP/1.1\r\nHost: a",
        &SUBSCRIBE.replace("\"a\\\"", &format!("\"{stream_name}\\\"")),
    );
    let first = ask(&mut stream, &open).await;
    let id = first
        .lines()
        .find_map(|line| line.strip_prefix("x-anycable-poll-id: "));
    let id = id.unwrap().trim().to_owned();
    seen.push_str(&normal(&first));
    let poll = format!("POST /lp HTTP/1.1\r\nX-Anycable-Poll-ID: {id}\r\n\r\n").into_bytes();
    // Nothing, one frame, several frames, a body beyond one write's copy.
    seen.push_str(&normal(&ask(&mut stream, &poll).await));
    node.publish(stream_name, "1").await.unwrap();
    seen.push_str(&normal(&ask(&mut stream, &poll).await));
    node.publish(stream_name, "2").await.unwrap();
    node.publish(stream_name, &"long ".repeat(20_000))
        .await
        .unwrap();
    seen.push_str(&normal(&ask(&mut stream, &poll).await));
    seen
}

/// One request, and its answer by its length, or all there is before the end.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
}

#[tokio::test]
async fn a_session_looks_the_same_on_both() {
    let pair = Pair::start(config()).await;
    let epoch = |text: String| {
        let position = text.find("\"epoch\":\"").unwrap();
        let epoch = text.get(position..position + 25).unwrap().to_owned();
        text.replace(&epoch, "epoch")
            .replace("one", "name")
            .replace("two", "name")
    };
    let lot = epoch(life(&pair.node, pair.lot, "one").await);
    let hyper = epoch(life(&pair.node, pair.hyper, "two").await);
    assert_eq!(lot, hyper);
}

/// The answer to a request that takes gzip: its head, and its body in hex.
async fn compressed(stream: &mut TcpStream, request: &[u8]) -> (String, String) {
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (normal(&head), format!("{body:x?}"))
}

#[tokio::test]
async fn a_compressed_answer_is_the_same_on_both() {
    let pair = Pair::start(config()).await;
    let mut clients = Vec::new();
    for address in [pair.lot, pair.hyper] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let open = with_body("POST /lp HTTP/1.1\r\nHost: a", SUBSCRIBE);
        let first = ask(&mut stream, &open).await;
        let id = first
            .lines()
            .find_map(|line| line.strip_prefix("x-anycable-poll-id: "));
        clients.push((stream, id.unwrap().trim().to_owned()));
    }
    for data in ["short".to_owned(), "long ".repeat(1_000)] {
        pair.node.publish("a", &data).await.unwrap();
        let mut seen = Vec::new();
        for (stream, id) in &mut clients {
            let poll = format!(
                "POST /lp HTTP/1.1\r\nX-Anycable-Poll-ID: {id}\r\nAccept-Encoding: br, gzip\r\n\
                 Pollux-Cursor: 2\r\n\r\n"
            );
            seen.push(compressed(stream, poll.as_bytes()).await);
        }
        assert_eq!(seen[0], seen[1]);
        let is_compressed = seen[0].0.contains("\r\ncontent-encoding: gzip\r\n");
        assert_eq!(is_compressed, data.len() > 1_024, "{}", seen[0].0);
        assert!(seen[0].0.contains("\r\nvary: Origin, Accept-Encoding\r\n"));
    }
}

#[tokio::test]
async fn a_proxy_chooses_the_route_on_both() {
    let pair = Pair::start(config()).await;
    assert_eq!(pair.routes("X-Pollux-Route: a-1_B").await, ["a-1_B"; 2]);
    for malformed in ["a.b", "", "a b", &"x".repeat(65)] {
        let routes = pair.routes(&format!("X-Pollux-Route: {malformed}")).await;
        assert!(
            !routes.contains(&malformed.to_owned()) && routes[0] != routes[1],
            "{malformed:?}: {routes:?}"
        );
    }
    let ignored = &pair.node.runtime().metrics.ignored_routes;
    assert_eq!(ignored.with_label_values(&["malformed"]).get(), 8);

    let stranger = Pair::start(Config {
        trusted_proxies: vec!["10.0.0.0/8".to_owned()],
        ..config()
    })
    .await;
    let routes = stranger.routes("X-Pollux-Route: a").await;
    assert!(!routes.contains(&"a".to_owned()), "{routes:?}");
    let ignored = &stranger.node.runtime().metrics.ignored_routes;
    assert_eq!(ignored.with_label_values(&["untrusted"]).get(), 2);
}

#[tokio::test]
async fn a_poll_in_the_lot_is_small() {
    let pair = Pair::start(config()).await;
    let service = Arc::new(Service {
        in_lot: true,
        poll: pair.node.poll_door(),
        router: axum::Router::new(),
        spare: None,
        hurries: false,
    });
    let listener = listen("127.0.0.1", 0).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let task = pair.server.serve(stream, service, None);
    let size = size_of_val(&task);
    assert!(
        size <= 1_280,
        "the task of a waiting poll takes {size} bytes"
    );
}
