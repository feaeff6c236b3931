//! A node as systemd runs it, with a socket and a file in systemd's place.

use anyhow::{Context, Result};
use pollux_testkit::{Node, binary};
use std::{
    fs::{self, File},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::{TempDir, tempdir};

/// A debug binary on a busy machine needs its time.
const WITHIN: Duration = Duration::from_secs(30);

/// Where a service says how it is.
struct Notifications {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Notifications {
    fn listen() -> Result<Self> {
        let folder = tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(WITHIN))?;
        Ok(Self {
            socket,
            path,
            _folder: folder,
        })
    }

    fn next(&self) -> Result<String> {
        let mut bytes = [0; 1_000];
        let count = self.socket.recv(&mut bytes).context("nothing was said")?;
        let said = bytes.get(..count).context("more than there is")?;
        Ok(String::from_utf8(said.to_vec())?)
    }
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn the_supervisor_is_told_when_a_node_listens_and_when_it_stops() -> Result<()> {
    let notifications = Notifications::listen()?;
    let path = notifications.path.to_str().context("not text")?;
    let node = Node::builder().variable("NOTIFY_SOCKET", path);
    let mut node = node.spawn().await?;
    let ready = notifications.next()?;
    let address = node.address();
    assert_eq!(ready, format!("READY=1\nSTATUS=Listening on {address}"));
    let status = node.terminate(WITHIN).await?;
    assert_eq!(notifications.next()?, "STOPPING=1\nSTATUS=Stopping");
    assert!(status.success(), "{status}");
    Ok(())
}

/// What a node that listens has written to a file, which its environment says is the journal if
/// `journal` is that file.
fn written(file: &Path, journal: &Path, arguments: &[&str]) -> Result<String> {
    let notifications = Notifications::listen()?;
    let output = File::create(file)?;
    let stream = fs::metadata(journal)?;
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("NOTIFY_SOCKET", &notifications.path)
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", stream.dev(), stream.ino()),
        )
        .args(["--port=0", "--public", "--ignore_config_path"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let running = Running(command.spawn()?);
    notifications.next()?;
    drop(running);
    Ok(fs::read_to_string(file)?)
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() -> Result<()> {
    let folder = tempdir()?;
    let file = folder.path().join("output");
    let other = folder.path().join("other");
    File::create(&other)?;

    let journal = written(&file, &file, &[])?;
    assert!(
        journal.lines().all(|line| line.starts_with('<')),
        "{journal}"
    );
    assert!(journal.contains("<6> INFO Listening address="), "{journal}");
    assert!(journal.contains("<4> WARN "), "{journal}");
    assert!(!journal.contains("curl"), "{journal}");

    let journal = written(&file, &file, &["--log_format=json"])?;
    let objects = journal.lines().map(|line| {
        let object = line.strip_prefix("<6>");
        let object = object.or_else(|| line.strip_prefix("<4>"));
        serde_json::from_str::<serde_json::Value>(object.context("no priority")?)
            .with_context(|| line.to_owned())
    });
    assert!(objects.collect::<Result<Vec<_>>>()?.len() > 1);

    // Redirected to a file of the operator's.
    let plain = written(&file, &other, &[])?;
    assert!(
        plain.starts_with("20") && plain.contains("  Pollux "),
        "{plain}"
    );
    assert!(!plain.contains("<6>"), "{plain}");
    Ok(())
}

#[test]
fn wrong_options_are_errors_in_the_journal() -> Result<()> {
    let folder = tempdir()?;
    let file = folder.path().join("output");
    let output = File::create(&file)?;
    let stream = output.metadata()?;
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", stream.dev(), stream.ino()),
        )
        .args(["--ignore_config_path", "--no_such_option"])
        .stdin(Stdio::null())
        .stderr(output);
    assert_eq!(command.status()?.code(), Some(64));
    let said = fs::read_to_string(file)?;
    assert!(said.contains("no_such_option"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("<3>")), "{said}");
    Ok(())
}
