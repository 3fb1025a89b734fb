//! Which connections a node has: for each feed one that appends, one that reads logs, and one that reads the feed.

use futures_util::future::BoxFuture;
use redis::RedisResult;

use super::feed::FeedReader;
use super::heard::Heard;
use super::keys::{Feed, Keys};
use super::link::{Link, Route};
use super::servers::Servers;
use super::{Options, setup};
use crate::metrics::Metrics;

/// The connections for appending and for reading logs, one each for every feed, and what keeps them.
pub(super) struct Lanes<'a> {
    servers: &'a Servers,
    keys: &'a Keys,
    options: &'a Options,
    pub(super) append: Vec<Link>,
    pub(super) read: Vec<Link>,
    /// Keep the connections.
    pub(super) tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl<'a> Lanes<'a> {
    /// Nothing is connected until the tasks run.
    pub(super) fn new(servers: &'a Servers, keys: &'a Keys, options: &'a Options) -> Self {
        let mut lanes = Self { servers, keys, options, append: Vec::new(), read: Vec::new(), tasks: Vec::new() };
        for feed in keys.feeds() {
            let origin = setup::origin(keys, feed, options);
            let (append, kept) = Link::new("append link", lanes.route(feed), options.append_timeout, Some(origin));
            let (read, also_kept) = Link::new("read link", lanes.route(feed), options.append_timeout, None);
            lanes.append.push(append);
            lanes.read.push(read);
            lanes.tasks.extend([("append link", kept), ("read link", also_kept)]);
        }
        lanes
    }

    /// Settles for each feed which primary it has, before anybody reads: a first start finds no hole in its feeds.
    pub(super) async fn settle_origin(&self) -> RedisResult<()> {
        for feed in self.keys.feeds() {
            let connection = self.servers.pooled(self.keys.slot(feed)).await?;
            setup::origin(self.keys, feed, self.options)(connection.clone()).await?;
        }
        Ok(())
    }

    /// A reader for each feed.
    pub(super) async fn readers(&self, heard: &[Heard], metrics: &Metrics) -> RedisResult<Vec<FeedReader>> {
        let mut readers = Vec::new();
        for feed in self.keys.feeds() {
            let links = [self.append[feed.0].clone(), self.read[feed.0].clone()];
            let (route, group) = (self.route(feed), &self.options.group);
            let reader = FeedReader::begin(route, self.keys, feed, group, &heard[feed.0], links, metrics);
            readers.push(reader.await?);
        }
        Ok(readers)
    }

    fn route(&self, feed: Feed) -> Route {
        Route { servers: self.servers.clone(), slot: self.keys.slot(feed) }
    }
}
