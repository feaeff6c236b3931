//! The two ways of taking requests.

use super::Record;
use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::Mutex;
use prost::Message as _;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A flag and a length are before each message of gRPC.
const PREFIX: usize = 5;

/// An empty one.
const NOTHING: &[u8; PREFIX] = &[0; PREFIX];

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const HTTP_PATH: &str = "/v1/traces";

/// More headers than any request has.
const MAX_HEADERS: usize = 32;

pub(super) async fn grpc(listener: TcpListener, record: Arc<Mutex<Record>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let record = Arc::clone(&record);
        connections.spawn(async move {
            let mut connection = h2::server::handshake(stream).await?;
            while let Some(accepted) = connection.accept().await {
                let (request, respond) = accepted?;
                // The connection has to be driven for the body to come.
                let record = Arc::clone(&record);
                tokio::spawn(async move { export(request, respond, &record).await });
            }
            anyhow::Ok(())
        });
    }
}

async fn export(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    record: &Mutex<Record>,
) -> Result<()> {
    let mut body = BytesMut::new();
    while let Some(chunk) = request.body_mut().data().await {
        let chunk = chunk?;
        let flow = request.body_mut().flow_control();
        flow.release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    note(record, headers, understand_grpc(&path, &body));
    let response = Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(response.body(())?, false)?;
    stream.send_data(Bytes::from_static(NOTHING), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}

fn understand_grpc(path: &str, body: &[u8]) -> Result<ExportTraceServiceRequest> {
    ensure!(path == GRPC_PATH, "gRPC path {path}");
    let (prefix, message) = body.split_at_checked(PREFIX).context("no message")?;
    ensure!(prefix.first() == Some(&0), "compressed");
    Ok(ExportTraceServiceRequest::decode(message)?)
}

pub(super) async fn http(listener: TcpListener, record: Arc<Mutex<Record>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let record = Arc::clone(&record);
        connections.spawn(async move { posts(stream, &record).await });
    }
}

async fn posts(mut stream: TcpStream, record: &Mutex<Record>) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        match post(&mut buffer) {
            Ok(None) => {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            Ok(Some((headers, request))) => {
                note(record, headers, Ok(request));
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                    content-length: 0\r\n\r\n";
                stream.write_all(answer).await?;
            }
            Err(error) => {
                record.lock().complaints.push(format!("{error:#}"));
                return Ok(());
            }
        }
    }
}

/// A whole request, taken out of the buffer.
fn post(buffer: &mut BytesMut) -> Result<Option<(HeaderMap, ExportTraceServiceRequest)>> {
    let mut parsed = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut parsed);
    let httparse::Status::Complete(head) = request.parse(buffer)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes())?;
        headers.insert(name, HeaderValue::from_bytes(header.value)?);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let what = (request.method, request.path, text("content-type"));
    let expected = (
        Some("POST"),
        Some(HTTP_PATH),
        Some("application/x-protobuf"),
    );
    ensure!(what == expected, "{what:?}");
    ensure!(text("host").is_some(), "no host");
    let length: usize = text("content-length").context("no length")?.parse()?;
    if buffer.len() < head + length {
        return Ok(None);
    }
    buffer.advance(head);
    let body = buffer.split_to(length);
    Ok(Some((headers, ExportTraceServiceRequest::decode(body)?)))
}

fn note(record: &Mutex<Record>, headers: HeaderMap, request: Result<ExportTraceServiceRequest>) {
    let mut record = record.lock();
    match request {
        Ok(request) => record.take(headers, request),
        Err(error) => record.complaints.push(format!("{error:#}")),
    }
}
