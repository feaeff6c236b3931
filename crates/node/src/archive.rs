//! Events of categories in a file, for a broker that forgets with its process.
//!
//! The format is that of golongpoll's file add-on: each event is a newline and
//! then its JSON, so that what broke off spoils no other line. The file only
//! grows while the node runs, and is made anew from what is still kept when it
//! starts.

use bytes::Bytes;
use pollux_broker::Keep;
use pollux_protocol::{
    StreamName,
    category::{Event, StoredEvent},
};
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Events that may wait for the task that writes; then publishers do.
const QUEUE: usize = 1_024;

/// How often the file is written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Bytes that are written before their time.
const FLUSH_BYTES: usize = 1 << 20;

/// How long a node that stops waits for its file.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on the task that writes.
#[derive(Clone, Debug)]
pub(crate) struct Archive(mpsc::Sender<Job>);

#[derive(Debug)]
enum Job {
    Event(Bytes),
    /// Write, and say so.
    Flush(oneshot::Sender<()>),
}

impl Archive {
    /// A task that writes to the file until `stop`, and the task's handle.
    pub(crate) fn start(
        path: &Path,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        (Self(jobs), write(path.to_owned(), queue, stop))
    }

    /// Has an event written.
    pub(crate) async fn record(&self, event: Bytes) {
        if self.0.send(Job::Event(event)).await.is_err() {
            warn!("An event is not in the file: the node stops");
        }
    }

    /// Returns when everything is written, or can't be.
    pub(crate) async fn close(&self) {
        let (done, told) = oneshot::channel();
        let close = async {
            if self.0.send(Job::Flush(done)).await.is_ok() {
                // Whoever dropped it has written or has told why not.
                told.await.ok();
            }
        };
        if timeout(CLOSE_TIMEOUT, close).await.is_err() {
            error!("The last events are not in the file: writing takes too long");
        }
    }
}

async fn write(path: PathBuf, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
    let mut lines = Vec::new();
    let mut ticks = interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(Job::Event(event)) => {
                    push(&mut lines, &event);
                    if lines.len() >= FLUSH_BYTES {
                        flush(&path, &mut lines).await;
                    }
                }
                Some(Job::Flush(done)) => {
                    flush(&path, &mut lines).await;
                    done.send(()).ok();
                }
                None => break,
            },
            _ = ticks.tick() => flush(&path, &mut lines).await,
            () = stop.cancelled() => {
                while let Ok(job) = queue.try_recv() {
                    if let Job::Event(event) = job {
                        push(&mut lines, &event);
                    }
                }
                break;
            }
        }
    }
    flush(&path, &mut lines).await;
}

fn push(lines: &mut Vec<u8>, event: &[u8]) {
    lines.push(b'\n');
    lines.extend_from_slice(event);
}

async fn flush(path: &Path, lines: &mut Vec<u8>) {
    if lines.is_empty() {
        return;
    }
    let (path, lines) = (path.to_owned(), std::mem::take(lines));
    let bytes = lines.len();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(&lines)
    });
    let written = written.await.map_err(io::Error::other);
    if let Err(error) = written.and_then(|written| written) {
        error!(%error, bytes, "Events could not be written to the file; they are in memory only");
    }
}

/// Reads what the file has that is still kept, the oldest events first, and
/// makes the file anew from it. No two events of a category have the same time.
///
/// # Errors
/// The file can't be read or written.
pub(crate) fn load(path: &Path, keep: Keep, now: u64) -> io::Result<Vec<StoredEvent>> {
    let mut events = match File::open(path) {
        Ok(file) => read(BufReader::new(file), keep, now)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    events.sort_by_key(|event| event.time);
    let mut lines = Vec::new();
    for StoredEvent { stream, data, time } in &events {
        push(&mut lines, &Event::of(stream, data, *time).json);
    }
    // Whoever is interrupted here has the old file or the new one.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, lines)?;
    fs::rename(&new, path)?;
    Ok(events)
}

fn read(mut file: impl io::BufRead, keep: Keep, now: u64) -> io::Result<Vec<StoredEvent>> {
    let ttl = u64::try_from(keep.ttl.as_micros()).unwrap_or(u64::MAX);
    let oldest = now.saturating_sub(ttl) / 1_000;
    let mut kept: HashMap<StreamName, VecDeque<StoredEvent>> = HashMap::new();
    let (mut line, mut number, mut bad) = (Vec::new(), 0_u64, 0_u64);
    while file.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let text = line.trim_ascii();
        match StoredEvent::parse(text) {
            Ok(event) if event.time / 1_000 > oldest => {
                let events = kept.entry(event.stream.clone()).or_default();
                events.push_back(event);
                if events.len() > keep.limit.saturating_mul(2) {
                    shorten(events, keep.limit);
                }
            }
            Ok(_) => {}
            Err(_) if text.is_empty() => {}
            Err(_) => {
                bad += 1;
                if bad == 1 {
                    warn!(number, "A line of the file is not an event; it is left out");
                }
            }
        }
        line.clear();
    }
    if bad > 1 {
        warn!(bad, "Lines of the file were left out");
    }
    let mut all = Vec::new();
    for mut events in kept.into_values() {
        shorten(&mut events, keep.limit);
        let mut last = 0;
        for mut event in events {
            event.time = event.time.max(last + 1);
            last = event.time;
            all.push(event);
        }
    }
    Ok(all)
}

