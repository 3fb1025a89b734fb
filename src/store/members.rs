//! Who belongs to which channel. A channel always has an owner, however many change it at the same time.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

use crate::error::{Error, Result};
use crate::model::{Change, ChannelId, Member, Membership, Role, TimeMs, User, UserId, UserName};

use super::entity::members::{self, ActiveModel, Column, Entity, Model};
use super::entity::users as user_rows;
use super::{Outgoing, Store, bounded, channels, outbox, users};

/// What can be asked about members.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a>(pub(super) &'a Store);

impl Members<'_> {
    /// The user's membership; `None` for one who is no member.
    pub async fn membership(self, channel: ChannelId, user: UserId) -> Result<Option<Membership>> {
        bounded(async {
            let row = Entity::find_by_id((channel.0, user.0)).one(self.0.read()).await?;
            Ok(row.map(Membership::from))
        })
        .await
    }

    /// The memberships of any of these users in any of these channels. In one query: ask for a few hundred of both at a
    /// time.
    pub async fn among(
        self,
        channels: impl IntoIterator<Item = ChannelId>,
        users: impl IntoIterator<Item = UserId>,
    ) -> Result<HashMap<(ChannelId, UserId), Membership>> {
        bounded(async {
            let rows = Entity::find()
                .filter(Column::ChannelId.is_in(channels.into_iter().map(|channel| channel.0)))
                .filter(Column::UserId.is_in(users.into_iter().map(|user| user.0)))
                .all(self.0.read())
                .await?;
            let key = |row: &Model| (ChannelId(row.channel_id), UserId(row.user_id));
            Ok(rows.into_iter().map(|row| (key(&row), Membership::from(row))).collect())
        })
        .await
    }

    /// The members behind that name, at most `limit`, by name.
    pub async fn list(self, channel: ChannelId, after: Option<&UserName>, limit: usize) -> Result<Vec<Member>> {
        let mut find = Entity::find()
            .find_also_related(user_rows::Entity)
            .filter(Column::ChannelId.eq(channel.0))
            .order_by_asc(user_rows::Column::Name)
            .limit(limit as u64);
        if let Some(after) = after {
            find = find.filter(user_rows::Column::Name.gt(after.as_str()));
        }
        bounded(async {
            let rows = find.all(self.0.read()).await?;
            rows.into_iter()
                .filter_map(|(member, user)| Some((member, user?)))
                .map(|(member, user)| {
                    let name = User::try_from(user)?.name;
                    Ok(Member { name, role: member.role.into(), added_at: member.added_at })
                })
                .collect()
        })
        .await
    }

    /// Adds a member or changes their role, where `allowed` agrees to the roles that the actor and the user have at that very
    /// moment. Since when they are a member stays what it was, and so does the number of the membership.
    ///
    /// # Errors
    /// What `allowed` says; `last_owner`; `channel_not_found` and `user_not_found` where they are gone.
    pub async fn put(
        self,
        channel: ChannelId,
        actor: UserId,
        user: UserId,
        role: Role,
        now: TimeMs,
        allowed: impl FnOnce(Option<Role>, Option<Role>) -> Result<()>,
    ) -> Result<(Member, Outgoing)> {
        bounded(async {
            let tx = self.0.begin().await?;
            let row = lock(&tx, channel, actor, user, allowed).await?;
            let name = users::by_id(&tx, user).await?.ok_or(Error::UserNotFound)?.name;
            if role != Role::Owner {
                keep_an_owner(&tx, channel, row.as_ref().map(|row| row.role.into())).await?;
            }
            let row = match row {
                Some(row) => Model { role: role.into(), ..row },
                None => {
                    let membership = channels::next_membership(&tx, channel).await?;
                    Model { channel_id: channel.0, user_id: user.0, role: role.into(), added_at: now, membership }
                }
            };
            let added_at = row.added_at;
            insert(&tx, row).await?;
            let outgoing = outbox::put(&tx, Change::Role { channel, user }).await?;
            tx.commit().await?;
            Ok((Member { name, role, added_at }, outgoing))
        })
        .await
    }

    /// Removes a member, where `allowed` agrees to the roles that the actor and the user have at that very moment.
    ///
    /// # Errors
    /// What `allowed` says; `user_not_found` for one who is no member; `last_owner`; `channel_not_found` where it is gone.
    pub async fn remove(
        self,
        channel: ChannelId,
        actor: UserId,
        user: UserId,
        allowed: impl FnOnce(Option<Role>, Option<Role>) -> Result<()>,
    ) -> Result<Outgoing> {
        bounded(async {
            let tx = self.0.begin().await?;
            let row = lock(&tx, channel, actor, user, allowed).await?.ok_or(Error::UserNotFound)?;
            let Membership { role, number: membership } = row.into();
            keep_an_owner(&tx, channel, Some(role)).await?;
            Entity::delete_by_id((channel.0, user.0)).exec(&tx).await?;
            let outgoing = outbox::put(&tx, Change::Removed { channel, user, membership }).await?;
            tx.commit().await?;
            Ok(outgoing)
        })
        .await
    }
}

