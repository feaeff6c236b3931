//! Reading logs: which streams wait for it, and how many at a time.

use super::{
    super::{
        reading,
        script::is_connection_error,
        state::Reading,
        table::{Stream, Streams},
    },
    Control, Tracker,
};
use pollux_protocol::StreamName;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{debug, warn};

/// Streams read with one connection at a time.
const BATCH: usize = 128;

/// Batches under way.
const BATCHES: usize = 4;

/// Entries of one log in one reading.
const ENTRIES: usize = 500;

/// How long to wait after Redis could not be asked at all.
const PAUSE: Duration = Duration::from_millis(200);

/// How long to wait after one stream could not be read.
const RETRY: Duration = Duration::from_millis(300);

/// Streams that wait to be read. Each at most once.
#[derive(Debug, Default)]
pub(super) struct Readings {
    waiting: VecDeque<StreamName>,
    batches: usize,
    /// Those whose reading failed, and when to try again; in that order.
    failed: VecDeque<(Instant, StreamName)>,
    /// Nothing is read before this.
    paused_until: Option<Instant>,
}

impl Readings {
    /// Reads a stream whose state waits for it.
    pub(super) fn queue(&mut self, name: StreamName, stream: &mut Stream) {
        if std::mem::replace(&mut stream.queued, true) {
            stream.again = true;
        } else {
            self.waiting.push_back(name);
        }
    }

    /// Reads a stream, whatever it is doing.
    pub(super) fn want(&mut self, name: StreamName, stream: &mut Stream) {
        if stream.state.check() || stream.state.is_new() || stream.queued {
            self.queue(name, stream);
        }
    }
}

impl Tracker {
    /// Starts as many readings as may be under way.
    pub(super) fn read_some(&mut self) {
        let now = Instant::now();
        if self.readings.paused_until.is_some_and(|until| until > now) {
            return;
        }
        while let Some((due, _)) = self.readings.failed.front()
            && *due <= now
        {
            let failed = self.readings.failed.pop_front();
            self.readings.waiting.extend(failed.map(|(_, name)| name));
        }
        while self.readings.batches < BATCHES && !self.readings.waiting.is_empty() {
            let count = self.readings.waiting.len().min(BATCH);
            let names: Vec<_> = self.readings.waiting.drain(..count).collect();
            self.read(&names);
        }
    }

    fn read(&mut self, names: &[StreamName]) {
        let streams = self.table.lock();
        let wanted: Vec<_> = names
            .iter()
            .filter_map(|name| {
                let stream = streams.known.get(name)?;
                Some((name.clone(), stream.state.mark().cloned()))
            })
            .collect();
        drop(streams);
        self.readings.batches += 1;
        let (commands, scripts) = (Arc::clone(&self.commands), Arc::clone(&self.scripts));
        let (names, control) = (self.names.clone(), self.control_sender.clone());
        tokio::spawn(async move {
            let calls: Vec<_> = wanted
                .iter()
                .map(|(name, mark)| {
                    let call = scripts.read.of_stream(&names, name);
                    match mark {
                        None => call.arg("").arg("0").arg("0").arg("0"),
                        Some(mark) => call
                            .arg(mark.position.epoch.as_str())
                            .arg(mark.position.offset.to_string())
                            .arg(mark.time.to_string())
                            .arg(ENTRIES.to_string()),
                    }
                })
                .collect();
            let answers = match commands.pooled().await {
                Ok(lane) => lane.run_all(&calls).await,
                Err(error) => {
                    debug!(%error, "Logs could not be read");
                    commands.note(&error).await;
                    Vec::new()
                }
            };
            let mut results = Vec::with_capacity(wanted.len());
            let mut answers = answers.into_iter();
            for (name, mark) in wanted {
                let count = if mark.is_some() { ENTRIES } else { 0 };
                let result = match answers.next() {
                    Some(Ok(answer)) => reading::reading(&name, &answer, count).map_err(|error| {
                        warn!(stream = name.as_str(), %error, "A log could not be read");
                    }),
                    Some(Err(error)) if is_lasting(&error) => {
                        // Publishing to it can't work either.
                        warn!(stream = name.as_str(), %error, "A log could not be read");
                        Ok(None)
                    }
                    Some(Err(error)) => {
                        debug!(stream = name.as_str(), %error, "A log could not be read");
                        commands.note(&error).await;
                        Err(())
                    }
                    None => Err(()),
                };
                results.push((name, result));
            }
            drop(control.send(Control::Read(results)).await);
        });
    }

    pub(super) async fn on_read(
        &mut self,
        results: Vec<(StreamName, Result<Option<Reading>, ()>)>,
    ) {
        self.readings.batches = self.readings.batches.saturating_sub(1);
        if results.iter().all(|(_, result)| result.is_err()) {
            self.readings.paused_until = Some(Instant::now() + PAUSE);
        }
        for (name, result) in results {
            let todo = {
                let mut streams = self.table.lock();
                let Streams { known, .. } = &mut *streams;
                let Some(stream) = known.get_mut(&name) else {
                    continue;
                };
                let Ok(reading) = result else {
                    let due = Instant::now() + RETRY;
                    self.readings.failed.push_back((due, name));
                    continue;
                };
                stream.queued = false;
                let todo = stream.state.read(reading);
                if !todo.deliver.is_empty() {
                    stream.heard = Instant::now();
                }
                let again = std::mem::take(&mut stream.again);
                if todo.read || (again && stream.state.check()) {
                    self.readings.queue(name.clone(), stream);
                }
                todo
            };
            if todo.repaired > 0 {
                debug!(
                    stream = name.as_str(),
                    publications = todo.repaired,
                    "Read from history what was missed"
                );
            }
            self.carry_out(&name, todo).await;
            // Told after what was missed before, so that a replay and what is
            // live have nothing between them.
            if let Some(stream) = self.table.lock().known.get_mut(&name)
                && !stream.state.is_new()
            {
                stream.settle();
            }
        }
        self.read_some();
    }
}

/// Whether the same reading would fail again for ever: somebody else uses the
/// key, or forbids it.
pub(crate) fn is_lasting(error: &::redis::RedisError) -> bool {
    use ::redis::{ErrorKind, ServerErrorKind};
    let is_server = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ResponseError | ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot
        ) | ErrorKind::Extension
    );
    let is_passing = ["LOADING", "OOM", "CLUSTERDOWN", "TRYAGAIN", "BUSY"]
        .iter()
        .any(|code| error.code() == Some(code));
    is_server && !is_passing && !is_connection_error(error)
}
