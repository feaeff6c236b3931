//! A small Redis client that hides nothing: it never retries, never reconnects, and tells what is
//! certain about a command that failed.

use super::{Redis, reply::Reply};
use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use std::{fmt, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a client waits for one answer: a paused server never answers, and a publisher should
/// go on with its life long before the test's patience ends.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection to a server without TLS.
#[derive(Debug)]
pub struct RedisClient {
    stream: TcpStream,
    /// Bytes that were read and belong to the next answer.
    buffer: BytesMut,
    patience: Duration,
}

/// Why a command has no result.
#[derive(Debug)]
pub enum CommandError {
    /// The server said no, in these words. A single command then did nothing.
    Refused(String),
    /// No answer came: it may have been executed, or may still be. The connection is of no more
    /// use.
    Lost(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(words) => write!(f, "Redis says {words}"),
            Self::Lost(error) => write!(f, "no answer of Redis: {error}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl RedisClient {
    /// Connects and logs in.
    ///
    /// # Errors
    /// It can't, or the server speaks TLS only, which this client does not.
    pub async fn connect(redis: &Redis) -> Result<Self> {
        ensure!(
            redis.certificates().is_none(),
            "use Redis::cli, which speaks TLS"
        );
        let mut client = Self::open(redis.address()).await?;
        if let Some(login) = redis.login() {
            let answer = match &login.user {
                Some(user) => client.command(&["AUTH", user, &login.password]).await,
                None => client.command(&["AUTH", &login.password]).await,
            };
            answer.context("logging in")?;
        }
        Ok(client)
    }

    /// Connects to an address, of a [`Gate`](crate::Gate) for example.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect(address))
            .await
            .with_context(|| format!("no connection to {address} in time"))?
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            patience: ANSWER_TIMEOUT,
        })
    }

    /// From now on it waits this long for an answer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// The server refused it, or no answer came.
    pub async fn command(&mut self, command: &[impl AsRef<[u8]>]) -> Result<Reply, CommandError> {
        self.send(command).await?;
        self.receive().await
    }

    /// Sends a command whose answer is read later: answers come in the order of the commands.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send(&mut self, command: &[impl AsRef<[u8]>]) -> Result<(), CommandError> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let sending = self.stream.write_all(&bytes);
        in_time(self.patience, sending)
            .await
            .map_err(CommandError::Lost)
    }

    /// Reads the next answer, or what was published to a channel that this client subscribed.
    ///
    /// # Errors
    /// It is an error, or none came.
    pub async fn receive(&mut self) -> Result<Reply, CommandError> {
        match in_time(self.patience, self.read_reply()).await {
            Ok(Reply::Error(words)) => Err(CommandError::Refused(words)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(CommandError::Lost(error)),
        }
    }

    async fn read_reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, length)) = Reply::parse(&self.buffer)? {
                drop(self.buffer.split_to(length));
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn in_time<T>(within: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(within, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_are_answered_in_their_order() {
        let redis = Redis::spawn().await.unwrap();
        let mut client = RedisClient::connect(&redis).await.unwrap();
        let binary: [&[u8]; 3] = [b"SET", b"key", b"\0\r\n\xff"];
        client.command(&binary).await.unwrap();
        client.send(&["GET", "key"]).await.unwrap();
        client.send(&["LPUSH", "key", "x"]).await.unwrap();
        client.send(&["GET", "none"]).await.unwrap();
        client
            .send(&["EVAL", "return {1,'two',{}}", "0"])
            .await
            .unwrap();
        assert_eq!(
            client.receive().await.unwrap(),
            Reply::Bytes(b"\0\r\n\xff".to_vec())
        );
        let refused = client.receive().await.unwrap_err();
        assert!(matches!(refused, CommandError::Refused(words) if words.starts_with("WRONGTYPE")));
        assert_eq!(client.receive().await.unwrap(), Reply::Nil);
        assert_eq!(
            client.receive().await.unwrap(),
            Reply::Array(vec![
                Reply::Integer(1),
                Reply::Bytes(b"two".to_vec()),
                Reply::Array(Vec::new())
            ])
        );
    }

    #[tokio::test]
    async fn a_server_that_is_silent_or_gone_leaves_the_command_uncertain() {
        let mut redis = Redis::spawn().await.unwrap();
        let patience = Duration::from_millis(100);
        let mut client = RedisClient::connect(&redis)
            .await
            .unwrap()
            .with_patience(patience);
        redis.pause().unwrap();
        let lost = client.command(&["PING"]).await.unwrap_err();
        assert!(matches!(lost, CommandError::Lost(_)), "{lost}");
        redis.resume().unwrap();
        let mut client = RedisClient::connect(&redis).await.unwrap();
        redis.stop();
        let lost = client.command(&["PING"]).await.unwrap_err();
        assert!(matches!(lost, CommandError::Lost(_)), "{lost}");
        assert!(RedisClient::connect(&redis).await.is_err());
    }
}
