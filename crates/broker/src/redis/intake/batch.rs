//! From entries to publications.

use super::{
    super::{reading::list, script::Call, tracker::is_lasting},
    Entry, Intake, strange,
};
use ::redis::{RedisResult, Value, aio::MultiplexedConnection};
use pollux_protocol::{Inbound, Publication, RemoteDisconnect, StreamName};
use std::{collections::HashMap, sync::atomic::Ordering};
use tracing::warn;

/// A batch of entries, sorted by what is to be done.
#[derive(Debug, Default)]
struct Batch {
    /// By stream, in the order of the entries: which entry, its index in the
    /// entry, and what.
    publications: Vec<(StreamName, Vec<Part>)>,
    disconnects: Vec<(usize, RemoteDisconnect)>,
    /// Entries that are nothing, and why.
    poison: HashMap<usize, String>,
}

#[derive(Debug)]
struct Part {
    entry: usize,
    index: usize,
    publication: Publication,
}

impl Batch {
    fn sort(entries: &[Entry], max_size: usize) -> Self {
        let mut batch = Self::default();
        let mut places: HashMap<StreamName, usize> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let inbound = match entry.payload.as_deref().map(Inbound::parse) {
                Some(Ok(inbound)) => inbound,
                Some(Err(error)) => {
                    batch.poison.insert(at, error.to_string());
                    continue;
                }
                None => {
                    let reason = "there is no field `payload`".to_owned();
                    batch.poison.insert(at, reason);
                    continue;
                }
            };
            let publications = match inbound {
                Inbound::Publications(publications) => publications,
                Inbound::Disconnect(command) => {
                    batch.disconnects.push((at, command));
                    continue;
                }
            };
            let is_large = |publication: &Publication| publication.data.as_bytes().len() > max_size;
            if publications.iter().any(is_large) {
                let reason = format!("a publication has more than {max_size} bytes");
                batch.poison.insert(at, reason);
                continue;
            }
            for (index, publication) in publications.into_iter().enumerate() {
                let name = publication.stream.clone();
                let place = *places.entry(name.clone()).or_insert_with(|| {
                    batch.publications.push((name, Vec::new()));
                    batch.publications.len() - 1
                });
                if let Some((_, parts)) = batch.publications.get_mut(place) {
                    parts.push(Part {
                        entry: at,
                        index,
                        publication,
                    });
                }
            }
        }
        batch
    }
}

impl Intake {
    /// Publishes entries and takes them out of the intake. After an error those
    /// that were not taken out come again.
    pub(super) async fn publish(
        &self,
        connection: &mut MultiplexedConnection,
        entries: Vec<Entry>,
        are_fresh: bool,
    ) -> RedisResult<()> {
        let mut batch = Batch::sort(&entries, self.config.max_publication_size);
        let calls: Vec<_> = batch
            .publications
            .iter()
            .map(|(stream, parts)| self.call(&entries, stream, parts))
            .collect();
        let lane = self.commands.pooled().await?;
        let answers = lane.run_all(&calls).await;
        for ((stream, parts), answer) in batch.publications.iter().zip(answers) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if is_lasting(&error) => {
                    warn!(stream = stream.as_str(), %error, "Intake entries can't be published");
                    let poisoned = parts.iter().map(|part| (part.entry, error.to_string()));
                    batch.poison.extend(poisoned);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (part, published) in parts.iter().zip(list(&answer).map_err(strange)?) {
                if matches!(published, Value::Int(0)) && are_fresh {
                    let entry = entries.get(part.entry).ok_or_else(|| strange(()))?;
                    // The stream has had this id, yet nobody else had the
                    // entry: somebody chose ids by hand, or the intake was
                    // deleted and made anew.
                    if self.is_mine_alone(connection, entry).await? {
                        self.publish_anyway(&part.publication).await?;
                    }
                }
            }
        }
        for (_, command) in &batch.disconnects {
            let mut tell = ::redis::cmd("PUBLISH");
            tell.arg(&self.config.channel).arg(command.to_json());
            self.commands.pooled().await?.send(&tell).await?;
        }
        self.finish(&entries, &batch.poison).await
    }

