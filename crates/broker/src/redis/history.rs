//! Reading history for a client.

use super::{
    commands::Commands,
    names::Names,
    reading::{self, Page},
    script::Scripts,
};
use crate::{
    broker::{BrokerError, History, HistoryError, Since},
    queue::Entry as Kept,
};
use pollux_protocol::{Offset, Position, StreamName};

/// Entries in one command, so that one reader does not stop everybody else.
const PAGE: usize = 500;

/// Bytes of data of one reading. More than a node replays to one client.
const MAX_BYTES: usize = 64 << 20;

/// What the stream's log has after `since`.
pub(super) async fn read(
    commands: &Commands,
    scripts: &Scripts,
    names: &Names,
    stream: &StreamName,
    since: Since,
) -> Result<History, HistoryError> {
    let unavailable = |error: ::redis::RedisError| BrokerError::Unavailable(error.to_string());
    let mut from = match &since {
        Since::Position(position) => position.offset.next().get(),
        Since::Time(_) => 0,
    };
    let mut history = History::default();
    let mut bytes = 0;
    let mut epoch = None;
    loop {
        let call = scripts
            .history
            .of_stream(names, stream)
            .arg(format!("{from}-0"))
            .arg(PAGE.to_string());
        let mut lane = commands.pooled().await.map_err(unavailable)?;
        let answer = match call.run(&mut lane).await {
            Ok(answer) => answer,
            Err(error) => {
                commands.note(&error).await;
                return Err(unavailable(error).into());
            }
        };
        let Some(page) = reading::page(stream, &answer)? else {
            return match since {
                Since::Time(_) => Ok(history),
                Since::Position(_) => Err(HistoryError::Unknown),
            };
        };
        if epoch.is_none() {
            check(&page, &since, from)?;
        } else if epoch.as_ref() != Some(&page.epoch) {
            return Err(HistoryError::Epoch);
        } else if page
            .entries
            .first()
            .is_some_and(|entry| entry.offset != from && page.removed < from)
        {
            // It was trimmed between two pages.
            return Err(HistoryError::Truncated);
        }
        epoch = Some(page.epoch.clone());
        let is_last = page.entries.len() < PAGE;
        for entry in page.entries {
            from = entry.offset.saturating_add(1);
            let is_wanted = match since {
                Since::Position(_) => true,
                Since::Time(unix) => {
                    i64::try_from(entry.time / 1_000_000).unwrap_or(i64::MAX) >= unix
                }
            };
            let Some(publication) = entry.publication.filter(|_| is_wanted) else {
                continue;
            };
            bytes += publication.data.as_bytes().len();
            let position = Position {
                epoch: page.epoch.clone(),
                offset: Offset::new(entry.offset),
            };
            history.entries.push(Kept {
                position,
                time: entry.time,
                publication,
            });
        }
        if is_last {
            return Ok(history);
        }
        if bytes > MAX_BYTES {
            return Err(HistoryError::Truncated);
        }
    }
}

/// Whether the log can answer at all.
fn check(page: &Page, since: &Since, from: u64) -> Result<(), HistoryError> {
    let Since::Position(position) = since else {
        return Ok(());
    };
    if position.epoch != page.epoch {
        return Err(HistoryError::Epoch);
    }
    let offset = position.offset.get();
    if offset > page.last {
        return Err(HistoryError::Beyond);
    }
    let first = page.entries.first().map(|entry| entry.offset);
    let is_whole = offset == page.last || first == Some(from) || page.removed >= from;
    if is_whole {
        Ok(())
    } else {
        Err(HistoryError::Truncated)
    }
}
