//! A real Prometheus, which asks nodes for what they count.

use crate::{CHECK_EVERY, Log, PATIENCE, process::Process};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    /// Its files, and what it has measured.
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one on this port, see [`free_port`](crate::free_port), and waits until it answers.
    /// Files are put beside the configuration, which finds them by their names.
    ///
    /// # Errors
    /// There is no `prometheus`, or it does not take its files.
    pub async fn spawn(port: u16, configuration: &str, files: &[(&str, &str)]) -> Result<Self> {
        let folder = TempDir::new()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("prometheus.yml"), configuration)?;
        for (name, text) in files {
            fs::write(path(name), text)?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = Command::new("prometheus");
        let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
        command
            .arg(option("config.file", "prometheus.yml"))
            .arg(option("storage.tsdb.path", "data"))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::spawn(command).context("install the package prometheus")?;
        let mut prometheus = Self {
            process,
            address,
            _folder: folder,
        };
        prometheus.ready().await?;
        Ok(prometheus)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// The series of an expression now, each with its labels (`metric`) and its value, which is a
    /// text (`value[1]`).
    ///
    /// # Errors
    /// It does not understand the expression, or the result is no vector.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let target = format!("/api/v1/query?query={}", encoded(expression));
        let data = self.api(&target).await;
        let data = data.with_context(|| expression.to_owned())?;
        ensure!(data["resultType"] == "vector", "{expression}: {data}");
        list(&data["result"])
    }

    /// The alerts that fire or are about to, by its API.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        list(&self.api("/api/v1/alerts").await?["alerts"])
    }

    /// The data that its API has under a path with its query.
    ///
    /// # Errors
    /// It does not answer, or with an error.
    pub async fn api(&self, target: &str) -> Result<Value> {
        let (status, body) = self.get(target).await?;
        let mut answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{status}: {body}"))?;
        ensure!(answer["status"] == "success", "{target}: {status} {body}");
        Ok(answer["data"].take())
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("Prometheus: {status}\n{}", self.log().text());
            }
            // Another server on the same port would have made it end.
            if matches!(self.get("/-/ready").await, Ok((200, _))) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "Prometheus is not ready\n{}",
                self.log().text()
            );
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// The status and the body of an answer. In HTTP/1.0, in which long ones do not come in chunks.
    async fn get(&self, target: &str) -> Result<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            let request = format!("GET {target} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.context("no answer")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?;
        Ok((status.parse()?, body.to_owned()))
    }
}

fn list(value: &Value) -> Result<Vec<Value>> {
    let list = value.as_array();
    list.cloned()
        .with_context(|| format!("no list, but {value}"))
}

/// Text as part of a URL's query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("a{b=\"ü\"}"), "a%7Bb%3D%22%C3%BC%22%7D");
    }
}
