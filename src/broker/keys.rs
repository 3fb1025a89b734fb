//! The names of everything that Burble keeps in Redis.

use crate::model::{ChannelId, UserId};

/// The hash slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The feed whose slot holds the counters of attempts.
pub(super) const ATTEMPTS: Feed = Feed(0);

/// One of the installation's feeds, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Feed(pub usize);

/// Makes key names. All keys of one feed share its hash tag, so that one script may write them.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    tags: Vec<String>,
}

impl Keys {
    pub(super) fn new(prefix: &str, feeds: usize) -> Self {
        Self { prefix: prefix.to_owned(), tags: (0..feeds).map(|feed| tag(feed, feeds)).collect() }
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = Feed> + use<> {
        (0..self.tags.len()).map(Feed)
    }

    /// The feed of a channel: fixed for its life. The low half of a UUIDv7 is random.
    pub(super) fn feed_of(&self, channel: ChannelId) -> Feed {
        self.spread(channel.0)
    }

    /// The feed that tells of a user's sign-ins.
    pub(super) fn feed_of_user(&self, user: UserId) -> Feed {
        self.spread(user.0)
    }

    fn spread(&self, id: uuid::Uuid) -> Feed {
        Feed((id.as_u64_pair().1 % self.tags.len() as u64) as usize)
    }

    /// The slot of a Redis Cluster that holds everything of a feed.
    pub(super) fn slot(&self, feed: Feed) -> u16 {
        slot_of(&self.tags[feed.0])
    }

    /// The stream that every node reads.
    pub(super) fn feed(&self, feed: Feed) -> String {
        format!("{}:{{{}}}:feed", self.prefix, self.tags[feed.0])
    }

    /// The feed's sequence number, epoch floor and last seen primary.
    pub(super) fn state(&self, feed: Feed) -> String {
        format!("{}:{{{}}}:state", self.prefix, self.tags[feed.0])
    }

    /// The last epoch of each log of the feed; outlives a log that expires.
    pub(super) fn epochs(&self, feed: Feed) -> String {
        format!("{}:{{{}}}:epochs", self.prefix, self.tags[feed.0])
    }

    /// A channel's log.
    pub(super) fn log(&self, channel: ChannelId) -> String {
        format!("{}:{{{}}}:log:{channel}", self.prefix, self.tags[self.feed_of(channel).0])
    }

    /// What was written under a cid.
    pub(super) fn once(&self, feed: Feed, digest: &str) -> String {
        format!("{}:{{{}}}:once:{digest}", self.prefix, self.tags[feed.0])
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

/// The slot of a Redis Cluster that a key without a hash tag falls into.
pub(super) fn slot_of(key: &str) -> u16 {
    crc16(key.as_bytes()) % SLOTS as u16
}

/// A hash tag whose slot lies in the feed's share of all slots: however a Cluster splits them into ranges, each
/// primary gets its share of the feeds. The same for ever, since the search is deterministic.
fn tag(feed: usize, feeds: usize) -> String {
    let share = feed * SLOTS / feeds..(feed + 1) * SLOTS / feeds;
    (0..)
        .map(|n: u32| format!("{feed}.{n}"))
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
            let keys = Keys::new("burble", feeds);
            let slots: Vec<usize> = keys.feeds().map(|feed| usize::from(keys.slot(feed))).collect();
            assert!(slots.is_sorted());
            assert!(slots.iter().enumerate().all(|(i, slot)| slot * feeds / SLOTS == i));
        }
    }
}
