//! Streams read by those who compete for them.

use super::{Call, RedisBroker, reading};
use crate::{
    broker::BrokerError,
    queue::{Group, Outcome, Take, Taken, countable},
};
use pollux_protocol::{Epoch, Offset, Position, StreamName};
use std::time::Duration;

/// Publications of one answer. More would keep Redis from everybody else.
const MOST: usize = 100_000;

impl RedisBroker {
    pub(super) async fn take_some(
        &self,
        stream: &StreamName,
        take: &Take,
    ) -> Result<Taken, BrokerError> {
        self.check(stream)?;
        let call = self
            .scripts
            .take
            .of_stream(&self.names, stream)
            .key(self.names.lent(stream, take.group))
            .key(self.names.waiting(stream, take.group))
            .arg(self.verb)
            .arg(take.group.name())
            .arg(&take.reader)
            .arg(take.max.min(MOST).to_string())
            .arg(take.bound.to_string())
            .arg(micros(take.idle.unwrap_or_default()))
            .arg(micros(take.lease))
            .arg(micros(take.wait.unwrap_or_default()));
        reading::taken(stream, &self.call(&call).await?)
    }

    pub(super) async fn claim_some(
        &self,
        stream: &StreamName,
        positions: Vec<Position>,
        lease: Duration,
    ) -> Result<Vec<Position>, BrokerError> {
        self.check(stream)?;
        if positions.is_empty() {
            return Ok(positions);
        }
        let call = self
            .scripts
            .claim
            .of_stream(&self.names, stream)
            .key(self.names.lent(stream, Group::Once))
            .arg(self.verb)
            .arg(micros(lease));
        let answer = self.call(&with_positions(call, &positions)).await?;
        match reading::list(&answer)? {
            [] => Ok(Vec::new()),
            [epoch, offsets @ ..] => {
                let epoch = Epoch::new(reading::text(epoch)?);
                let granted = offsets.iter().map(|offset| {
                    Ok(Position {
                        epoch: epoch.clone(),
                        offset: Offset::new(reading::number(offset)?),
                    })
                });
                granted.collect()
            }
        }
    }

    pub(super) async fn settle_some(
        &self,
        stream: &StreamName,
        group: Group,
        positions: Vec<Position>,
        outcome: Outcome,
    ) -> Result<(), BrokerError> {
        self.check(stream)?;
        let call = self
            .scripts
            .settle
            .of_stream(&self.names, stream)
            .key(self.names.lent(stream, group))
            .arg(self.verb)
            .arg(group.name())
            .arg(match outcome {
                Outcome::Arrived => "arrived",
                Outcome::Back => "back",
            });
        let call = with_positions(call, &positions);
        self.call(&call).await.map(drop)
    }

    pub(super) async fn stop_waiting(
        &self,
        stream: &StreamName,
        group: Group,
        reader: &str,
    ) -> Result<(), BrokerError> {
        self.check(stream)?;
        let mut command = ::redis::cmd("ZREM");
        command.arg(self.names.waiting(stream, group)).arg(reader);
        self.send(&command).await.map(drop)
    }

    pub(super) async fn count_waiting(
        &self,
        stream: &StreamName,
        group: Group,
        bound: usize,
    ) -> Result<usize, BrokerError> {
        self.check(stream)?;
        let call = self
            .scripts
            .backlog
            .of_stream(&self.names, stream)
            .key(self.names.lent(stream, group))
            .arg(group.name());
        let waiting = reading::number(&self.call(&call).await?)?;
        Ok(usize::try_from(waiting).unwrap_or(usize::MAX).min(bound))
    }
}

/// Each with its epoch: what a reader holds may be of more than one.
fn with_positions<'a>(call: Call<'a>, positions: &[Position]) -> Call<'a> {
    positions.iter().fold(call, |call, position| {
        call.arg(position.epoch.as_str())
            .arg(position.offset.get().to_string())
    })
}

fn micros(time: Duration) -> String {
    countable(time).as_micros().to_string()
}
