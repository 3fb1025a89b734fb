//! Definitions of channels: names, kinds, topics, and from which epoch on their logs may count.

use std::cmp::max;
use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, JoinType, ModelTrait, QueryFilter, QueryOrder, QuerySelect,
    RelationTrait,
    sea_query::{Expr, IntoCondition, OnConflict},
};

use crate::error::{Error, Result};
use crate::model::{Change, Channel, ChannelId, ChannelKind, ChannelName, Role, TimeMs, Topic, UserId};

use super::entity::channels::{ActiveModel, Column, Entity, Kind, Model, Relation};
use super::entity::{members, retired_channel_names as retired};
use super::failure::is_taken;
use super::members::{insert_owner, role};
use super::{Outgoing, Store, bounded, outbox, stored};

/// A channel to be.
#[derive(Clone, Copy, Debug)]
pub struct NewChannel<'a> {
    /// Its name.
    pub name: &'a ChannelName,
    /// Public or private.
    pub kind: ChannelKind,
    /// What it is about.
    pub topic: &'a Topic,
}

/// What can be asked about channels.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a>(pub(super) &'a Store);

impl Channels<'_> {
    /// Makes a channel with its first owner. Its epochs begin above all that an earlier channel of that name had. `None`: the name
    /// is taken.
    ///
    /// # Errors
    /// `unavailable` while the log of that earlier channel is not gone: only then is its last epoch known for certain.
    pub async fn create(self, channel: NewChannel<'_>, owner: UserId, now: TimeMs) -> Result<Option<Channel>> {
        bounded(async {
            let tx = self.0.begin().await?;
            let mut row = row(channel, now);
            match Entity::insert(ActiveModel::from(row.clone())).exec_without_returning(&tx).await {
                Err(error) if is_taken(&error) => return Ok(None),
                done => done?,
            };
            // Now that the name is ours, whoever deleted it last is done.
            if let Some(before) = retired::Entity::find_by_id(&row.name).one(&tx).await? {
                if before.deleting.is_some() {
                    return Err(Error::Unavailable(anyhow::anyhow!(
                        "the log of the last channel of that name remains"
                    )));
                }
                if before.epoch >= row.epoch_floor {
                    row.epoch_floor = before.epoch.saturating_add(1);
                    set(&tx, row.id, Column::EpochFloor, row.epoch_floor).await?;
                }
            }
            insert_owner(&tx, ChannelId(row.id), owner, now).await?;
            tx.commit().await?;
            Ok(Some(row.try_into()?))
        })
        .await
    }

    /// The channel of that name, whoever may see it.
    pub async fn by_name(self, name: &ChannelName) -> Result<Option<Channel>> {
        bounded(async {
            let found = Entity::find().filter(Column::Name.eq(name.as_str())).one(self.0.read()).await?;
            found.map(Channel::try_from).transpose()
        })
        .await
    }

    /// Which of these channels there are. In one query: ask for a few hundred at a time.
    pub async fn existing(self, channels: &[ChannelId]) -> Result<HashSet<ChannelId>> {
        bounded(async {
            let among = Column::Id.is_in(channels.iter().map(|channel| channel.0));
            let ids = Entity::find().select_only().column(Column::Id).filter(among);
            let ids: Vec<uuid::Uuid> = ids.into_tuple().all(self.0.read()).await?;
            Ok(ids.into_iter().map(ChannelId).collect())
        })
        .await
    }

    /// The public channels and the user's private ones behind that name, at most `limit`, by name; each with the user's role.
    pub async fn visible_to(
        self,
        user: UserId,
        after: Option<&ChannelName>,
        limit: usize,
    ) -> Result<Vec<(Channel, Option<Role>)>> {
        let mine = Relation::Members
            .def()
            .on_condition(move |_, members| Expr::col((members, members::Column::UserId)).eq(user.0).into_condition());
        let mut find = Entity::find()
            .join(JoinType::LeftJoin, mine)
            .select_also(members::Entity)
            .filter(Column::Kind.eq(Kind::Public).or(members::Column::UserId.is_not_null()))
            .order_by_asc(Column::Name)
            .limit(limit as u64);
        if let Some(after) = after {
            find = find.filter(Column::Name.gt(after.as_str()));
        }
        bounded(async {
            let rows = find.all(self.0.read()).await?;
            rows.into_iter().map(|(channel, member)| Ok((channel.try_into()?, member.map(|m| m.role.into())))).collect()
        })
        .await
    }

    /// Changes the topic, where `allowed` agrees to the role that the actor has at that very moment, and returns the channel as it
    /// is then.
    ///
    /// # Errors
    /// What `allowed` says; `channel_not_found` where it is gone.
    pub async fn set_topic(
        self,
        channel: ChannelId,
        actor: UserId,
        topic: &Topic,
        allowed: impl FnOnce(Option<Role>) -> Result<()>,
    ) -> Result<(Channel, Outgoing)> {
        bounded(async {
            let tx = self.0.begin().await?;
            let mut row = lock(&tx, channel).await?;
            allowed(role(&tx, channel, actor).await?)?;
            row.topic = topic.as_str().into();
            set(&tx, row.id, Column::Topic, topic.as_str()).await?;
            let changed = Channel::try_from(row)?;
            let outgoing = outbox::put(&tx, Change::Changed { channel, name: changed.name.clone() }).await?;
            tx.commit().await?;
            Ok((changed, outgoing))
        })
        .await
    }

    /// Deletes the channel with its members, where `allowed` agrees to the role that the actor has at that very moment. The name
    /// stays taken until the deletion was announced, since only then it is known which epochs the log had.
    ///
    /// # Errors
    /// What `allowed` says; `channel_not_found` where it is gone.
    pub async fn delete(
        self,
        channel: ChannelId,
        actor: UserId,
        allowed: impl FnOnce(Option<Role>) -> Result<()>,
    ) -> Result<Outgoing> {
        bounded(async {
            let tx = self.0.begin().await?;
            let row = lock(&tx, channel).await?;
            allowed(role(&tx, channel, actor).await?)?;
            let outgoing = retire(&tx, row).await?;
            tx.commit().await?;
            Ok(outgoing)
        })
        .await
    }

    /// The same for the operator, who is asked for no role.
    ///
    /// # Errors
    /// `channel_not_found` where it is gone.
    pub async fn delete_by_operator(self, channel: ChannelId) -> Result<Outgoing> {
        bounded(async {
            let tx = self.0.begin().await?;
            let outgoing = retire(&tx, lock(&tx, channel).await?).await?;
            tx.commit().await?;
            Ok(outgoing)
        })
        .await
    }

    /// All channels behind that name, whoever may see them, at most `limit`, by name.
    pub async fn list(self, after: Option<&ChannelName>, limit: u64) -> Result<Vec<Channel>> {
        let mut find = Entity::find().order_by_asc(Column::Name).limit(limit);
        if let Some(after) = after {
            find = find.filter(Column::Name.gt(after.as_str()));
        }
        bounded(async { find.all(self.0.read()).await?.into_iter().map(Channel::try_from).collect() }).await
    }
}

