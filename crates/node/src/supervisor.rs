//! systemd, where it runs the program: what it wants to be told, and where its log lines go.

use std::{
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};
use tracing::warn;

/// A file, as the kernel tells it from all others: its device and its number there.
type FileId = (u64, u64);

/// What the environment says of the supervisor. Without one, nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor {
    /// Where a service of `Type=notify` says how it is: a path, or `@` and a name without one.
    notify_socket: Option<String>,
    /// The stream to the journal, as systemd made it. What the program has now may be another.
    journal: Option<FileId>,
}

impl Supervisor {
    pub(crate) fn of(environment: &[(String, String)]) -> Self {
        let value = |wanted: &str| {
            let found = environment.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let journal = value("JOURNAL_STREAM").and_then(|stream| {
            let (device, number) = stream.split_once(':')?;
            Some((device.parse().ok()?, number.parse().ok()?))
        });
        Self {
            notify_socket: value("NOTIFY_SOCKET").map(str::to_owned),
            journal,
        }
    }

    /// Whether what is written to this stream comes to the journal, which knows the time of each
    /// line and, if that begins with `<4>`, how much it matters.
    pub(crate) fn keeps_journal_of(&self, stream: &impl AsFd) -> bool {
        self.journal
            .is_some_and(|journal| file_id(stream).is_ok_and(|id| id == journal))
    }

    pub(crate) fn is_ready(&self, address: impl std::fmt::Display) {
        self.tell(&format!("READY=1\nSTATUS=Listening on {address}"));
    }

    pub(crate) fn is_stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.notify_socket else {
            return;
        };
        if let Err(error) = send(socket, state) {
            warn!(%error, socket, "Failed to tell the supervisor");
        }
    }
}

fn file_id(stream: &impl AsFd) -> io::Result<FileId> {
    let copy = File::from(stream.as_fd().try_clone_to_owned()?);
    let metadata = copy.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = address(socket)?;
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

fn address(socket: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn supervisor(name: &str, value: String) -> Supervisor {
        Supervisor::of(&[(name.to_owned(), value)])
    }

    #[test]
    fn it_is_told_at_a_path_and_at_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").to_str().unwrap().to_owned();
        let mut sockets = vec![path.clone()];
        if cfg!(target_os = "linux") {
            // Names are the whole machine's.
            sockets.push(format!("@{path}"));
        }
        for socket in sockets {
            let receiver = UnixDatagram::bind_addr(&address(&socket).unwrap()).unwrap();
            let supervisor = supervisor("NOTIFY_SOCKET", socket);
            supervisor.is_ready("127.0.0.1:8080");
            supervisor.is_stopping();
            for expected in [
                "READY=1\nSTATUS=Listening on 127.0.0.1:8080",
                "STOPPING=1\nSTATUS=Stopping",
            ] {
                let mut bytes = [0; 100];
                let count = receiver.recv(&mut bytes).unwrap();
                assert_eq!(bytes.get(..count), Some(expected.as_bytes()));
            }
        }
        // Nobody is there, and nobody asked.
        supervisor("NOTIFY_SOCKET", path + "-gone").is_stopping();
        supervisor("NOTIFY_SOCKET", String::new()).is_stopping();
        Supervisor::default().is_stopping();
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let (journal, other) = UnixStream::pair().unwrap();
        let (device, number) = file_id(&journal).unwrap();
        let same = supervisor("JOURNAL_STREAM", format!("{device}:{number}"));
        assert!(same.keeps_journal_of(&journal) && !same.keeps_journal_of(&other));
        for wrong in ["", ":", "1", "a:b", "1:2:3"] {
            let wrong = supervisor("JOURNAL_STREAM", wrong.to_owned());
            assert!(!wrong.keeps_journal_of(&journal));
        }
        assert!(!Supervisor::default().keeps_journal_of(&journal));
    }
}
