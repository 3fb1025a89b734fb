//! Which connections a node has: one that all feeds share, or, where no command may touch two of them, one for each.

use futures_util::future::BoxFuture;
use redis::RedisResult;

use super::feed::{FeedReader, Progress};
use super::keys::{Feed, Keys};
use super::link::{Link, Prepare, Route};
use super::servers::Servers;
use super::{Durability, Options, setup};
use crate::metrics::Metrics;

/// The connections for appending and for reading logs, and what keeps them.
pub(super) struct Lanes<'a> {
    servers: &'a Servers,
    keys: &'a Keys,
    options: &'a Options,
    /// The feeds that may be touched together.
    together: Vec<Vec<Feed>>,
    /// One for each feed, in their order, or one for all.
    pub(super) append: Vec<Link>,
    /// The same.
    pub(super) read: Vec<Link>,
    /// Keep the connections.
    pub(super) tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl<'a> Lanes<'a> {
    /// Nothing is connected until the tasks run.
    pub(super) fn new(servers: &'a Servers, keys: &'a Keys, options: &'a Options) -> Self {
        let each = || keys.feeds().map(|feed| vec![feed]).collect();
        let together = if servers.is_cluster() { each() } else { vec![keys.feeds().collect()] };
        // A connection that waits for replicas holds up what comes behind it, so that each feed gets its own.
        let waits = matches!(options.durability, Durability::Replica { .. });
        let appending = if waits { each() } else { together.clone() };
        let mut lanes =
            Self { servers, keys, options, together, append: Vec::new(), read: Vec::new(), tasks: Vec::new() };
        lanes.append = appending
            .iter()
            .map(|feeds| lanes.link("append link", feeds, Some(setup::origin(keys, feeds, options))))
            .collect();
        lanes.read = lanes.together.clone().iter().map(|feeds| lanes.link("read link", feeds, None)).collect();
        lanes
    }

    fn link(&mut self, name: &'static str, feeds: &[Feed], prepare: Option<Prepare>) -> Link {
        let (link, keep) = Link::new(name, self.route(feeds), self.options.append_timeout, prepare);
        self.tasks.push((name, keep));
        link
    }

    /// Settles for each feed which primary it has, before anybody reads: a first start finds no hole in its feeds.
    pub(super) async fn settle_origin(&self) -> RedisResult<()> {
        for feeds in &self.together {
            let connection = self.servers.pooled(self.keys.slot(feeds[0])).await?;
            setup::origin(self.keys, feeds, self.options)(connection.clone()).await?;
        }
        Ok(())
    }

    /// A reader for all feeds that may be read together.
    pub(super) async fn readers(&self, progress: &Progress, metrics: &Metrics) -> RedisResult<Vec<FeedReader>> {
        let mut readers = Vec::new();
        for feeds in &self.together {
            let of = |links: &[Link]| feeds.iter().map(|feed| links[feed.0 % links.len()].clone()).collect::<Vec<_>>();
            let links = [of(&self.append), of(&self.read)].concat();
            let (route, group) = (self.route(feeds), &self.options.group);
            let reader = FeedReader::begin(route, self.keys, feeds, group, progress, links, metrics);
            readers.push(reader.await?);
        }
        Ok(readers)
    }

    fn route(&self, feeds: &[Feed]) -> Route {
        Route { servers: self.servers.clone(), slot: self.keys.slot(feeds[0]) }
    }
}
