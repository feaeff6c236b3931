//! A real nginx with the bundled configuration.

mod upstream;

pub use upstream::Upstream;

use crate::{CHECK_EVERY, Connection, Log, PATIENCE, Request, free_port, process::Process};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::time::Instant;

/// Where the bundled files are.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nginx");

/// The files that every variant includes.
const SHARED: [&str; 3] = ["nginx.conf", "pollux-maps.conf", "pollux-locations.conf"];

/// Paths that packages compile in, and that only root may write to.
const TEMPORARY: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/// A running nginx. Dropping it kills it and its workers.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    folder: Folder,
    builder: NginxBuilder,
}

/// How an nginx differs from the bundled one.
#[derive(Debug, Clone)]
pub struct NginxBuilder {
    variant: String,
    edits: Vec<(String, String)>,
}

/// Everything one nginx reads and writes.
#[derive(Debug)]
struct Folder {
    folder: TempDir,
    port: u16,
}

impl Nginx {
    /// The template of the image.
    #[must_use]
    pub fn builder() -> NginxBuilder {
        NginxBuilder {
            variant: "pollux.conf.template".to_owned(),
            edits: Vec::new(),
        }
    }

    /// The numbers of its version.
    ///
    /// # Errors
    /// There is no `nginx`, or it does not say.
    pub fn version() -> Result<Vec<u32>> {
        let output = Command::new(program()).arg("-v").output()?;
        let said = String::from_utf8(output.stderr)?;
        let (_, version) = said.split_once('/').context("no version")?;
        let version = version.split_whitespace().next().unwrap_or_default();
        let numbers: Result<_, _> = version.split('.').map(str::parse).collect();
        numbers.context(said)
    }

    /// Starts it in front of these nodes, and waits until it answers.
    ///
    /// # Errors
    /// There is no `nginx`, or it does not start.
    pub async fn spawn(nodes: &[SocketAddr]) -> Result<Self> {
        Self::builder().spawn(nodes).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.folder.address()
    }

    /// Its process, the parent of its workers.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logs of requests and of trouble, as the bundled files tell it to.
    #[must_use]
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Puts it in front of other nodes, and waits until no worker serves the old ones but for
    /// requests it has begun.
    ///
    /// # Errors
    /// It did not in time.
    pub async fn reload(&mut self, nodes: &[SocketAddr]) -> Result<()> {
        self.folder.render(&self.builder, nodes)?;
        let workers = self.folder.noticed("start worker process ")?;
        self.process.signal("HUP")?;
        let deadline = Instant::now() + PATIENCE;
        while self.folder.noticed("gracefully shutting down")? < workers {
            let notices = self.folder.notices()?;
            ensure!(Instant::now() < deadline, "nginx stays as it is\n{notices}");
            tokio::time::sleep(CHECK_EVERY).await;
        }
        Ok(())
    }
}

impl NginxBuilder {
    /// Another of the bundled files instead of the template.
    #[must_use]
    pub fn variant(mut self, file: &str) -> Self {
        file.clone_into(&mut self.variant);
        self
    }

