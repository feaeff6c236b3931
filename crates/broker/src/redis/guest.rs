//! What those do at Redis who are no nodes.

use super::{
    RedisConfig, commands::Commands, names::Names, place::Place, reading, reports, script::Scripts,
};
use crate::{
    broker::BrokerError,
    guest::{NodeSeen, Receipt, StreamSeen, StreamsSeen},
};
use ::redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};
use pollux_protocol::StreamName;
use std::{collections::HashSet, sync::Arc};

/// Keys that one command looks at.
const SCAN_COUNT: usize = 1_000;

/// Commands to one server before it is enough: a million keys.
const SCANS_MAX: usize = 1_000;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Guest {
    config: RedisConfig,
    is_cluster: bool,
    names: Names,
    scripts: Scripts,
    commands: Commands,
}

impl Guest {
    pub(crate) fn new(config: RedisConfig) -> Result<Self, BrokerError> {
        let place = Arc::new(Place::new(&config)?);
        Ok(Self {
            is_cluster: place.is_cluster(),
            names: Names::new(&config.prefix),
            scripts: Scripts::new(&config, ""),
            commands: Commands::new(place),
            config,
        })
    }

    pub(crate) async fn publish(&self, inbound: Vec<u8>) -> Result<Receipt, BrokerError> {
        let mut command;
        if self.config.intake.is_empty() {
            command = cmd("PUBLISH");
            command.arg(&self.config.channel).arg(inbound);
            let heard = self.send(&command).await?;
            return Ok(Receipt::Heard {
                channel: self.config.channel.clone(),
                nodes: reading::number(&heard)?,
            });
        }
        command = cmd("XADD");
        let key = self.config.intake.clone();
        command.arg(&key).arg("*").arg("payload").arg(inbound);
        let id = reading::text(&self.send(&command).await?)?.to_owned();
        Ok(Receipt::Waits { key, id })
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<NodeSeen>, BrokerError> {
        let mut lane = self.commands.express().await.map_err(unavailable)?;
        let answer = reports::ask(&self.scripts, &self.names)
            .run(&mut lane)
            .await;
        reports::nodes(&answer.map_err(unavailable)?)
    }

    pub(crate) async fn streams(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<StreamsSeen, BrokerError> {
        let mut seen = StreamsSeen::default();
        for mut server in self.commands.masters().await.map_err(unavailable)? {
            self.streams_of(&mut server, prefix, limit, &mut seen)
                .await?;
            if seen.is_cut {
                break;
            }
        }
        Ok(seen)
    }

    async fn streams_of(
        &self,
        server: &mut MultiplexedConnection,
        prefix: &str,
        limit: usize,
        seen: &mut StreamsSeen,
    ) -> Result<(), BrokerError> {
        let pattern = self.names.pattern(prefix);
        let mut known = HashSet::new();
        let mut cursor = "0".to_owned();
        for _ in 0..SCANS_MAX {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern);
            scan.arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("hash");
            let answer: Value = scan.query_async(server).await.map_err(unavailable)?;
            let [next, keys] = reading::list(&answer)? else {
                return Err(BrokerError::Unsupported);
            };
            for key in reading::list(keys)? {
                let Value::BulkString(key) = key else {
                    continue;
                };
                let Some(stream) = self.names.stream(key) else {
                    continue;
                };
                // A key may come twice while Redis makes its table larger.
                if !known.insert(stream.clone()) {
                    continue;
                }
                if seen.streams.len() >= limit {
                    seen.is_cut = true;
                    return Ok(());
                }
                let stream = self.look_at(server, stream).await?;
                seen.streams.extend(stream);
            }
            reading::text(next)?.clone_into(&mut cursor);
            if cursor == "0" {
                return Ok(());
            }
        }
        seen.is_cut = true;
        Ok(())
    }

    /// `None`: it has just been forgotten, or is none.
    async fn look_at(
        &self,
        server: &mut MultiplexedConnection,
        stream: StreamName,
    ) -> Result<Option<StreamSeen>, BrokerError> {
        let channel = self.names.channel(&stream);
        let mut offset = cmd("HGET");
        offset.arg(&channel).arg("offset");
        let mut length = cmd("XLEN");
        length.arg(self.names.log(&stream));
        let mut listeners = cmd("PUBSUB");
        listeners.arg(match self.is_cluster {
            true => "SHARDNUMSUB",
            false => "NUMSUB",
        });
        listeners.arg(&channel);
        let offset: Value = offset.query_async(server).await.map_err(unavailable)?;
        if matches!(offset, Value::Nil) {
            return Ok(None);
        }
        let length: Value = length.query_async(server).await.map_err(unavailable)?;
        let listeners: Value = listeners.query_async(server).await.map_err(unavailable)?;
        let listeners = match reading::list(&listeners)? {
            [_, number] => reading::number(number)?,
            _ => 0,
        };
        Ok(Some(StreamSeen {
            stream,
            offset: reading::number(&offset)?,
            history: reading::number(&length)?,
            nodes: listeners,
        }))
    }

    async fn send(&self, command: &Cmd) -> Result<Value, BrokerError> {
        let mut lane = self.commands.express().await.map_err(unavailable)?;
        lane.send(command).await.map_err(unavailable)
    }
}

fn unavailable(error: RedisError) -> BrokerError {
    BrokerError::Unavailable(error.to_string())
}
