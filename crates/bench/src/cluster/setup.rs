//! The command line turned into what a run needs, checked before anything is opened.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::args::{ClusterArgs, DoorName};
use super::door::Door;
use super::redis::{Server, Verb};
use crate::dialect::{Cursor, Dialect, DialectName};
use crate::limits;
use crate::mark::RunId;
use crate::plan;
use crate::target::Target;

const ALL_DOORS: [DoorName; 4] = [
    DoorName::Http,
    DoorName::Fcall,
    DoorName::Xadd,
    DoorName::Publish,
];

/// Several nodes, and perhaps their Redis.
#[derive(Debug)]
pub(super) struct Setup {
    /// At least one.
    pub(super) nodes: Vec<NodeAt>,
    pub(super) redis: Option<Server>,
    /// Where the door `http` is.
    pub(super) publish_url: String,
    pub(super) payload: usize,
    pub(super) warmup: usize,
    /// How long nothing may happen.
    pub(super) timeout: Duration,
    /// How long nodes get to come to rest.
    pub(super) settle: Duration,
}

/// A node that has subscribers.
#[derive(Debug)]
pub(super) struct NodeAt {
    pub(super) url: String,
    /// Polls go to this node, publications to the one that takes them for all.
    pub(super) dialect: Dialect,
    pub(super) metrics: Target,
}

impl NodeAt {
    pub(super) const fn addr(&self) -> SocketAddr {
        self.dialect.subscribe_target().addr
    }
}

impl Setup {
    /// Checks and resolves everything; fails with a clear sentence if somebody is not there.
    pub(super) fn make(
        args: &ClusterArgs,
        name: DialectName,
        publish_at: Option<&str>,
        run: RunId,
    ) -> Result<Self> {
        let Some(publish_url) = publish_at.or_else(|| args.nodes.first().map(String::as_str))
        else {
            bail!("there is no node; name one with --node");
        };
        let publish = Target::parse(publish_url)?.join(name.publish_path());
        let prefix = format!("{}-{:08x}", args.stream_prefix, run.0);
        let headers = plan::header_lines(&args.headers)?;
        let mut nodes = Vec::new();
        for url in &args.nodes {
            let base = Target::parse(url)?;
            base.check_somebody_listens()?;
            nodes.push(NodeAt {
                url: url.clone(),
                dialect: Dialect::new(
                    name,
                    Cursor::Ignore,
                    base.join(name.subscribe_path()),
                    publish.clone(),
                    prefix.clone(),
                    headers.clone(),
                ),
                metrics: base.join("/metrics"),
            });
        }
        publish.check_somebody_listens()?;
        let redis = match &args.redis {
            Some(url) => {
                let server = Server::parse(url, &args.redis_prefix)?;
                server.target.check_somebody_listens()?;
                Some(server)
            }
            None => None,
        };
        Ok(Self {
            nodes,
            redis,
            publish_url: publish_url.to_owned(),
            payload: args.payload,
            warmup: usize::try_from(args.warmup)?,
            timeout: args.timeout,
            settle: args.settle,
        })
    }

    /// Fails if so many pollers and publishers can't be opened.
    pub(super) fn make_room(&self, pollers: usize, publishers: usize) -> Result<()> {
        limits::make_room_for(pollers.saturating_add(publishers))
    }

    /// The doors to measure: those asked for, or all there are.
    pub(super) fn doors(&self, asked: &[DoorName]) -> Result<Vec<DoorName>> {
        let is_nchan = self.dialect().name() == DialectName::Nchan;
        let through_redis = self.redis.is_some() && !is_nchan;
        if asked.is_empty() {
            let there_is = |door: &DoorName| through_redis || *door == DoorName::Http;
            return Ok(ALL_DOORS.into_iter().filter(there_is).collect());
        }
        for door in asked.iter().filter(|&&door| door != DoorName::Http) {
            if is_nchan {
                bail!("Nchan has no door `{}`, only `http`", door.text());
            }
            if self.redis.is_none() {
                bail!("the door `{}` needs --redis", door.text());
            }
        }
        Ok(asked.to_vec())
    }

    /// A door with so many publications in flight.
    pub(super) fn open(&self, name: DoorName, in_flight: usize) -> Result<Door> {
        let dialect = self.dialect().clone();
        let verb = match name {
            DoorName::Http => return Ok(Door::http(dialect, in_flight)),
            DoorName::Fcall => Verb::Fcall,
            DoorName::Xadd => Verb::Xadd,
            DoorName::Publish => Verb::Publish,
        };
        match &self.redis {
            Some(server) => Ok(Door::redis(verb, server.clone(), dialect, in_flight)),
            None => bail!("the door `{}` needs --redis", name.text()),
        }
    }

    pub(super) fn dialect(&self) -> &Dialect {
        &self.nodes[0].dialect
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }
}
