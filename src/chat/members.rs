//! Who belongs to a channel, and as what.

use super::{Chat, forbidden};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::{Caller, ChannelName, Member, PageLimit, Role, UserName};

impl Chat {
    /// The members, by name; and whether there are more.
    ///
    /// # Errors
    /// `channel_not_found`.
    pub async fn members(
        &self,
        caller: &Caller,
        name: &ChannelName,
        after: Option<&UserName>,
        limit: PageLimit,
    ) -> Result<(Vec<Member>, bool)> {
        let channel = self.readable(caller, name).await?;
        let mut page = self.shared.store.members().list(channel.id, after, limit.get() + 1).await?;
        let more = page.len() > limit.get();
        page.truncate(limit.get());
        Ok((page, more))
    }

    /// Adds a member, or changes their role.
    ///
    /// # Errors
    /// `channel_not_found`, `forbidden`, `user_not_found`, `last_owner`.
    pub async fn put_member(&self, caller: &Caller, name: &ChannelName, user: &str, role: Role) -> Result<Member> {
        let (channel, actor) = self.visible(caller, name).await?;
        may_put(actor, None, role)?;
        let user = self.user_named(user).await?;
        let allowed = |actor, target| may_put(actor, target, role);
        let members = self.shared.store.members();
        let (member, outgoing) = members.put(channel.id, caller.user, user.id, role, clock::now_ms(), allowed).await?;
        self.tell(outgoing).await?;
        Ok(member)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `channel_not_found`, `forbidden`, `user_not_found` for one who is none, `last_owner`.
    pub async fn remove_member(&self, caller: &Caller, name: &ChannelName, user: &str) -> Result<()> {
        let (channel, actor) = self.visible(caller, name).await?;
        let themself = caller.name.as_str() == user;
        may_remove(actor, None, themself)?;
        let user = self.user_named(user).await?;
        let allowed = |actor, target| may_remove(actor, target, themself);
        let outgoing = self.shared.store.members().remove(channel.id, caller.user, user.id, allowed).await?;
        self.tell(outgoing).await
    }

    async fn user_named(&self, name: &str) -> Result<crate::model::User> {
        let name: UserName = name.parse().map_err(|_| Error::UserNotFound)?;
        self.shared.store.users().by_name(&name).await?.ok_or(Error::UserNotFound)
    }
}

/// Owners grant any role; moderators only add members.
fn may_put(actor: Option<Role>, target: Option<Role>, role: Role) -> Result<()> {
    match (actor, target, role) {
        (Some(Role::Owner), _, _) | (Some(Role::Moderator), None | Some(Role::Member), Role::Member) => Ok(()),
        (Some(Role::Moderator), _, _) => Err(forbidden("moderators only add members")),
        _ => Err(forbidden("only owners and moderators add members")),
    }
}

/// Owners remove anyone; moderators remove members; anyone removes themself.
fn may_remove(actor: Option<Role>, target: Option<Role>, themself: bool) -> Result<()> {
    match (actor, target) {
        _ if themself => Ok(()),
        (Some(Role::Owner), _) | (Some(Role::Moderator), None | Some(Role::Member)) => Ok(()),
        (Some(Role::Moderator), _) => Err(forbidden("moderators only remove members")),
        _ => Err(forbidden("only owners and moderators remove others")),
    }
}
