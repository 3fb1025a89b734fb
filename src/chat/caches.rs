//! What the node remembers of the database. A change comes through the feed, and takes what it concerns out of here.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::UserRates;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, ChannelName, Membership, SignInId, User, UserId};

/// The most channels that are remembered.
const CHANNELS_MAX: usize = 100_000;
/// The most pairs of channel and user that are remembered.
const MEMBERSHIPS_MAX: usize = 200_000;
/// The most users, and used token pairs, that are remembered.
const USERS_MAX: usize = 100_000;

/// Bounded; the least used goes first.
pub(super) struct Caches {
    channels: Cache<ChannelName, Arc<Channel>>,
    memberships: Cache<(ChannelId, UserId), Option<Membership>>,
    users: Cache<UserId, Arc<User>>,
    used_pairs: Cache<(SignInId, u32), ()>,
    rates: Cache<UserId, Arc<UserRates>>,
    metrics: Metrics,
}

impl Caches {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            channels: Cache::new(CHANNELS_MAX),
            memberships: Cache::new(MEMBERSHIPS_MAX),
            users: Cache::new(USERS_MAX),
            used_pairs: Cache::new(USERS_MAX),
            rates: Cache::new(USERS_MAX),
            metrics,
        }
    }

    /// The channel; what does not exist is not remembered.
    pub(super) async fn channel(
        &self,
        name: &ChannelName,
        load: impl Future<Output = Result<Option<Channel>>>,
    ) -> Result<Option<Arc<Channel>>> {
        match self.channels.get_value_or_guard_async(name).await {
            Ok(channel) => Ok(Some(channel)),
            Err(guard) => {
                let channel = load.await?.map(Arc::new);
                if let Some(channel) = &channel {
                    // Fails where the channel changed meanwhile: then nothing is remembered.
                    let _ = guard.insert(channel.clone());
                }
                Ok(channel)
            }
        }
    }

    /// The membership of a user in a channel.
    pub(super) async fn membership(
        &self,
        channel: ChannelId,
        user: UserId,
        load: impl Future<Output = Result<Option<Membership>>>,
    ) -> Result<Option<Membership>> {
        match self.memberships.get_value_or_guard_async(&(channel, user)).await {
            Ok(membership) => {
                self.metrics.membership_cache_hits_total.increment(1);
                Ok(membership)
            }
            Err(guard) => {
                self.metrics.membership_cache_misses_total.increment(1);
                let membership = load.await?;
                let _ = guard.insert(membership);
                Ok(membership)
            }
        }
    }

    /// The user; they never change.
    pub(super) async fn user(
        &self,
        user: UserId,
        load: impl Future<Output = Result<Option<User>>>,
    ) -> Result<Option<Arc<User>>> {
        if let Some(user) = self.users.get(&user) {
            return Ok(Some(user));
        }
        let found = load.await?.map(Arc::new);
        if let Some(found) = &found {
            self.users.insert(user, found.clone());
        }
        Ok(found)
    }

    /// Whether the pair is known to have been used.
    pub(super) fn is_used(&self, sign_in: SignInId, generation: u32) -> bool {
        self.used_pairs.get(&(sign_in, generation)).is_some()
    }

    pub(super) fn set_used(&self, sign_in: SignInId, generation: u32) {
        self.used_pairs.insert((sign_in, generation), ());
    }

    /// The user's count. One that is forgotten begins anew, which only a user may gain from who is among the least busy.
    pub(super) fn rates(&self, user: UserId) -> Arc<UserRates> {
        let new = || Ok::<_, std::convert::Infallible>(Arc::default());
        match self.rates.get_or_insert_with(&user, new) {
            Ok(rate) => rate,
            Err(never) => match never {},
        }
    }

    pub(super) fn forget_channel(&self, name: &ChannelName) {
        self.channels.remove(name);
    }

    pub(super) fn forget_membership(&self, channel: ChannelId, user: UserId) {
        self.memberships.remove(&(channel, user));
    }

    /// Forgets all that a notice may have changed.
    pub(super) fn forget_all(&self) {
        self.channels.clear();
        self.memberships.clear();
    }
}
