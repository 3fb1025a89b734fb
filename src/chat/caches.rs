//! What the node remembers of the database. A change comes through the feed, and takes what it concerns out of here.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::sleep;

use super::recent::Recent;
use super::{Chat, UserRates};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, ChannelName, Membership, SignInId, User, UserId};

/// The most channels that are remembered.
const CHANNELS_MAX: usize = 100_000;
/// The most pairs of channel and user that are remembered.
const MEMBERSHIPS_MAX: usize = 200_000;
/// The most users, and used token pairs, that are remembered.
const USERS_MAX: usize = 100_000;

/// How often the caches are fitted to what is connected.
const FIT_EVERY: Duration = Duration::from_secs(10);

/// Bounded; the least used goes first.
pub(super) struct Caches {
    channels: Recent<ChannelName, Arc<Channel>>,
    memberships: Recent<(ChannelId, UserId), Option<Membership>>,
    users: Recent<UserId, Arc<User>>,
    used_pairs: Cache<(SignInId, u32), ()>,
    rates: Cache<UserId, Arc<UserRates>>,
    metrics: Metrics,
}

/// Has the node remember no more of rooms, channels, members and users than who is connected may need; runs until it is
/// dropped.
pub async fn fit_caches(chat: Chat) {
    loop {
        sleep(FIT_EVERY).await;
        chat.shared.hub.sweep();
        let (caches, population) = (&chat.shared.caches, chat.shared.hub.population());
        caches.channels.fit(population.rooms);
        caches.memberships.fit(population.listeners);
        caches.users.fit(population.users);
    }
}

impl Caches {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            channels: Recent::new(CHANNELS_MAX),
            memberships: Recent::new(MEMBERSHIPS_MAX),
            users: Recent::new(USERS_MAX),
            used_pairs: Cache::new(USERS_MAX),
            rates: Cache::new(USERS_MAX),
            metrics,
        }
    }

    /// The channel; what does not exist is not remembered.
    pub(super) async fn channel<F: Future<Output = Result<Option<Channel>>>>(
        &self,
        name: &ChannelName,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Arc<Channel>>> {
        // Boxed, here and below: what a question to the database needs is no part of a command that finds its answer here.
        let load = async { Ok(Box::pin(load()).await?.map(Arc::new)) };
        Ok(self.channels.get(name, load).await?.0)
    }

    /// The membership of a user in a channel.
    pub(super) async fn membership<F: Future<Output = Result<Option<Membership>>>>(
        &self,
        channel: ChannelId,
        user: UserId,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Membership>> {
        let load = async { Ok(Some(Box::pin(load()).await?)) };
        let (membership, remembered) = self.memberships.get(&(channel, user), load).await?;
        if remembered {
            self.metrics.membership_cache_hits_total.increment(1);
        } else {
            self.metrics.membership_cache_misses_total.increment(1);
        }
        Ok(membership.flatten())
    }

    /// The user; they never change.
    pub(super) async fn user<F: Future<Output = Result<Option<User>>>>(
        &self,
        user: UserId,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Arc<User>>> {
        let load = async { Ok(Box::pin(load()).await?.map(Arc::new)) };
        Ok(self.users.get(&user, load).await?.0)
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
        self.channels.forget(name);
    }

    pub(super) fn forget_membership(&self, channel: ChannelId, user: UserId) {
        self.memberships.forget(&(channel, user));
    }

    /// Forgets all that a notice may have changed.
    pub(super) fn forget_all(&self) {
        self.channels.forget_all();
        self.memberships.forget_all();
    }
}
