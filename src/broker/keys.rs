//! The names of everything that Burble keeps in Redis.

use crate::model::{ChannelId, UserId};

/// The hash slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The feed whose slot holds the counters of attempts.
pub(super) const ATTEMPTS: Feed = Feed(0);

/// A part of the channels, from 0: all that is kept of them for long shares a hash tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Shard(usize);

/// A stream that every node reads, from 0: where no command may touch two slots one for each shard, else one for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feed(pub usize);

/// Makes key names. All keys of one shard share its hash tag, so that one script may write them; the feed of all shards
/// has that of the first.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    tags: Vec<String>,
    feeds: usize,
}

impl Keys {
    /// `apart`: no command may touch two shards.
    pub(super) fn new(prefix: &str, shards: usize, apart: bool) -> Self {
        let tags = (0..shards).map(|shard| tag(shard, shards)).collect();
        Self { prefix: prefix.to_owned(), tags, feeds: if apart { shards } else { 1 } }
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = Feed> + use<> {
        (0..self.feeds).map(Feed)
    }

    /// The shard of a channel: fixed for its life. The low half of a UUIDv7 is random.
    pub(super) fn shard_of(&self, channel: ChannelId) -> Shard {
        Shard(spread(channel.0, self.tags.len()))
    }

    /// The feed of a channel.
    pub(super) fn feed_of(&self, channel: ChannelId) -> Feed {
        Feed(self.shard_of(channel).0 % self.feeds)
    }

    /// The feed that tells of a user's sign-ins.
    pub(super) fn feed_of_user(&self, user: UserId) -> Feed {
        Feed(spread(user.0, self.feeds))
    }

    /// The slot of a Redis Cluster that holds a feed and all of its shard.
    pub(super) fn slot(&self, feed: Feed) -> u16 {
        slot_of(&self.tags[feed.0])
    }

    /// The stream.
    pub(super) fn feed(&self, feed: Feed) -> String {
        format!("{}:{{{}}}:feed", self.prefix, self.tags[feed.0])
    }

    /// What is known of a feed: the number of its last item, the epoch floor of its logs, and the primary that was seen
    /// last.
    pub(super) fn state(&self, feed: Feed) -> String {
        format!("{}:{{{}}}:state", self.prefix, self.tags[feed.0])
    }

    /// The last epoch of each log of the shard; outlives a log that expires. `append.lua` makes this key from a log's.
    pub(super) fn epochs(&self, shard: Shard) -> String {
        format!("{}:{{{}}}:epochs", self.prefix, self.tags[shard.0])
    }

    /// A channel's log.
    pub(super) fn log(&self, channel: ChannelId) -> String {
        format!("{}:{{{}}}:log:{channel}", self.prefix, self.tags[self.shard_of(channel).0])
    }

    /// What was written under a cid.
    pub(super) fn once(&self, shard: Shard, digest: &str) -> String {
        format!("{}:{{{}}}:once:{digest}", self.prefix, self.tags[shard.0])
    }

    /// What counts attempts. One tag for all: a script looks at several counters of one attempt together.
    pub(super) fn attempts(&self, digest: &str) -> String {
        format!("{}:{{{}}}:attempts:{digest}", self.prefix, self.tags[ATTEMPTS.0])
    }

    /// What the installation was set up with.
    pub(super) fn installation(&self) -> String {
        format!("{}:installation", self.prefix)
    }

    /// There as long as the node of this group was heard of lately.
    pub(super) fn node(&self, group: &str) -> String {
        format!("{}:node:{group}", self.prefix)
    }

    /// Held by the node that cleans up.
    pub(super) fn janitor(&self) -> String {
        format!("{}:janitor", self.prefix)
    }
}

/// The channel that a log, by its key, belongs to.
pub(super) fn channel_of(log: &str) -> Option<ChannelId> {
    log.rsplit_once(":log:")?.1.parse().ok()
}

/// The slot of a Redis Cluster that a key without a hash tag falls into.
pub(super) fn slot_of(key: &str) -> u16 {
    crc16(key.as_bytes()) % SLOTS as u16
}

fn spread(id: uuid::Uuid, over: usize) -> usize {
    (id.as_u64_pair().1 % over as u64) as usize
}

/// A hash tag whose slot lies in the shard's share of all slots: however a Cluster splits them into ranges, each
/// primary gets its share of the shards. The same for ever, since the search is deterministic.
fn tag(shard: usize, shards: usize) -> String {
    let share = shard * SLOTS / shards..(shard + 1) * SLOTS / shards;
    (0..)
        .map(|n: u32| format!("{shard}.{n}"))
        .find(|tag| share.contains(&usize::from(slot_of(tag))))
        .expect("some tag falls into every share")
}

/// CRC-16/XMODEM, as the Redis Cluster specification fixes it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn feeds_spread_evenly_over_the_slots() {
        for feeds in [1, 16, 64] {
            let keys = Keys::new("burble", feeds, true);
            let slots: Vec<usize> = keys.feeds().map(|feed| usize::from(keys.slot(feed))).collect();
            assert!(slots.is_sorted());
            assert!(slots.iter().enumerate().all(|(i, slot)| slot * feeds / SLOTS == i));
        }
    }

    #[test]
    fn a_channel_keeps_its_keys_when_one_redis_becomes_a_cluster() {
        let (one, cluster) = (Keys::new("burble", 16, false), Keys::new("burble", 16, true));
        assert_eq!((one.feeds().count(), cluster.feeds().count()), (1, 16));
        for shard in 0..16 {
            let channel = ChannelId(uuid::Uuid::from_u64_pair(7, 160 + shard));
            assert_eq!(one.feed_of(channel), Feed(0));
            let feed = cluster.feed_of(channel);
            assert_eq!(feed.0, cluster.shard_of(channel).0);
            assert_eq!(slot_of(cluster.tags[cluster.shard_of(channel).0].as_str()), cluster.slot(feed));
            assert_eq!(one.log(channel), cluster.log(channel));
        }
    }
}
