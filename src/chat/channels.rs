//! Finding, creating, changing and deleting channels.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::{Chat, forbidden};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::{Caller, Channel, ChannelKind, ChannelName, Ends, Membership, PageLimit, Role, Topic};
use crate::store::NewChannel;

/// A channel, what the caller is in it, and the ends of its log.
pub type ListedChannel = (Channel, Option<Role>, Ends);

impl Chat {
    /// The public channels and the caller's private ones, by name; and whether there are more.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn channels(
        &self,
        caller: &Caller,
        after: Option<&ChannelName>,
        limit: PageLimit,
    ) -> Result<(Vec<ListedChannel>, bool)> {
        let mut page = self.shared.store.channels().visible_to(caller.user, after, limit.get() + 1).await?;
        let more = page.len() > limit.get();
        page.truncate(limit.get());
        let ends = try_join_all(page.iter().map(|(channel, _)| self.shared.broker.ends(channel.id))).await?;
        Ok((page.into_iter().zip(ends).map(|((channel, role), ends)| (channel, role, ends)).collect(), more))
    }

    /// Creates a channel, owned by the caller.
    ///
    /// # Errors
    /// `bad_request`, `name_taken`.
    pub async fn create_channel(
        &self,
        caller: &Caller,
        name: &str,
        kind: ChannelKind,
        topic: Option<String>,
    ) -> Result<ListedChannel> {
        let name: ChannelName = name.parse()?;
        let topic = Topic::try_from(topic.unwrap_or_default())?;
        let channel = NewChannel { name: &name, kind, topic: &topic };
        let created = self.shared.store.channels().create(channel, caller.user, clock::now_ms()).await?;
        Ok((created.ok_or(Error::NameTaken)?, Some(Role::Owner), Ends::default()))
    }

    /// One channel.
    ///
    /// # Errors
    /// `channel_not_found`, also for a private one that the caller may not see.
    pub async fn channel(&self, caller: &Caller, name: &ChannelName) -> Result<ListedChannel> {
        let (channel, role) = self.visible(caller, name).await?;
        let ends = self.shared.broker.ends(channel.id).await?;
        Ok(((*channel).clone(), role, ends))
    }

    /// Changes what a channel is about.
    ///
    /// # Errors
    /// `channel_not_found`; `forbidden` to all but owners and moderators.
    pub async fn set_topic(&self, caller: &Caller, name: &ChannelName, topic: String) -> Result<ListedChannel> {
        let (channel, role) = self.visible(caller, name).await?;
        may_set_topic(role)?;
        let topic = Topic::try_from(topic)?;
        let channels = self.shared.store.channels();
        let (changed, outgoing) = channels.set_topic(channel.id, caller.user, &topic, may_set_topic).await?;
        self.tell(outgoing).await?;
        let ends = self.shared.broker.ends(channel.id).await?;
        Ok((changed, role, ends))
    }

    /// Deletes a channel with its history.
    ///
    /// # Errors
    /// `channel_not_found`; `forbidden` to all but owners.
    pub async fn delete_channel(&self, caller: &Caller, name: &ChannelName) -> Result<()> {
        let (channel, role) = self.visible(caller, name).await?;
        may_delete(role)?;
        let outgoing = self.shared.store.channels().delete(channel.id, caller.user, may_delete).await?;
        self.tell(outgoing).await
    }

    /// The channel, where the caller may read and write it.
    ///
    /// # Errors
    /// `channel_not_found`, also for a private one that the caller is no member of.
    pub async fn readable(&self, caller: &Caller, name: &ChannelName) -> Result<Arc<Channel>> {
        let channel = self.find(name).await?;
        self.admit(caller, &channel).await?;
        Ok(channel)
    }

    /// Allows the caller to read and write the channel, and tells by which membership; `None` in a public one, which
    /// needs none.
    ///
    /// # Errors
    /// `channel_not_found` for a private one that the caller is no member of.
    pub async fn admit(&self, caller: &Caller, channel: &Channel) -> Result<Option<u64>> {
        match channel.kind {
            ChannelKind::Public => Ok(None),
            ChannelKind::Private => {
                let membership = self.membership(caller, channel).await?.ok_or(Error::ChannelNotFound)?;
                Ok(Some(membership.number))
            }
        }
    }

    /// The channel, whoever asks. Say nothing of it to a caller before [`Chat::admit`] allowed it.
    ///
    /// # Errors
    /// `channel_not_found`.
    pub async fn find(&self, name: &ChannelName) -> Result<Arc<Channel>> {
        let load = || self.shared.store.channels().by_name(name);
        self.shared.caches.channel(name, load).await?.ok_or(Error::ChannelNotFound)
    }

    /// The channel and the caller's role, where they may know of it.
    pub(super) async fn visible(&self, caller: &Caller, name: &ChannelName) -> Result<(Arc<Channel>, Option<Role>)> {
        let channel = self.find(name).await?;
        let role = self.membership(caller, &channel).await?.map(|membership| membership.role);
        match (channel.kind, role) {
            (ChannelKind::Private, None) => Err(Error::ChannelNotFound),
            _ => Ok((channel, role)),
        }
    }

    async fn membership(&self, caller: &Caller, channel: &Channel) -> Result<Option<Membership>> {
        let load = || self.shared.store.members().membership(channel.id, caller.user);
        self.shared.caches.membership(channel.id, caller.user, load).await
    }
}

fn may_set_topic(role: Option<Role>) -> Result<()> {
    match role {
        Some(Role::Owner | Role::Moderator) => Ok(()),
        _ => Err(forbidden("only owners and moderators change the topic")),
    }
}

fn may_delete(role: Option<Role>) -> Result<()> {
    match role {
        Some(Role::Owner) => Ok(()),
        _ => Err(forbidden("only owners delete a channel")),
    }
}