    fn call(&self, entries: &[Entry], stream: &StreamName, parts: &[Part]) -> Call<'_> {
        let call = self.scripts.intake.of_stream(&self.names, stream);
        let mut call = self.with_settings(call.key(self.names.sources(stream)));
        for part in parts {
            let id = entries
                .get(part.entry)
                .map_or("", |entry| entry.id.as_str());
            call = call
                .arg(format!("{id}-{}", part.index))
                .arg("json")
                .arg(part.publication.data.as_bytes())
                .arg(part.publication.meta.to_json().unwrap_or_default());
        }
        call
    }

    fn with_settings<'a>(&self, call: Call<'a>) -> Call<'a> {
        call.arg(self.config.history_limit.to_string())
            .arg(self.config.history_ttl.as_millis().to_string())
            .arg(self.verb)
    }

    async fn publish_anyway(&self, publication: &Publication) -> RedisResult<()> {
        let call = self
            .scripts
            .publish
            .of_stream(&self.names, &publication.stream);
        let call = self
            .with_settings(call)
            .arg("json")
            .arg(publication.data.as_bytes())
            .arg(publication.meta.to_json().unwrap_or_default());
        let mut lane = self.commands.pooled().await?;
        call.run(&mut lane).await.map(drop)
    }

    /// Takes entries out of the intake: those that are published, and the others
    /// to where people can look at them.
    async fn finish(&self, entries: &[Entry], poison: &HashMap<usize, String>) -> RedisResult<()> {
        let (intake, group) = (&self.config.intake, &self.config.intake_group);
        let mut done = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let Some(reason) = poison.get(&at) else {
                done.push(entry.id.as_str());
                continue;
            };
            warn!(
                id = entry.id,
                reason, "An intake entry can't be published; it was set aside"
            );
            self.health.set_aside.fetch_add(1, Ordering::Relaxed);
            let call = self
                .scripts
                .set_aside
                .call(intake.clone())
                .key(self.names.aside(intake))
                .arg(group)
                .arg(&entry.id)
                .arg(reason)
                .arg(entry.payload.as_deref().unwrap_or_default());
            let mut lane = self.commands.pooled().await?;
            call.run(&mut lane).await?;
        }
        if done.is_empty() {
            return Ok(());
        }
        let mut call = self.scripts.finish.call(intake.clone()).arg(group);
        for id in &done {
            call = call.arg(id);
        }
        let mut lane = self.commands.pooled().await?;
        call.run(&mut lane).await?;
        let count = u64::try_from(done.len()).unwrap_or(u64::MAX);
        self.health.taken.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, payload: Option<&str>) -> Entry {
        Entry {
            id: format!("{number}-0"),
            payload: payload.map(|text| text.as_bytes().to_vec()),
        }
    }

    #[test]
    fn entries_are_sorted_and_keep_their_order() {
        let entries = [
            entry(1, Some(r#"{"stream":"a","data":"1"}"#)),
            entry(
                2,
                Some(r#"[{"stream":"b","data":"2"},{"stream":"a","data":"3"}]"#),
            ),
            entry(3, Some("nonsense")),
            entry(4, None),
            entry(5, Some(r#"{"stream":"a","data":"too long for the limit"}"#)),
            entry(
                6,
                Some(r#"{"command":"disconnect","payload":{"identifier":"x"}}"#),
            ),
        ];
        let batch = Batch::sort(&entries, 10);
        let order: Vec<_> = batch
            .publications
            .iter()
            .flat_map(|(stream, parts)| {
                parts.iter().map(move |part| {
                    let data = part.publication.data.as_str();
                    (stream.as_str(), part.entry, part.index, data)
                })
            })
            .collect();
        assert_eq!(
            order,
            [("a", 0, 0, "1"), ("a", 1, 1, "3"), ("b", 1, 0, "2")]
        );
        let mut poison: Vec<_> = batch.poison.keys().copied().collect();
        poison.sort_unstable();
        assert_eq!(poison, [2, 3, 4]);
        assert_eq!(batch.disconnects.len(), 1);
    }
}