/// The user's role; `None` for one who is no member.
pub(super) async fn role(db: &impl ConnectionTrait, channel: ChannelId, user: UserId) -> Result<Option<Role>> {
    Ok(Entity::find_by_id((channel.0, user.0)).one(db).await?.map(|row| row.role.into()))
}

/// The first member of a new channel.
pub(super) async fn insert_owner(
    tx: &impl ConnectionTrait,
    channel: ChannelId,
    owner: UserId,
    now: TimeMs,
) -> Result<()> {
    let role = members::Role::Owner;
    insert(tx, Model { channel_id: channel.0, user_id: owner.0, role, added_at: now, membership: 0 }).await
}

/// The user's row, where the actor is allowed to change it. No member of the channel changes until the transaction ends.
async fn lock(
    tx: &impl ConnectionTrait,
    channel: ChannelId,
    actor: UserId,
    user: UserId,
    allowed: impl FnOnce(Option<Role>, Option<Role>) -> Result<()>,
) -> Result<Option<Model>> {
    channels::lock(tx, channel).await?;
    let row = Entity::find_by_id((channel.0, user.0)).one(tx).await?;
    allowed(role(tx, channel, actor).await?, row.as_ref().map(|row| row.role.into()))?;
    Ok(row)
}

/// Refuses to take away the one owner there is.
async fn keep_an_owner(tx: &impl ConnectionTrait, channel: ChannelId, leaving: Option<Role>) -> Result<()> {
    let owners = Entity::find().filter(Column::ChannelId.eq(channel.0).and(Column::Role.eq(members::Role::Owner)));
    if leaving == Some(Role::Owner) && owners.count(tx).await? < 2 {
        return Err(Error::LastOwner);
    }
    Ok(())
}

