//! WebSocket below its messages: fragments, pings among them, sizes, and what breaks the rules.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Cable, Connection, Node, Request, frames};
use serde_json::{Value, json};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// A connection that writes its frames itself.
struct Raw(Connection);

impl Raw {
    async fn open(node: &Node, offers: &[(&str, &str)]) -> Result<(Self, String)> {
        let mut request = Request::get("/cable")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in offers {
            request = request.header(name, value);
        }
        let mut connection = Connection::open(node.address()).await?;
        connection.send(&request).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(connection.bytes(1).await?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 101 "), "{head}");
        let mut raw = Self(connection);
        let (opcode, welcome) = raw.frame().await?;
        ensure!(
            opcode == TEXT && welcome.starts_with(br#"{"type":"welcome""#),
            "no welcome"
        );
        Ok((raw, head))
    }

    /// Writes one frame, with a mask of zeros.
    async fn say(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(MASK | u8::try_from(short)?),
            middle @ 126..65_536 => {
                bytes.push(MASK | 126);
                bytes.extend(u16::try_from(middle)?.to_be_bytes());
            }
            long => {
                bytes.push(MASK | 127);
                bytes.extend(u64::try_from(long)?.to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.0.send_bytes(&bytes).await
    }

    /// The next frame, which servers send whole and without a mask.
    async fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let head = self.0.bytes(2).await?;
        ensure!(head[0] & 0x70 == 0, "reserved bits are set: {head:?}");
        ensure!(head[0] & FIN != 0 && head[1] & MASK == 0, "{head:?}");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(
                self.0.bytes(2).await?.as_slice().try_into()?,
            )),
            127 => u64::from_be_bytes(self.0.bytes(8).await?.as_slice().try_into()?),
            short => u64::from(short),
        };
        let payload = self.0.bytes(usize::try_from(length)?).await?;
        Ok((head[0] & 0x0f, payload))
    }

    /// The next frame that is no ping of the protocol above.
    async fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            let (opcode, payload) = self.frame().await?;
            if !payload.starts_with(br#"{"type":"ping""#) {
                return Ok((opcode, payload));
            }
        }
    }

    /// The code the server closes with.
    async fn closed(&mut self) -> Result<u16> {
        let (opcode, payload) = self.next().await?;
        ensure!(opcode == CLOSE, "frame {opcode} instead of a close");
        let code = payload.first_chunk::<2>().context("no code")?;
        Ok(u16::from_be_bytes(*code))
    }
}

