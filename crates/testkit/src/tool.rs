//! A command of the binary while it runs: what it prints, what it complains of, how it ends.

use crate::{CHECK_EVERY, Log, node::command};
use anyhow::{Context, Result, bail};
use std::{
    io::Write as _,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};
use tokio::time::Instant;

/// A command that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Tool {
    child: Child,
    input: Option<ChildStdin>,
    /// Standard output, where nobody follows it.
    output: Option<ChildStdout>,
    printed: Log,
    complaints: Log,
    /// Disconnected when all that it wrote is in the logs.
    unread: mpsc::Receiver<()>,
}

impl Tool {
    /// Runs the binary with nothing but these arguments, and follows what it prints.
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn(arguments: &[&str]) -> Result<Self> {
        let mut tool = Self::start(arguments)?;
        let (open, unread) = mpsc::channel();
        tool.printed.follow(tool.output.take(), open.clone());
        tool.complaints.follow(tool.child.stderr.take(), open);
        tool.unread = unread;
        Ok(tool)
    }

    /// The same, but nobody reads what it prints: see [`Tool::stop_reading`].
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn_unread(arguments: &[&str]) -> Result<Self> {
        let mut tool = Self::start(arguments)?;
        let (open, unread) = mpsc::channel();
        tool.complaints.follow(tool.child.stderr.take(), open);
        tool.unread = unread;
        Ok(tool)
    }

    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = command();
        command
            .arg("--ignore_config_path")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self {
            input: child.stdin.take(),
            output: child.stdout.take(),
            child,
            printed: Log::default(),
            complaints: Log::default(),
            unread: mpsc::channel().1,
        })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    #[must_use]
    pub const fn printed(&self) -> &Log {
        &self.printed
    }

    /// What it has said on standard error.
    #[must_use]
    pub const fn complaints(&self) -> &Log {
        &self.complaints
    }

    /// Gives it something to read.
    ///
    /// # Errors
    /// It does not read any more.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }

    /// Ends what it reads.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Closes the other end of its standard output.
    pub fn stop_reading(&mut self) {
        self.output = None;
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it has ended with {status}");
        }
        // It has not been waited for, so its number can't belong to anybody else.
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Waits for its end, and its last words.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // Nothing is ever sent: this is the end of all pipes, or it takes too long.
                self.unread.recv_timeout(within).ok();
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "it still runs after {within:?}; it printed\n{}\nand said\n{}",
                    self.printed.text(),
                    self.complaints.text()
                );
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let killed = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = killed {
                eprintln!("process {} is left behind: {error}", self.child.id());
            }
        }
    }
}
