//! `pollux health`: asks a node that runs, so that a container needs no other program to do it.

use crate::{
    config::{Config, ConfigError, HealthQuestion, HealthRequest},
    program::complain,
    tls::connect_local,
};
use http::{StatusCode, Uri};
use std::{
    fmt,
    io::{self, Write as _},
    net::IpAddr,
    process::ExitCode,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Where an address without a port is asked.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// No more of an answer is read. A node's is a tenth of it; something else may listen there.
const ANSWER_MAX: usize = 8 * 1024;

const HEADERS_MAX: usize = 64;

/// Of what the answer says no more is shown.
const REASON_MAX: usize = 100;

/// Asks, prints one line, and says with the exit code what it came to.
pub(crate) fn run(request: &HealthRequest, config: &Config) -> ExitCode {
    let target = match Target::new(request, config) {
        Ok(target) => target,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    match exchange(&target, request) {
        Ok(answer) if answer.status.is_success() => {
            let line = format!("{target}: {answer}\n");
            // The exit code is what was asked for; nobody need read the line.
            drop(io::stdout().write_all(line.as_bytes()));
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            complain(&format!("{target}: {answer}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("{target}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn exchange(target: &Target, request: &HealthRequest) -> Result<Answer, AskError> {
    // One thread: a health check comes every few seconds, beside a server that needs the cores.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async { timeout(request.timeout, target.ask()).await });
    // Looking up a name may still be under way, and is not worth waiting for.
    runtime.shutdown_background();
    answer.unwrap_or(Err(AskError::TooLate(request.timeout.as_secs_f64())))
}

/// What is asked, and where.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Without a look at the certificate, so with this machine only.
    tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// The path, with the query if there is one.
    path: String,
}

impl Target {
    /// What the request names, or else the node that the configuration describes.
    fn new(request: &HealthRequest, config: &Config) -> Result<Self, TargetError> {
        if let Some(url) = &request.url {
            return Self::parse(url).ok_or_else(|| TargetError::Url(url.clone()));
        }
        if config.port == 0 {
            return Err(TargetError::AnyPort);
        }
        let path = match request.question {
            HealthQuestion::Alive => &config.health_path,
            HealthQuestion::Ready => &config.ready_path,
        };
        Ok(Self {
            tls: config.uses_tls(),
            host: reachable(&config.host),
            port: config.port,
            path: path.clone(),
        })
    }

    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let (tls, port) = match uri.scheme_str()? {
            "http" => (false, HTTP_PORT),
            "https" => (true, HTTPS_PORT),
            _ => return None,
        };
        let is_open = !authority.as_str().contains('@');
        // A port that is none is left out of what is parsed, and 80 was not meant.
        let said = authority.as_str().strip_prefix(authority.host())?;
        let port = match said.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => port,
        };
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let target = Self {
            tls,
            host: bare.unwrap_or(host).to_owned(),
            port,
            path: uri.path_and_query()?.as_str().to_owned(),
        };
        let may_be_asked = !target.host.is_empty() && (!tls || is_local(&target.host));
        (is_open && may_be_asked).then_some(target)
    }

    async fn ask(&self) -> Result<Answer, AskError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if self.tls {
            let stream = connect_local(stream, &self.host).await?;
            // A connection in TLS is large, and there is one.
            Box::pin(self.ask_on(stream)).await
        } else {
            self.ask_on(stream).await
        }
    }

    async fn ask_on(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<Answer, AskError> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pollux-health\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        while bytes.len() < ANSWER_MAX {
            // An answer that ends early is told apart by what is missing of it.
            let is_over = stream.read_buf(&mut bytes).await? == 0;
            if let Some(answer) = Answer::parse(&bytes, is_over)? {
                return Ok(answer);
            }
            if is_over {
                return Err(AskError::Cut);
            }
        }
        Err(AskError::NotHttp)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Where a server that listens on this address can be reached from the same machine.
pub(crate) fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        _ => host.to_owned(),
    }
}

/// Whether a host is this machine.
pub(crate) fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// What a node said.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    /// The body's first line, if it fits on ours.
    reason: String,
}

impl Answer {
    /// The answer, once all of it is there.
    fn parse(bytes: &[u8], is_over: bool) -> Result<Option<Self>, AskError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(AskError::NotHttp),
        };
        let body = bytes.get(length..).unwrap_or_default();
        let announced = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| {
                std::str::from_utf8(header.value)
                    .ok()?
                    .parse::<usize>()
                    .ok()
            });
        let is_whole = is_over || announced.is_some_and(|length| body.len() >= length);
        if !is_whole && bytes.len() < ANSWER_MAX {
            return Ok(None);
        }
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
        Ok(Some(Self {
            status: status.ok_or(AskError::NotHttp)?,
            reason: first_line(body),
        }))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, ", {}", self.reason)?;
        }
        Ok(())
    }
}

