//! Who is present, for all nodes.

use super::{RedisBroker, reading, script::Script};
use crate::{
    broker::BrokerError,
    presence::{Entered, Member},
    queue::countable,
};
use pollux_protocol::{Payload, PresenceRequest, StreamName};
use std::time::Duration;

impl RedisBroker {
    fn of_presence<'a>(&self, script: &'a Script, stream: &StreamName) -> super::Call<'a> {
        script
            .call(self.names.channel(stream))
            .key(self.names.presence(stream))
            .key(self.names.presence_until(stream))
    }

    pub(super) async fn enter_presence(
        &self,
        stream: &StreamName,
        member: Member,
        ttl: Duration,
    ) -> Result<Entered, BrokerError> {
        self.check(stream)?;
        let Member { session, present } = member;
        let call = self
            .of_presence(&self.scripts.enter, stream)
            .arg(self.verb)
            .arg(&session)
            .arg(&present.id)
            .arg(present.info.as_bytes())
            .arg(present.joined().as_bytes())
            .arg(millis(ttl));
        Ok(match reading::number(&self.call(&call).await?)? {
            0 => Entered::First,
            1 => Entered::Again,
            _ => Entered::Other,
        })
    }

    pub(super) async fn exit_presence(
        &self,
        stream: &StreamName,
        session: &str,
    ) -> Result<(), BrokerError> {
        self.check(stream)?;
        let call = self
            .of_presence(&self.scripts.exit, stream)
            .arg(self.verb)
            .arg(session);
        self.call(&call).await.map(drop)
    }

    pub(super) async fn touch_presence(
        &self,
        stream: &StreamName,
        sessions: Vec<String>,
        ttl: Duration,
    ) -> Result<Vec<String>, BrokerError> {
        /// Sessions in one call, so that nobody waits long for it.
        const AT_ONCE: usize = 1_000;

        self.check(stream)?;
        let mut unknown = Vec::new();
        let mut rest = sessions.as_slice();
        loop {
            let (some, others) = rest.split_at(rest.len().min(AT_ONCE));
            let mut call = self
                .of_presence(&self.scripts.touch, stream)
                .arg(self.verb)
                .arg(millis(ttl))
                .arg(u8::from(others.is_empty()).to_string());
            for session in some {
                call = call.arg(session);
            }
            let answer = self.call(&call).await?;
            for session in reading::list(&answer)? {
                unknown.push(reading::text(session)?.to_owned());
            }
            rest = others;
            if rest.is_empty() {
                return Ok(unknown);
            }
        }
    }

    pub(super) async fn list_presence(
        &self,
        stream: &StreamName,
    ) -> Result<Vec<PresenceRequest>, BrokerError> {
        self.check(stream)?;
        let call = self.of_presence(&self.scripts.present, stream);
        let answer = self.call(&call).await?;
        let pairs = reading::list(&answer)?.chunks_exact(2);
        let present = pairs.map(|pair| {
            let [id, info] = pair else {
                return Err(BrokerError::Unsupported);
            };
            let info = reading::text(info)?;
            Ok(PresenceRequest {
                id: reading::text(id)?.to_owned(),
                // The word `null` as a payload's text would be a string.
                info: match info {
                    "null" => Payload::null(),
                    info => Payload::from_text(info),
                },
            })
        });
        let mut present: Vec<_> = present.collect::<Result<_, _>>()?;
        // Not in the script: there the order is that of the server's locale.
        present.sort_by(|one, two| one.id.cmp(&two.id));
        Ok(present)
    }
}

/// At least one: with none Redis would forget everybody without a word.
fn millis(ttl: Duration) -> String {
    countable(ttl).as_millis().max(1).to_string()
}