/// Takes a [locked](lock) channel away, and keeps its name until the deletion was announced.
async fn retire(tx: &impl ConnectionTrait, row: Model) -> Result<Outgoing> {
    let (channel, name) = (ChannelId(row.id), stored(row.name.parse())?);
    // The floor is above whatever earlier channels of the name had.
    let retire =
        retired::ActiveModel { name: Set(row.name.clone()), epoch: Set(row.epoch_floor), deleting: Set(Some(row.id)) };
    let again = [retired::Column::Epoch, retired::Column::Deleting];
    retired::Entity::insert(retire)
        .on_conflict(OnConflict::column(retired::Column::Name).update_columns(again).to_owned())
        .exec_without_returning(tx)
        .await?;
    row.delete(tx).await?;
    outbox::put(tx, Change::Deleted { channel, name }).await
}

/// The number of the membership that begins, in a channel that is [locked](lock).
pub(super) async fn next_membership(tx: &impl ConnectionTrait, channel: ChannelId) -> Result<i64> {
    let number = lock(tx, channel).await?.memberships + 1;
    set(tx, channel.0, Column::Memberships, number).await?;
    Ok(number)
}

/// The channel, which nobody else changes, nor its members, until the transaction ends.
pub(super) async fn lock(tx: &impl ConnectionTrait, channel: ChannelId) -> Result<Model> {
    Entity::find_by_id(channel.0).lock_exclusive().one(tx).await?.ok_or(Error::ChannelNotFound)
}

async fn set(
    tx: &impl ConnectionTrait,
    channel: uuid::Uuid,
    column: Column,
    value: impl Into<sea_orm::Value>,
) -> Result<()> {
    let update = Entity::update_many().col_expr(column, Expr::value(value)).filter(Column::Id.eq(channel));
    update.exec(tx).await?;
    Ok(())
}