/// The first line, shortened and without what a terminal would obey.
fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default().trim();
    let shown = line.chars().filter(|char| !char.is_control());
    shown.take(REASON_MAX).collect()
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error(
        "flag --url: {0:?} is not valid, expected an address such as http://127.0.0.1:8080/health; \
         TLS is for this machine only, and passwords are not spoken"
    )]
    Url(String),
    #[error("port is 0, so the node chose one that only it knows: say it with --url")]
    AnyPort,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0} s")]
    TooLate(f64),
    #[error("the connection was closed before the answer was there")]
    Cut,
    #[error("what answers there does not speak HTTP")]
    NotHttp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn target(url: &str) -> Option<String> {
        Target::parse(url).map(|target| target.to_string())
    }

    fn of(config: &Config, question: HealthQuestion) -> Result<String, TargetError> {
        let request = HealthRequest {
            url: None,
            question,
            timeout: Duration::from_secs(1),
        };
        Target::new(&request, config).map(|target| target.to_string())
    }

    #[test]
    fn addresses_are_read_and_nothing_is_guessed() {
        for (url, read) in [
            (
                "http://127.0.0.1:8080/health",
                "http://127.0.0.1:8080/health",
            ),
            ("http://node1", "http://node1:80/"),
            ("http://[::1]:81/ready?a=b", "http://[::1]:81/ready?a=b"),
            ("https://localhost/", "https://localhost:443/"),
            ("https://[::1]:81/ready", "https://[::1]:81/ready"),
        ] {
            assert_eq!(target(url).as_deref(), Some(read), "{url}");
        }
        for url in [
            "",
            "/health",
            "127.0.0.1:8080",
            "127.0.0.1:8080/health",
            "https://node1/health",
            "http://user:password@node1/health",
            "http://node1:99999/health",
            "http://node1:0/health",
            "http://node1:/health",
            "http:///health",
            "http://no de/health",
            "http://node1/he\r\nalth",
        ] {
            assert_eq!(target(url), None, "{url}");
        }
    }

    #[test]
    fn the_configuration_names_the_node_on_this_machine() {
        for (host, reached) in [
            ("0.0.0.0", "http://127.0.0.1:81/alive"),
            ("::", "http://[::1]:81/alive"),
            ("::1", "http://[::1]:81/alive"),
            ("192.0.2.7", "http://192.0.2.7:81/alive"),
            ("localhost", "http://localhost:81/alive"),
        ] {
            let config = Config {
                host: host.to_owned(),
                port: 81,
                health_path: "/alive".to_owned(),
                ..Config::default()
            };
            let alive = of(&config, HealthQuestion::Alive);
            assert_eq!(alive.unwrap(), reached, "{host}");
        }
        let config = Config::default();
        let ready = of(&config, HealthQuestion::Ready);
        assert_eq!(ready.unwrap(), "http://127.0.0.1:8080/ready");
        let config = Config {
            ssl_cert: Some("cert.pem".to_owned()),
            ..config
        };
        let ready = of(&config, HealthQuestion::Ready);
        assert_eq!(ready.unwrap(), "https://127.0.0.1:8080/ready");
        let config = Config { port: 0, ..config };
        assert!(of(&config, HealthQuestion::Ready).is_err());
    }

    #[test]
    fn answers_are_taken_when_they_are_whole() {
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n";
        let whole = format!("{head}draining\n");
        for cut in 0..whole.len() {
            let part = whole.as_bytes().get(..cut).unwrap();
            assert_eq!(Answer::parse(part, false).unwrap(), None, "{cut}");
        }
        let answer = Answer::parse(whole.as_bytes(), false).unwrap().unwrap();
        assert_eq!(answer.to_string(), "503 Service Unavailable, draining");
        let without_length = b"HTTP/1.0 200 OK\r\n\r\n\x1b[31mfine\nand more";
        assert_eq!(Answer::parse(without_length, false).unwrap(), None);
        let answer = Answer::parse(without_length, true).unwrap().unwrap();
        assert_eq!(answer.to_string(), "200 OK, [31mfine");
        assert!(Answer::parse(b"SSH-2.0-x\r\n", false).is_err());
        assert!(Answer::parse(b"HTTP/1.1 099 x\r\n\r\n", true).is_err());
    }
}
