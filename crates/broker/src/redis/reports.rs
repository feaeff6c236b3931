//! What nodes say of themselves.

use super::{Call, RedisBroker, names::Names, reading, script::Scripts};
use crate::{broker::BrokerError, guest::NodeSeen};
use ::redis::Value;
use bytes::Bytes;
use std::{sync::atomic::Ordering, time::Duration};

/// After so long a node that is silent is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Every so many reports the silent ones are looked for, which takes reading all.
const LOOK_EVERY: u64 = 12;

impl RedisBroker {
    pub(super) async fn write_report(&self, report: Option<Bytes>) -> Result<(), BrokerError> {
        let number = self.reports.fetch_add(1, Ordering::Relaxed);
        let call = self
            .scripts
            .report
            .call(self.names.reports())
            .arg(&self.config.node)
            .arg(report.unwrap_or_default())
            .arg(FORGET_AFTER.as_millis().to_string())
            .arg(u8::from(number.is_multiple_of(LOOK_EVERY)).to_string());
        self.call(&call).await.map(drop)
    }
}

/// Asks for all of them.
pub(super) fn ask<'a>(scripts: &'a Scripts, names: &Names) -> Call<'a> {
    scripts.nodes.call(names.reports())
}

/// Reads the answer. Whatever else stands there is no node's.
pub(super) fn nodes(answer: &Value) -> Result<Vec<NodeSeen>, BrokerError> {
    let Some((now, rest)) = reading::list(answer)?.split_first() else {
        return Ok(Vec::new());
    };
    let now = millis(reading::text(now)?);
    let mut nodes: Vec<_> = rest
        .chunks_exact(2)
        .filter_map(|pair| {
            let [id, said] = pair else { return None };
            let (seen, report) = reading::text(said).ok()?.split_once(' ')?;
            let silence = Duration::from_millis(now.saturating_sub(millis(seen)));
            (silence <= FORGET_AFTER).then(|| {
                Some(NodeSeen {
                    id: reading::text(id).ok()?.to_owned(),
                    silence,
                    report: report.to_owned(),
                })
            })?
        })
        .collect();
    nodes.sort_by(|one, two| one.id.cmp(&two.id));
    Ok(nodes)
}

fn millis(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_and_nonsense_is_left_out() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = [
            "100000",
            "b",
            "95000 {}",
            "a",
            "100000 {\"x\":1}",
            "c",
            "nonsense",
            "d",
            "5 {}",
        ];
        let answer = Value::Array(answer.map(text).to_vec());
        let nodes = nodes(&answer).unwrap();
        let seen: Vec<_> = nodes
            .iter()
            .map(|node| {
                (
                    node.id.as_str(),
                    node.silence.as_secs(),
                    node.report.as_str(),
                )
            })
            .collect();
        assert_eq!(seen, [("a", 0, "{\"x\":1}"), ("b", 5, "{}")]);
    }
}
