//! CPU time of the processes that take part, by name.

use serde::Serialize;

use super::args::NamedPid;
use super::listeners;
use super::setup::Setup;
use crate::server::{Cpu, CpuSource, Pid, Processes};

const REDIS: &str = "redis";
const GENERATOR: &str = "generator";

/// Who takes part. The generator is the last one.
#[derive(Debug)]
pub(super) struct Participants {
    groups: Vec<(String, Processes)>,
}

/// CPU time of each at one moment.
#[derive(Debug)]
pub(super) struct Meter {
    start: Vec<Option<Cpu>>,
}

/// What one of them spent on a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    pub(super) name: String,
    pub(super) processes: Processes,
    pub(super) source: CpuSource,
    pub(super) seconds: f64,
    pub(super) us_per_publication: f64,
}

impl Participants {
    /// Those named, and those found by their ports; a sentence for each that was not found.
    pub(super) fn find(
        setup: &Setup,
        named: &[NamedPid],
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let redis = setup.redis.as_ref();
        let mut wanted: Vec<_> = redis
            .map(|server| (REDIS.to_owned(), Some(server.target.addr)))
            .into_iter()
            .collect();
        wanted.extend(
            (1..)
                .zip(&setup.nodes)
                .map(|(number, node)| (format!("node{number}"), Some(node.addr()))),
        );
        for one in named {
            if wanted.iter().all(|(name, _)| *name != one.name) {
                wanted.push((one.name.clone(), None));
            }
        }
        let mut groups = Vec::new();
        for (name, addr) in wanted {
            let mut pids: Vec<Pid> = named
                .iter()
                .filter(|one| one.name == name)
                .map(|one| one.pid)
                .collect();
            if let (true, Some(addr)) = (pids.is_empty(), addr) {
                pids = listeners::of(addr);
                if pids.is_empty() {
                    notes.push(format!(
                        "no process here listens at {addr}; its CPU time counts with --pid {name}=PID"
                    ));
                    continue;
                }
            }
            groups.push((name, Processes::find(&pids)?));
        }
        groups.push((GENERATOR.to_owned(), Processes::myself()));
        Ok(Self { groups })
    }

    pub(super) fn measure(&self) -> Meter {
        Meter {
            start: self
                .groups
                .iter()
                .map(|(_, processes)| processes.cpu().ok())
                .collect(),
        }
    }

    /// What each spent since, without those that have ended.
    pub(super) fn spent_since(&self, meter: &Meter, publications: usize) -> Vec<Cost> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let publications = publications.max(1) as f64;
        self.groups
            .iter()
            .zip(&meter.start)
            .filter_map(|((name, processes), start)| {
                let (spent, source) = processes.cpu().ok()?.since((*start)?);
                Some(Cost {
                    name: name.clone(),
                    processes: processes.clone(),
                    source,
                    seconds: spent.as_secs_f64(),
                    us_per_publication: spent.as_secs_f64() * 1e6 / publications,
                })
            })
            .collect()
    }
}

impl Cost {
    pub(super) fn is_generator(&self) -> bool {
        self.name == GENERATOR
    }
}