#[tokio::test]
async fn fragments_are_one_message_and_pings_may_stand_between_them() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let (mut raw, _) = Raw::open(&node, &[]).await?;
    let command = frames::subscribe(&frames::public("a"));
    let (start, rest) = command.as_bytes().split_at(10);
    let (middle, end) = rest.split_at(20);
    raw.say(TEXT, start).await?;
    raw.say(FIN | PING, b"abc").await?;
    raw.say(CONTINUATION, middle).await?;
    raw.say(FIN | CONTINUATION, end).await?;
    assert_eq!(raw.next().await?, (PONG, b"abc".to_vec()));
    let (opcode, confirmed) = raw.next().await?;
    assert_eq!(opcode, TEXT);
    let confirmed: Value = serde_json::from_slice(&confirmed)?;
    assert_eq!(frames::kind(&confirmed), "confirm_subscription");
    // Binary frames are taken like text; pings of nothing are answered with nothing.
    raw.say(FIN | BINARY, br#"{"command":"ping"}"#).await?;
    raw.say(FIN | PING, b"").await?;
    let mut said = vec![raw.next().await?, raw.next().await?];
    said.sort();
    let pong = (TEXT, br#"{"type":"pong"}"#.to_vec());
    assert_eq!(said, [pong, (PONG, Vec::new())]);
    Ok(())
}

#[tokio::test]
async fn a_client_that_closes_is_answered() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let (mut raw, _) = Raw::open(&node, &[]).await?;
    raw.say(FIN | CLOSE, &1000_u16.to_be_bytes()).await?;
    assert_eq!(raw.closed().await?, 1000);
    Ok(())
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_which() -> Result<()> {
    let node = Node::builder()
        .flag("max_message_size", "1000")
        .spawn()
        .await?;
    let cases: [(u8, &[u8], u16); 6] = [
        (FIN | TEXT, b"{\"a\":\"\xff\xfe\"}", 1007),
        (FIN | TEXT, &[b'x'; 1_001], 1009),
        // A continuation of nothing, a ping in pieces, a reserved bit, an unknown kind.
        (FIN | CONTINUATION, b"x", 1002),
        (PING, b"x", 1002),
        (FIN | TEXT | 0x40, b"{}", 1002),
        (FIN | 3, b"x", 1002),
    ];
    for (first, payload, code) in cases {
        let (mut raw, _) = Raw::open(&node, &[]).await?;
        raw.say(first, payload).await?;
        assert_eq!(
            raw.closed().await.with_context(|| format!("{first:#x}"))?,
            code
        );
    }
    // Clients must mask.
    let (mut raw, _) = Raw::open(&node, &[]).await?;
    raw.0.send_bytes(&[FIN | TEXT, 2, b'{', b'}']).await?;
    assert_eq!(raw.closed().await?, 1002);
    // Fragments add up.
    let (mut raw, _) = Raw::open(&node, &[]).await?;
    raw.say(TEXT, &[b' '; 600]).await?;
    raw.say(FIN | CONTINUATION, &[b' '; 600]).await?;
    assert_eq!(raw.closed().await?, 1009);
    Ok(())
}

/// Compression is optional, and not offered by this server: an offer is passed over, and frames
/// come as they are.
#[tokio::test]
async fn an_offer_to_compress_is_passed_over() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover",
    ] {
        let offers = [("Sec-WebSocket-Extensions", offer)];
        let (mut raw, head) = Raw::open(&node, &offers).await?;
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        raw.say(FIN | TEXT, br#"{"command":"ping"}"#).await?;
        assert_eq!(raw.next().await?.1, br#"{"type":"pong"}"#);
    }
    Ok(())
}

#[tokio::test]
async fn messages_of_every_size_pass_both_ways() -> Result<()> {
    let node = Node::builder()
        .flag("max_message_size", "4000000")
        .flag("max_publication_size", "4000000")
        .flag("ws_max_pending_size", "8000000")
        .spawn()
        .await?;
    let identifier = frames::public("a");
    let mut one = Cable::open(&node).await?;
    let mut other = Cable::open(&node).await?;
    one.subscribe(&identifier).await?;
    other.subscribe(&identifier).await?;
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        let text = json!("x".repeat(size));
        one.say(&frames::whisper(&identifier, &text)).await?;
        assert_eq!(other.messages(1).await?, [text], "{size}");
    }
    Ok(())
}

/// How many answers ten thousand messages take is a matter of the outbox's bounds: what fits comes in
/// one, because each further answer would cost the client a request. They come in their order.
#[tokio::test]
async fn a_large_backlog_comes_in_order() -> Result<()> {
    const COUNT: u64 = 10_000;
    let node = Node::builder()
        .flag("history_limit", "10000")
        .flag("poll_outbox_max_bytes", "8000000")
        .flag("poll_outbox_max_frames", "20000")
        .spawn()
        .await?;
    for start in (0..COUNT).step_by(500) {
        let some =
            (start..start + 500).map(|number| json!({"stream": "a", "data": number.to_string()}));
        let body = Value::Array(some.collect()).to_string();
        let response = node.broadcast(&body).await?;
        ensure!(response.status == 201, "{}", response.status);
    }
    let mut poller = pollux_testkit::Poller::open(&node).await?;
    let line = frames::subscribe_with_history(&frames::public("a"), &json!({"since": 0}));
    let mut got = frames::messages(&poller.poll_with(&line).await?.frames);
    while u64::try_from(got.len())? < COUNT {
        got.extend(poller.poll().await?.messages());
    }
    let all: Vec<_> = (0..COUNT).map(|number| json!(number)).collect();
    assert_eq!(got, all);
    Ok(())
}