async fn insert(tx: &impl ConnectionTrait, row: Model) -> Result<()> {
    let row = ActiveModel {
        channel_id: Set(row.channel_id),
        user_id: Set(row.user_id),
        role: Set(row.role),
        added_at: Set(row.added_at),
        membership: Set(row.membership),
    };
    Entity::insert(row)
        .on_conflict(OnConflict::columns([Column::ChannelId, Column::UserId]).update_column(Column::Role).to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, channel, on_both};
    use super::*;
    use crate::model::ChannelKind;

    fn anybody(_: Option<Role>, _: Option<Role>) -> Result<()> {
        Ok(())
    }

    fn by_an_owner(actor: Option<Role>, _: Option<Role>) -> Result<()> {
        if actor == Some(Role::Owner) { Ok(()) } else { Err(Error::Forbidden("owners only".into())) }
    }

    on_both! {
        async fn a_member_stays_one_since_when_they_were_added(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Private, &ann).await.id;
            let members = store.members();
            let (added, _) = members.put(tea, ann.id, bob.id, Role::Member, NOW + 1, by_an_owner).await.unwrap();
            let member = Member { name: bob.name.clone(), role: Role::Member, added_at: NOW + 1 };
            assert_eq!(added, member);
            let (changed, _) = members.put(tea, ann.id, bob.id, Role::Moderator, NOW + 2, by_an_owner).await.unwrap();
            let member = Member { role: Role::Moderator, ..member };
            assert_eq!(changed, member);
            assert_eq!(members.list(tea, Some(&ann.name), 10).await.unwrap(), [member]);
            assert_eq!(role(store.read(), tea, bob.id).await.unwrap(), Some(Role::Moderator));
            let _ = members.remove(tea, ann.id, bob.id, by_an_owner).await.unwrap();
            assert_eq!(members.membership(tea, bob.id).await.unwrap(), None);
        }

        async fn who_is_added_again_has_a_later_membership_than_the_one_that_ended(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Private, &ann).await.id;
            let members = store.members();
            let mut ended = Vec::new();
            for _ in 0..3 {
                let _ = members.put(tea, ann.id, bob.id, Role::Member, NOW, by_an_owner).await.unwrap();
                let began = members.membership(tea, bob.id).await.unwrap().unwrap().number;
                let _ = members.put(tea, ann.id, bob.id, Role::Moderator, NOW, by_an_owner).await.unwrap();
                let change = members.remove(tea, ann.id, bob.id, by_an_owner).await.unwrap().change;
                assert_eq!(change, Change::Removed { channel: tea, user: bob.id, membership: began });
                ended.push(began);
            }
            assert_eq!(ended, [1, 2, 3], "above the owner's, whatever their role was meanwhile");
        }

        async fn members_come_by_the_bytes_of_their_names(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await.id;
            for name in ["zoe", "a_b", "ab", "a-b", "a1"] {
                let user = SignedUp::new(store, name).await.user;
                let _ = store.members().put(tea, ann.id, user.id, Role::Member, NOW, by_an_owner).await.unwrap();
            }
            let names = async |after: Option<&str>, limit| {
                let after = after.map(|name| name.parse().unwrap());
                let page = store.members().list(tea, after.as_ref(), limit).await.unwrap();
                page.iter().map(|member| member.name.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(names(None, 3).await, ["a-b", "a1", "a_b"]);
            assert_eq!(names(Some("a_b"), 9).await, ["ab", "ann", "zoe"]);
        }

        async fn the_last_owner_neither_leaves_nor_steps_down(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await.id;
            let members = store.members();
            assert!(matches!(members.remove(tea, ann.id, ann.id, anybody).await, Err(Error::LastOwner)));
            let stepping_down = members.put(tea, ann.id, ann.id, Role::Member, NOW, anybody).await;
            assert!(matches!(stepping_down, Err(Error::LastOwner)));
            let _ = members.put(tea, ann.id, ann.id, Role::Owner, NOW, anybody).await.unwrap();
            let _ = members.put(tea, ann.id, bob.id, Role::Owner, NOW, anybody).await.unwrap();
            let _ = members.put(tea, ann.id, ann.id, Role::Member, NOW, anybody).await.unwrap();
            assert!(matches!(members.remove(tea, bob.id, bob.id, anybody).await, Err(Error::LastOwner)));
        }

        async fn of_owners_that_leave_together_one_stays(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await.id;
            let mut owners = vec![ann.clone()];
            for name in ["bob", "cat", "dan", "eve"] {
                let user = SignedUp::new(store, name).await.user;
                let _ = store.members().put(tea, ann.id, user.id, Role::Owner, NOW, anybody).await.unwrap();
                owners.push(user);
            }
            let leaving = owners.iter().map(|owner| store.members().remove(tea, owner.id, owner.id, anybody));
            let left = futures_util::future::join_all(leaving).await;
            assert_eq!(left.iter().filter(|left| left.is_ok()).count(), 4);
            assert_eq!(left.iter().filter(|left| matches!(left, Err(Error::LastOwner))).count(), 1);
            assert_eq!(store.members().list(tea, None, 9).await.unwrap().len(), 1);
        }

        async fn of_owners_that_remove_each_other_one_is_an_owner_no_more(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await.id;
            let members = store.members();
            let _ = members.put(tea, ann.id, bob.id, Role::Owner, NOW, anybody).await.unwrap();
            let (one, two) = tokio::join!(
                members.remove(tea, ann.id, bob.id, by_an_owner),
                members.put(tea, bob.id, ann.id, Role::Member, NOW, by_an_owner),
            );
            assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
            let refused = one.err().or(two.err());
            assert!(matches!(refused, Some(Error::Forbidden(_))), "{refused:?}");
        }

        async fn the_rule_hears_both_roles_and_its_word_is_final(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await.id;
            let denied = |actor: Option<Role>, target: Option<Role>| {
                assert_eq!((actor, target), (Some(Role::Owner), None));
                Err(Error::Forbidden("no".into()))
            };
            let put = store.members().put(tea, ann.id, bob.id, Role::Member, NOW, denied).await;
            assert!(matches!(put, Err(Error::Forbidden(_))));
            assert_eq!(store.members().membership(tea, bob.id).await.unwrap(), None);
            let absent = store.members().remove(tea, ann.id, bob.id, anybody).await;
            assert!(matches!(absent, Err(Error::UserNotFound)));
            let nobody = store.members().put(tea, ann.id, UserId::new(), Role::Member, NOW, anybody).await;
            assert!(matches!(nobody, Err(Error::UserNotFound)));
            let gone = store.members().put(ChannelId::new(), ann.id, bob.id, Role::Member, NOW, anybody).await;
            assert!(matches!(gone, Err(Error::ChannelNotFound)));
        }
    }
}
