//! The calls over gRPC.

use super::{
    call::Call,
    protobuf,
    record::{Record, Trouble},
};
use anyhow::{Context, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::poll_fn;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::JoinSet,
};

/// A flag and a length are before each message.
const PREFIX: usize = 5;

const OK: u8 = 0;
const INVALID_ARGUMENT: u8 = 3;
const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
const UNAUTHENTICATED: u8 = 16;

pub(super) async fn serve<S>(stream: S, record: Arc<Record>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = h2::server::handshake(stream).await?;
    let cut = Arc::new(Notify::new());
    let mut calls = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = cut.notified() => return Ok(()),
        };
        let Some(accepted) = accepted else {
            return Ok(());
        };
        let (request, respond) = accepted?;
        let (record, cut) = (Arc::clone(&record), Arc::clone(&cut));
        calls.spawn(exchange(request, respond, record, cut));
        while calls.try_join_next().is_some() {}
    }
}

async fn exchange(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    record: Arc<Record>,
    cut: Arc<Notify>,
) -> Result<()> {
    let body = body(request.body_mut()).await?;
    let call = match understand(&request, &body) {
        Ok(call) => call,
        Err(error) => {
            record.complain(format!("{}: {error:#}", request.uri().path()));
            return refuse(&mut respond, INVALID_ARGUMENT);
        }
    };
    let kind = call.kind;
    let answer = tokio::select! {
        answer = record.answer(call) => answer,
        // Who resets the request takes the call back.
        _ = poll_fn(|context| respond.poll_reset(context)) => return Ok(()),
    };
    match answer {
        Ok(reply) => {
            let message = protobuf::reply(kind, &reply);
            let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
            bytes.put_u8(0);
            bytes.put_u32(u32::try_from(message.len())?);
            bytes.put_slice(&message);
            let mut stream = respond.send_response(response()?, false)?;
            stream.send_data(bytes.freeze(), false)?;
            finish(&mut stream)
        }
        Err(Trouble::Unauthorized) => refuse(&mut respond, UNAUTHENTICATED),
        Err(Trouble::Exhausted) => refuse(&mut respond, RESOURCE_EXHAUSTED),
        Err(Trouble::Failing | Trouble::Error) => refuse(&mut respond, INTERNAL),
        Err(Trouble::CutOff) => {
            cut.notify_one();
            Ok(())
        }
    }
}

async fn body(stream: &mut RecvStream) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn understand(request: &Request<RecvStream>, body: &[u8]) -> Result<Call> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    ensure!(request.method() == "POST", "not a POST");
    let content = header("content-type");
    let is_grpc = content.is_some_and(|content| content.starts_with("application/grpc"));
    ensure!(is_grpc, "content: {content:?}");
    ensure!(header("te") == Some("trailers"), "no trailers");
    ensure!(header("protov") == Some("v1"), "{:?}", header("protov"));
    let sid = header("sid").context("no sid")?;
    ensure!(!sid.is_empty(), "an empty sid");
    let method = request.uri().path().strip_prefix("/anycable.RPC/");
    let (prefix, message) = body.split_at_checked(PREFIX).context("no message")?;
    let length = u32::try_from(message.len())?.to_be_bytes();
    // Not compressed, and nothing after it.
    ensure!(
        prefix.first() == Some(&0) && prefix.get(1..) == Some(&length),
        "prefix {prefix:?}"
    );
    let mut call = protobuf::call(method.context("no such service")?, message)?;
    call.sid = sid.to_owned();
    Ok(call)
}

fn response() -> Result<Response<()>> {
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(())?)
}

fn finish(stream: &mut SendStream<Bytes>) -> Result<()> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(OK)));
    Ok(stream.send_trailers(trailers)?)
}

/// An answer of nothing but a status.
fn refuse(respond: &mut SendResponse<Bytes>, status: u8) -> Result<()> {
    let mut response = response()?;
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    headers.insert("grpc-message", HeaderValue::from_static("out of order"));
    respond.send_response(response, true)?;
    Ok(())
}
