//! The calls over HTTP/1.1.

use super::{
    call::{Call, Kind},
    json,
    record::{Record, Trouble},
};
use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// More headers than any call has.
const MAX_HEADERS: usize = 64;

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let named = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }
}

/// An answer, and how much of it is sent before the connection breaks.
struct Answer {
    status: u16,
    body: String,
    is_cut_off: bool,
}

impl Answer {
    const fn new(status: u16, body: String) -> Self {
        Self {
            status,
            body,
            is_cut_off: false,
        }
    }
}

pub(super) async fn serve<S>(mut stream: S, record: Arc<Record>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::new();
    while let Some(request) = read(&mut stream, &mut buffer, &record).await? {
        let answer = tokio::select! {
            answer = answer(&request, &record) => answer,
            // Who closes the connection takes the call back.
            () = ended(&mut stream, &mut buffer) => return Ok(()),
        };
        let (status, length) = (answer.status, answer.body.len());
        let text = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{}",
            answer.body
        );
        let mut bytes = text.as_bytes();
        if answer.is_cut_off {
            bytes = bytes.get(..bytes.len() - length / 2 - 1).unwrap_or(bytes);
        }
        stream.write_all(bytes).await?;
        stream.flush().await?;
        if answer.is_cut_off {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request; `None` at the connection's end.
async fn read<S>(stream: &mut S, buffer: &mut BytesMut, record: &Record) -> Result<Option<Request>>
where
    S: AsyncRead + Unpin,
{
    loop {
        let parsed = parse(buffer).inspect_err(|error| record.complain(format!("{error:#}")));
        if let Some(request) = parsed? {
            return Ok(Some(request));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(buffer: &mut BytesMut) -> Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(buffer)? else {
        return Ok(None);
    };
    let mut request = Request {
        method: parsed.method.context("no method")?.to_owned(),
        path: parsed.path.context("no path")?.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    for header in parsed.headers {
        let value = str::from_utf8(header.value)?.to_owned();
        request.headers.push((header.name.to_owned(), value));
    }
    let length = request
        .header("content-length")
        .map_or(Ok(0), str::parse::<usize>)?;
    ensure!(
        request.header("transfer-encoding").is_none(),
        "a body of unknown length"
    );
    if buffer.len() < head + length {
        return Ok(None);
    }
    buffer.advance(head);
    request.body = buffer.split_to(length).to_vec();
    Ok(Some(request))
}

async fn ended<S>(stream: &mut S, buffer: &mut BytesMut)
where
    S: AsyncRead + Unpin,
{
    while matches!(stream.read_buf(buffer).await, Ok(read) if read > 0) {}
}

async fn answer(request: &Request, record: &Arc<Record>) -> Answer {
    if !record.admits(request.header("authorization")) {
        return Answer::new(401, String::new());
    }
    let call = match understand(request) {
        Ok(call) => call,
        Err(error) => {
            let error = format!("{error:#}");
            record.complain(format!("{} {}: {error}", request.method, request.path));
            return Answer::new(422, error);
        }
    };
    let kind = call.kind;
    match Arc::clone(record).answer(call).await {
        Ok(reply) => Answer::new(200, json::reply(kind, &reply)),
        Err(Trouble::Unauthorized) => Answer::new(401, String::new()),
        Err(Trouble::Exhausted) => Answer::new(503, String::new()),
        Err(Trouble::CutOff) => Answer {
            is_cut_off: true,
            ..Answer::new(200, r#"{"status":1}"#.to_owned())
        },
        Err(Trouble::Failing | Trouble::Error) => {
            Answer::new(500, "<h1>We're sorry</h1>".to_owned())
        }
    }
}

fn understand(request: &Request) -> Result<Call> {
    ensure!(request.method == "POST", "not a POST");
    let kind = match request.path.as_str() {
        "/_anycable/connect" => Some(Kind::Connect),
        "/_anycable/disconnect" => Some(Kind::Disconnect),
        "/_anycable/command" => None,
        _ => anyhow::bail!("no such path"),
    };
    let content = request.header("content-type");
    ensure!(content == Some("application/json"), "content: {content:?}");
    let version = request.header("x-anycable-meta-protov");
    ensure!(version == Some("v1"), "version: {version:?}");
    let sid = request.header("x-anycable-meta-sid").context("no sid")?;
    ensure!(!sid.is_empty(), "an empty sid");
    let mut call = json::call(kind, &request.body)?;
    call.sid = sid.to_owned();
    call.authorization = request.header("authorization").map(str::to_owned);
    Ok(call)
}