/// Leaves the newest. Those who published at the same time may have been
/// written in either order.
fn shorten(events: &mut VecDeque<StoredEvent>, limit: usize) {
    events.make_contiguous().sort_by_key(|event| event.time);
    let over = events.len().saturating_sub(limit);
    events.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_protocol::Payload;

    const KEEP: Keep = Keep {
        limit: 3,
        ttl: Duration::from_secs(10),
    };
    const NOW: u64 = 1_616_040_198_889_123;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pollux-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn event(stream: &str, number: u64, time: u64) -> Event {
        let stream = StreamName::try_new(stream).unwrap();
        Event::of(&stream, &Payload::from_text(&number.to_string()), time)
    }

    fn numbers(events: &[StoredEvent], stream: &str) -> Vec<String> {
        let of_stream = events
            .iter()
            .filter(|event| event.stream.as_str() == stream);
        of_stream
            .map(|event| event.data.as_str().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_what_is_over_is_gone() {
        let folder = folder("archive");
        let path = folder.join("events");
        let stop = CancellationToken::new();
        let (archive, task) = Archive::start(&path, stop.clone());
        let task = tokio::spawn(task);
        archive.record(event("old", 0, NOW - 11_000_000).json).await;
        // Two publishers whose lines changed places.
        for number in [2, 1, 3, 4, 5] {
            archive.record(event("a", number, NOW + number).json).await;
        }
        archive.record(event("b", 1, NOW).json).await;
        archive.close().await;
        fs::write(
            folder.join("copy"),
            [fs::read(&path).unwrap(), b"\n{\"timestamp\":1".to_vec()].concat(),
        )
        .unwrap();
        let events = load(&folder.join("copy"), KEEP, NOW).unwrap();
        assert_eq!(numbers(&events, "a"), ["3", "4", "5"]);
        assert_eq!(numbers(&events, "b"), ["1"]);
        assert_eq!(numbers(&events, "old"), [""; 0]);
        // It is shorter now, and says the same.
        let text = fs::read_to_string(folder.join("copy")).unwrap();
        assert!(text.starts_with("\n{\"timestamp\":"), "{text}");
        assert_eq!(text.lines().count(), 1 + 4);
        assert_eq!(load(&folder.join("copy"), KEEP, NOW).unwrap(), events);

        archive.record(event("a", 6, NOW + 6).json).await;
        stop.cancel();
        task.await.unwrap();
        let events = load(&path, KEEP, NOW).unwrap();
        assert_eq!(numbers(&events, "a"), ["4", "5", "6"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn golongpolls_own_file_is_read_with_its_order() {
        let line = |number, id| {
            format!(
                r#"{{"timestamp":{},"category":"a","data":{number},"id":"{id}"}}"#,
                NOW / 1_000
            )
        };
        let file = [
            String::new(),
            line(1, "7c17587a-3437-4861-bef7-8f29905589e4"),
            "nonsense".to_owned(),
            line(2, "00000000-3437-4861-bef7-8f29905589e4"),
        ]
        .join("\n");
        let events = read(file.as_bytes(), KEEP, NOW).unwrap();
        assert_eq!(numbers(&events, "a"), ["1", "2"]);
        assert_eq!(events[0].time + 1, events[1].time);
        let missing = folder("missing").join("events");
        assert_eq!(load(&missing, KEEP, NOW).unwrap(), []);
        assert!(load(Path::new("/proc/none/events"), KEEP, NOW).is_err());
    }
}