    /// Writes something else wherever the bundled files say `from`. They must say it.
    #[must_use]
    pub fn replacing(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Starts it in front of these nodes, and waits until it answers.
    ///
    /// # Errors
    /// There is no `nginx`, or it does not start.
    pub async fn spawn(self, nodes: &[SocketAddr]) -> Result<Nginx> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let folder = Folder::new()?;
            folder.render(&self, nodes)?;
            let process = Process::spawn(folder.command("daemon off; ")?)?;
            if let Some(process) = folder.started(process, deadline).await? {
                return Ok(Nginx {
                    process,
                    folder,
                    builder: self,
                });
            }
        }
    }

    /// Asks nginx whether it takes the files (`nginx -t`).
    ///
    /// # Errors
    /// There is no `nginx`, or it does not; the message is what it said.
    pub fn check(&self) -> Result<()> {
        let folder = Folder::new()?;
        folder.render(self, &[folder.address()])?;
        let mut command = folder.command("")?;
        let output = command.arg("-t").stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        ensure!(!said.contains("[warn]"), "{said}");
        Ok(())
    }
}

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            port: free_port()?,
        })
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes its files of the bundled ones.
    fn render(&self, builder: &NginxBuilder, nodes: &[SocketAddr]) -> Result<()> {
        let mut unused: Vec<_> = builder.edits.iter().map(|(from, _)| from).collect();
        let confd = self.path().join("conf.d");
        fs::create_dir_all(&confd)?;
        let variant = (builder.variant.as_str(), confd.join("pollux.conf"));
        let shared = SHARED.map(|file| (file, self.path().join(file)));
        for (file, target) in shared.into_iter().chain([variant]) {
            let source = Path::new(BUNDLED).join(file);
            let text = fs::read_to_string(&source);
            let mut text = text.with_context(|| format!("reading {}", source.display()))?;
            for (from, to) in &builder.edits {
                if text.contains(from) {
                    unused.retain(|edit| *edit != from);
                    text = text.replace(from, to);
                }
            }
            fs::write(target, self.place(&text, nodes)?)?;
        }
        ensure!(
            unused.is_empty(),
            "the bundled files do not say {unused:?} any more"
        );
        let mut here = String::new();
        for name in TEMPORARY {
            let path = self.path().join(name);
            writeln!(here, "{name}_temp_path {};", path.display())?;
        }
        fs::write(confd.join("here.conf"), here)?;
        Ok(())
    }

    /// What the image does to the template, and what a test needs: its own port and log folder.
    fn place(&self, text: &str, nodes: &[SocketAddr]) -> Result<String> {
        let mut servers = String::new();
        for node in nodes {
            write!(servers, "server {node} max_fails=3 fail_timeout=1s; ")?;
        }
        let logs = format!("{}/", self.path().display());
        let text = text.replace("${POLLUX_SERVERS}", &servers);
        let text = text.replace("/var/log/nginx/", &logs);
        let mut placed = String::with_capacity(text.len());
        for line in text.lines() {
            match line.trim_start().strip_prefix("listen ") {
                Some(listen) => {
                    let options = listen.trim_start_matches(|port: char| port.is_ascii_digit());
                    writeln!(placed, "listen {}{options}", self.address())?;
                }
                None => writeln!(placed, "{line}")?,
            }
        }
        Ok(placed)
    }

    /// nginx with these files, and with what the image or the package compiles in.
    fn command(&self, directives: &str) -> Result<Command> {
        let path = self.path().display();
        let mut directives =
            format!("{directives}pid {path}/pid; error_log {path}/notices notice;");
        // Workers of root's nginx are somebody else, who may not enter the folder.
        if fs::metadata(self.path())?.uid() == 0 {
            directives.push_str(" user root;");
        }
        let mut command = Command::new(program());
        command
            .arg("-p")
            .arg(self.path())
            .arg("-c")
            .arg(self.path().join("nginx.conf"))
            .args(["-e", "stderr", "-g", &directives]);
        Ok(command)
    }

    /// Waits until nginx answers; `None` if another program took the port in the meantime.
    async fn started(&self, mut process: Process, deadline: Instant) -> Result<Option<Process>> {
        // It writes the file when it listens. An answer alone could be another's.
        while !(self.path().join("pid").exists() && self.answers().await) {
            let log = process.log();
            if log.contains("Address already in use") {
                return Ok(None);
            }
            if Instant::now() >= deadline || process.ended()?.is_some() {
                bail!("nginx does not start\n{}", process.log().text());
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        Ok(Some(process))
    }

    /// Whether nginx itself answers.
    async fn answers(&self) -> bool {
        let health = Connection::once(self.address(), &Request::get("/health")).await;
        health.is_ok_and(|response| response.status == 200)
    }

    /// What nginx notes beside the log: the bundled files keep to what is critical.
    fn notices(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path().join("notices"))?)
    }

    fn noticed(&self, text: &str) -> Result<usize> {
        Ok(self.notices()?.matches(text).count())
    }
}

/// `nginx` is where administrators' programs are, which not everybody's path names.
fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.is_file() {
        usual
    } else {
        Path::new("nginx")
    }
    .to_owned()
}