fn row(channel: NewChannel<'_>, now: TimeMs) -> Model {
    Model {
        id: ChannelId::new().0,
        name: channel.name.as_str().into(),
        kind: channel.kind.into(),
        topic: channel.topic.as_str().into(),
        created_at: now,
        epoch_floor: max(0, now.div_euclid(1_000)),
        memberships: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, channel, on_both};
    use super::*;

    fn topic(text: &str) -> Topic {
        text.to_owned().try_into().unwrap()
    }

    fn owner_only(role: Option<Role>) -> Result<()> {
        if role == Some(Role::Owner) { Ok(()) } else { Err(Error::Forbidden("owners only".into())) }
    }

    fn names(page: &[(Channel, Option<Role>)]) -> Vec<&str> {
        page.iter().map(|(channel, _)| channel.name.as_str()).collect()
    }

    on_both! {
        async fn a_channel_is_found_as_it_was_made(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let (name, topic) = ("tea".parse().unwrap(), topic("Ñ, 'quotes' and 😀"));
            let new = NewChannel { name: &name, kind: ChannelKind::Private, topic: &topic };
            let made = store.channels().create(new, ann.id, NOW).await.unwrap().unwrap();
            assert_eq!((made.epoch_floor, made.created_at, &made.topic), (NOW as u64 / 1_000, NOW, &topic));
            assert_eq!(store.channels().by_name(&name).await.unwrap(), Some(made.clone()));
            assert_eq!(role(store.read(), made.id, ann.id).await.unwrap(), Some(Role::Owner));
            assert_eq!(store.channels().create(new, ann.id, NOW).await.unwrap(), None);
            assert_eq!(store.channels().by_name(&"coffee".parse().unwrap()).await.unwrap(), None);
        }

        async fn of_many_that_want_a_name_one_gets_it(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let (name, topic) = ("tea".parse().unwrap(), Topic::default());
            let new = NewChannel { name: &name, kind: ChannelKind::Public, topic: &topic };
            let many = (0..8).map(|_| store.channels().create(new, ann.id, NOW));
            let made = futures_util::future::join_all(many).await;
            assert_eq!(made.into_iter().filter(|made| made.as_ref().unwrap().is_some()).count(), 1);
        }

        async fn channels_come_by_the_bytes_of_their_names(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            for name in ["b", "a_b", "ab", "a.b", "a-b", "a1", "a"] {
                channel(store, name, ChannelKind::Public, &ann).await;
            }
            channel(store, "aa-private", ChannelKind::Private, &ann).await;
            channel(store, "bobs", ChannelKind::Private, &bob).await;
            let all = store.channels().visible_to(ann.id, None, 200).await.unwrap();
            assert_eq!(names(&all), ["a", "a-b", "a.b", "a1", "a_b", "aa-private", "ab", "b"]);
            assert!(all.iter().all(|(_, role)| *role == Some(Role::Owner)));
            let page = store.channels().visible_to(bob.id, Some(&"a.b".parse().unwrap()), 4).await.unwrap();
            assert_eq!(names(&page), ["a1", "a_b", "ab", "b"]);
            assert!(page.iter().all(|(_, role)| role.is_none()));
            let rest = store.channels().visible_to(bob.id, Some(&"b".parse().unwrap()), 4).await.unwrap();
            assert_eq!((names(&rest), rest[0].1), (vec!["bobs"], Some(Role::Owner)));
        }

        async fn the_topic_changes_for_who_is_allowed(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await;
            let (changed, told) = store.channels().set_topic(tea.id, ann.id, &topic("green"), owner_only).await.unwrap();
            assert_eq!(told.change, Change::Changed { channel: tea.id, name: tea.name.clone() });
            assert_eq!(changed, Channel { topic: topic("green"), ..tea.clone() });
            assert_eq!(store.channels().by_name(&tea.name).await.unwrap(), Some(changed));
            let denied = store.channels().set_topic(tea.id, bob.id, &topic("black"), owner_only).await;
            assert!(matches!(denied, Err(Error::Forbidden(_))));
            let gone = store.channels().set_topic(ChannelId::new(), ann.id, &topic("black"), owner_only).await;
            assert!(matches!(gone, Err(Error::ChannelNotFound)));
        }

        async fn a_channel_made_anew_counts_from_above_all_that_the_old_one_had(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let old = channel(store, "tea", ChannelKind::Public, &ann).await;
            let deleted = store.channels().delete(old.id, ann.id, owner_only).await.unwrap();
            assert_eq!(store.channels().by_name(&old.name).await.unwrap(), None);
            assert_eq!(store.members().membership(old.id, ann.id).await.unwrap(), None);
            let topic = Topic::default();
            let again = NewChannel { name: &old.name, kind: ChannelKind::Public, topic: &topic };
            let early = store.channels().create(again, ann.id, NOW).await;
            assert!(matches!(early, Err(Error::Unavailable(_))), "the log may still grow: {early:?}");
            let last = old.epoch_floor + 500;
            store.outbox().strike(&deleted, Some(last)).await.unwrap();
            let new = channel(store, "tea", ChannelKind::Public, &ann).await;
            assert_eq!(new.epoch_floor, last + 1);
            // A deletion that is announced once more says nothing of what came after it.
            store.outbox().strike(&deleted, Some(last + 100)).await.unwrap();
            // A log that was never written to tells no epoch; what was promised for it counts.
            let deleted = store.channels().delete(new.id, ann.id, owner_only).await.unwrap();
            store.outbox().strike(&deleted, None).await.unwrap();
            let newest = channel(store, "tea", ChannelKind::Public, &ann).await;
            assert_eq!(newest.epoch_floor, last + 2);
            let gone = store.channels().delete(new.id, ann.id, owner_only).await;
            assert!(matches!(gone, Err(Error::ChannelNotFound)));
        }

        async fn only_who_is_allowed_deletes(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Public, &ann).await;
            let denied = store.channels().delete(tea.id, bob.id, owner_only).await;
            assert!(matches!(denied, Err(Error::Forbidden(_))));
            assert!(store.channels().by_name(&tea.name).await.unwrap().is_some());
        }
    }
}
