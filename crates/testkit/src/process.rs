//! A child process that never outlives its handle, and what it says.

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// A child of the child may keep a pipe open.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Everything a process has written, line by line, standard output and standard error together.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

/// A running child, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Log,
    /// Disconnected when all that it wrote is in the log. `None` once that was waited for.
    unread: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Log {
    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// Whether some line contains `text`.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.0.lock().iter().any(|line| line.contains(text))
    }

    /// All lines as one text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.lock().join("\n")
    }

    /// Reads on a thread of its own: a test that does not await must not make its child block on
    /// a full pipe.
    /// `open` is dropped when the pipe is at its end.
    pub(crate) fn follow(&self, pipe: Option<impl Read + Send + 'static>, open: mpsc::Sender<()>) {
        let Some(pipe) = pipe else { return };
        let lines = Arc::clone(&self.0);
        thread::spawn(move || {
            let _open = open;
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                lines
                    .lock()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Result<Self> {
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let log = Log::default();
        let (open, unread) = mpsc::channel();
        log.follow(child.stdout.take(), open.clone());
        log.follow(child.stderr.take(), open);
        Ok(Self {
            child,
            log,
            unread: Mutex::new(Some(unread)),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The exit status, if it has ended; then its last words are in the log.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some()
            && let Some(unread) = self.unread.get_mut().take()
        {
            // Nothing is ever sent: this is the end of all pipes, or it takes too long.
            unread.recv_timeout(LAST_WORDS_WITHIN).ok();
        }
        Ok(status)
    }

    /// Waits for the end.
    pub(crate) async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "process {} still runs after {within:?}\n{}",
                    self.pid(),
                    self.log.text()
                );
            }
            tokio::time::sleep(crate::CHECK_EVERY).await;
        }
    }

    /// Sends a signal, named without `SIG`, to the process and its children.
    pub(crate) fn signal(&mut self, name: &str) -> Result<()> {
        if self.ended()?.is_some() {
            bail!("process {} has ended", self.pid());
        }
        // The child has not been waited for, so its number can't belong to anybody else.
        let group = format!("-{}", self.pid());
        let status = Command::new("kill")
            .args(["-s", name, "--", &group])
            .status()?;
        if !status.success() {
            bail!("kill -s {name} of process {} failed", self.pid());
        }
        Ok(())
    }

    /// Ends it without asking.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal("KILL")?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} is left behind: {error}", self.pid());
        }
    }
}
