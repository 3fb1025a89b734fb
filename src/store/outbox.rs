//! What every node has to hear of, written down in the transaction of the change itself, and struck out once it was
//! announced: a node that dies in between leaves the row to the others.

use std::cmp::max;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tracing::warn;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::{Change, ChannelId, ChannelName};

use super::entity::outbox::{ActiveModel, Column, Entity};
use super::entity::retired_channel_names as retired;
use super::{Store, bounded};

/// The most changes that wait to be announced. Beyond it further ones are refused with `unavailable`, so that the table
/// stays small however long Redis is away.
const WAITING_MAX: u64 = 10_000;

/// A change that has been made, and is still to be announced.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "what nobody announces is heard late"]
pub struct Outgoing {
    /// Names it.
    pub id: Uuid,
    /// What is to be heard.
    pub change: Change,
}

impl Outgoing {
    /// How many sign-ins it ends.
    pub fn sign_ins(&self) -> usize {
        match &self.change {
            Change::Revoked { sign_ins, .. } => sign_ins.len(),
            _ => 0,
        }
    }
}

/// What can be asked about changes that wait to be announced.
#[derive(Clone, Copy, Debug)]
pub struct Outbox<'a>(pub(super) &'a Store);

impl Outbox<'_> {
    /// Those that wait, at most `limit`, about in the order in which they were made.
    pub async fn waiting(self, limit: u64) -> Result<Vec<Outgoing>> {
        bounded(async {
            let rows = Entity::find().order_by_asc(Column::Id).limit(limit).all(self.0.read()).await?;
            let read = |row: super::entity::outbox::Model| match serde_json::from_str(&row.change) {
                Ok(change) => Some(Outgoing { id: row.id, change }),
                Err(_) => {
                    // The nodes that know it announce it.
                    warn!(id = %row.id, "A change that waits to be announced is of a later version");
                    None
                }
            };
            Ok(rows.into_iter().filter_map(read).collect())
        })
        .await
    }

    /// Strikes out a change that was announced; doing it again changes nothing. Of a deletion, `last_epoch` is the
    /// highest that the log had: with it, the name is free again.
    pub async fn strike(self, outgoing: &Outgoing, last_epoch: Option<u64>) -> Result<()> {
        bounded(async {
            let tx = self.0.begin().await?;
            if let Change::Deleted { channel, name } = &outgoing.change {
                release(&tx, *channel, name, last_epoch.unwrap_or(0)).await?;
            }
            Entity::delete_by_id(outgoing.id).exec(&tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Notes a change in the transaction that makes it.
///
/// # Errors
/// `unavailable` where too many wait.
pub(super) async fn put(tx: &impl ConnectionTrait, change: Change) -> Result<Outgoing> {
    if Entity::find().limit(WAITING_MAX).count(tx).await? >= WAITING_MAX {
        return Err(Error::Unavailable(anyhow::anyhow!("{WAITING_MAX} changes wait to be announced")));
    }
    let outgoing = Outgoing { id: Uuid::now_v7(), change };
    let change = serde_json::to_string(&outgoing.change).map_err(|e| Error::Internal(e.into()))?;
    Entity::insert(ActiveModel { id: Set(outgoing.id), change: Set(change) }).exec_without_returning(tx).await?;
    Ok(outgoing)
}

/// Lets go of the name of a channel whose log is gone.
async fn release(tx: &impl ConnectionTrait, channel: ChannelId, name: &ChannelName, last_epoch: u64) -> Result<()> {
    let find = retired::Entity::find_by_id(name.as_str()).filter(retired::Column::Deleting.eq(channel.0));
    let Some(row) = find.lock_exclusive().one(tx).await? else { return Ok(()) };
    let epoch = max(row.epoch, i64::try_from(last_epoch).unwrap_or(i64::MAX));
    let update = retired::Entity::update_many()
        .col_expr(retired::Column::Epoch, Expr::value(epoch))
        .col_expr(retired::Column::Deleting, Expr::value(None::<Uuid>))
        .filter(retired::Column::Name.eq(name.as_str()));
    update.exec(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, channel, on_both};
    use super::*;
    use crate::model::{ChannelKind, Role, Topic};

    on_both! {
        async fn a_change_waits_until_it_is_struck_out(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Private, &ann.user).await.id;
            let (ann, sign_in) = (ann.user.id, ann.token.sign_in);
            let (_, added) = store.members().put(tea, ann, bob.id, Role::Member, NOW, |_, _| Ok(())).await.unwrap();
            let removed = store.members().remove(tea, ann, bob.id, |_, _| Ok(())).await.unwrap();
            let (_, changed) = store.channels().set_topic(tea, ann, &Topic::default(), |_| Ok(())).await.unwrap();
            let revoked = store.sign_ins().revoke(sign_in, NOW).await.unwrap().unwrap();
            let deleted = store.channels().delete(tea, ann, |_| Ok(())).await.unwrap();
            let mut all = vec![added, removed, changed, revoked, deleted];
            assert_eq!(store.outbox().waiting(10).await.unwrap(), all, "in this order, and readable");
            assert_eq!(store.outbox().waiting(2).await.unwrap(), all[..2]);
            while let Some(done) = all.pop() {
                for _ in 0..2 {
                    store.outbox().strike(&done, None).await.unwrap();
                }
                assert_eq!(store.outbox().waiting(10).await.unwrap(), all);
            }
        }

        async fn what_was_not_done_is_not_told(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Private, &ann).await.id;
            assert!(store.members().remove(tea, ann.id, bob.id, |_, _| Ok(())).await.is_err());
            assert!(store.members().remove(tea, ann.id, ann.id, |_, _| Ok(())).await.is_err());
            assert_eq!(store.outbox().waiting(1).await.unwrap(), []);
        }

        async fn where_too_many_wait_nothing_is_changed(store) {
            let (ann, bob) = (SignedUp::new(store, "ann").await.user, SignedUp::new(store, "bob").await.user);
            let tea = channel(store, "tea", ChannelKind::Private, &ann).await.id;
            let _ = store.members().put(tea, ann.id, bob.id, Role::Member, NOW, |_, _| Ok(())).await.unwrap();
            let change = r#"{"role":"of no meaning here"}"#;
            let row = |_| ActiveModel { id: Set(Uuid::now_v7()), change: Set(change.into()) };
            for _ in 0..WAITING_MAX / 1_000 {
                Entity::insert_many((0..1_000).map(row)).exec_without_returning(store.write()).await.unwrap();
            }
            let refused = store.members().remove(tea, ann.id, bob.id, |_, _| Ok(())).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            assert!(store.members().membership(tea, bob.id).await.unwrap().is_some());
            let waiting = store.outbox().waiting(10).await.unwrap();
            assert_eq!(waiting.len(), 1, "what cannot be read is left to others: {waiting:?}");
        }
    }
}
