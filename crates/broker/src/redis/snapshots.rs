//! What is kept of sessions whose clients may come back.

use super::RedisBroker;
use crate::broker::BrokerError;
use ::redis::Value;
use bytes::Bytes;
use std::time::Duration;

/// Redis refuses times that end after those it can count: a thousand years.
const MAX_MILLIS: u128 = 1_000 * 365 * 24 * 3_600 * 1_000;

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
            let millis = ttl.as_millis().clamp(1, MAX_MILLIS);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            command = ::redis::cmd("SET");
            command.arg(key).arg(&*snapshot).arg("PX").arg(millis);
        }
        self.send(&command).await.map(drop)
    }

    pub(super) async fn read_snapshot(&self, id: &str) -> Result<Option<Bytes>, BrokerError> {
        let mut command = ::redis::cmd("GET");
        command.arg(self.names.session(id));
        Ok(match self.send(&command).await? {
            Value::BulkString(snapshot) => Some(snapshot.into()),
            _ => None,
        })
    }
}
