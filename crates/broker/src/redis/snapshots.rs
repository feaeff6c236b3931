//! What is kept of sessions whose clients may come back.

use super::RedisBroker;
use crate::{broker::BrokerError, queue::countable};
use ::redis::Value;
use bytes::Bytes;
use std::time::Duration;

impl RedisBroker {
    pub(super) async fn write_snapshot(
        &self,
        id: &str,
        snapshot: Bytes,
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        let key = self.names.session(id);
        let mut command;
        if ttl.is_zero() {
            command = ::redis::cmd("DEL");
            command.arg(key);
        } else {
            let millis = countable(ttl).as_millis().max(1);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            command = ::redis::cmd("SET");
            command.arg(key).arg(&*snapshot).arg("PX").arg(millis);
        }
        self.send(&command).await.map(drop)
    }

    pub(super) async fn read_snapshot(&self, id: &str) -> Result<Option<Bytes>, BrokerError> {
        self.fetch("GET", id).await
    }

    /// Reads it and deletes it, in one step.
    pub(super) async fn take_snapshot(&self, id: &str) -> Result<Option<Bytes>, BrokerError> {
        self.fetch("GETDEL", id).await
    }

    async fn fetch(&self, verb: &str, id: &str) -> Result<Option<Bytes>, BrokerError> {
        let mut command = ::redis::cmd(verb);
        command.arg(self.names.session(id));
        Ok(match self.send(&command).await? {
            Value::BulkString(snapshot) => Some(snapshot.into()),
            _ => None,
        })
    }
}
