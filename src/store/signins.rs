//! Who is signed in. A refresh token stays good until the pair that replaced it is first used; after that, its reuse ends the
//! sign-in.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, sea_query::Expr,
};

use crate::auth::{RefreshToken, TokenHash};
use crate::error::{Error, Result};
use crate::model::{Change, SignInId, TimeMs, User, UserId};

use super::entity::sign_ins::{ActiveModel, Column, Entity, Model};
use super::{Outgoing, Store, bounded, outbox, users};

/// Rows removed by one statement. More of them would hold up other writers.
const PURGE_ROWS_MAX: u64 = 500;
/// Statements of one purge; the next one goes on from there.
const PURGE_STEPS_MAX: u32 = 100;

/// The most sign-ins that are announced at a time: bounds an entry of a feed.
const ANNOUNCED_MAX: usize = 64;

/// A sign-in to be, with the first of its refresh tokens: generation 0.
#[derive(Clone, Copy, Debug)]
pub struct NewSignIn {
    /// Its id.
    pub id: SignInId,
    /// The hash of its first refresh token.
    pub token_hash: TokenHash,
    /// Now.
    pub created_at: TimeMs,
    /// When it ends unless it is refreshed.
    pub expires_at: TimeMs,
}

/// What became of a refresh token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// It was good: the new hash is stored, as that of `generation`.
    Rotated {
        /// Whose sign-in it is.
        user: User,
        /// Which pair of tokens of the sign-in the new one is.
        generation: u32,
    },
    /// It had been replaced by a pair that was used: somebody has a copy. The sign-in is revoked by now.
    Reused(Outgoing),
    /// It is none of ours, or the sign-in has expired or was revoked, or a later answer superseded it before it was used.
    Unknown,
}

/// What can be asked about sign-ins.
#[derive(Clone, Copy, Debug)]
pub struct SignIns<'a>(pub(super) &'a Store);

impl SignIns<'_> {
    /// Begins a sign-in, where the password's hash is still the one it was verified against. `false`: it has changed meanwhile,
    /// and nothing was made; read and verify anew. So nobody gets past a password change with the old one.
    pub async fn create(self, user: UserId, verified_hash: &str, sign_in: &NewSignIn) -> Result<bool> {
        bounded(async {
            let tx = self.0.begin().await?;
            if !users::holds_hash(&tx, user, verified_hash).await? {
                return Ok(false);
            }
            insert(&tx, user, sign_in).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Exchanges a refresh token for the one whose hash is given. Of callers with the same token, the one that comes last has the
    /// pair that counts.
    pub async fn rotate(
        self,
        presented: &RefreshToken,
        new_hash: TokenHash,
        now: TimeMs,
        expires_at: TimeMs,
    ) -> Result<Rotation> {
        bounded(async {
            let tx = self.0.begin().await?;
            let row = Entity::find_by_id(presented.sign_in.0).lock_exclusive().one(&tx).await?;
            let Some(row) = row.filter(|row| is_alive(row, now)) else { return Ok(Rotation::Unknown) };
            let rotation = match judge(&row, presented) {
                Judgement::Unknown => return Ok(Rotation::Unknown),
                Judgement::Reused => match revoke(&tx, presented.sign_in, now).await? {
                    Some(outgoing) => Rotation::Reused(outgoing),
                    None => return Ok(Rotation::Unknown),
                },
                judgement => replace(&tx, row, judgement == Judgement::Latest, new_hash, expires_at).await?,
            };
            tx.commit().await?;
            Ok(rotation)
        })
        .await
    }

    /// Notes that this pair of tokens was used. Only the latest one counts; doing it again changes nothing.
    pub async fn confirm(self, sign_in: SignInId, generation: u32) -> Result<()> {
        let unconfirmed = || {
            Column::Id.eq(sign_in.0).and(Column::Generation.eq(i64::from(generation))).and(Column::Confirmed.eq(false))
        };
        bounded(async {
            // Nearly always there is nothing to do, and readers need not queue.
            if Entity::find().filter(unconfirmed()).one(self.0.read()).await?.is_some() {
                let confirm = Entity::update_many().col_expr(Column::Confirmed, Expr::value(true));
                confirm.filter(unconfirmed()).exec(self.0.write()).await?;
            }
            Ok(())
        })
        .await
    }

    /// Whether its tokens are good: it is there, neither revoked nor expired.
    pub async fn is_active(self, sign_in: SignInId, now: TimeMs) -> Result<bool> {
        bounded(async {
            let row = Entity::find_by_id(sign_in.0).one(self.0.read()).await?;
            Ok(row.is_some_and(|row| is_alive(&row, now)))
        })
        .await
    }

    /// Ends a sign-in. `None`: it was revoked before, or there is none.
    pub async fn revoke(self, sign_in: SignInId, now: TimeMs) -> Result<Option<Outgoing>> {
        bounded(async {
            let tx = self.0.begin().await?;
            let outgoing = revoke(&tx, sign_in, now).await?;
            tx.commit().await?;
            Ok(outgoing)
        })
        .await
    }

    /// Ends all sign-ins of a user.
    pub async fn revoke_all(self, user: UserId, now: TimeMs) -> Result<Vec<Outgoing>> {
        bounded(async {
            let tx = self.0.begin().await?;
            let outgoing = revoke_all(&tx, user, None, now).await?;
            tx.commit().await?;
            Ok(outgoing)
        })
        .await
    }

    /// Those revoked at that time or later, by the clock of whichever node did it: let the times of two calls overlap by more than
    /// the clocks may differ and a call may take. Their number is bounded by what happens in that time.
    pub async fn revoked_since(self, since: TimeMs) -> Result<Vec<SignInId>> {
        bounded(async {
            let find = Entity::find().select_only().column(Column::Id).filter(Column::RevokedAt.gte(since));
            let ids: Vec<uuid::Uuid> = find.order_by_asc(Column::RevokedAt).into_tuple().all(self.0.read()).await?;
            Ok(ids.into_iter().map(SignInId).collect())
        })
        .await
    }

    /// Forgets those that have expired, revoked or not, and tells how many.
    pub async fn purge_expired(self, now: TimeMs) -> Result<u64> {
        let mut purged = 0;
        for _ in 0..PURGE_STEPS_MAX {
            let expired = Entity::find().select_only().column(Column::Id).filter(Column::ExpiresAt.lte(now));
            let some = Column::Id.in_subquery(expired.limit(PURGE_ROWS_MAX).into_query());
            let step = bounded(async { Ok(Entity::delete_many().filter(some).exec(self.0.write()).await?) }).await?;
            purged += step.rows_affected;
            if step.rows_affected < PURGE_ROWS_MAX {
                break;
            }
        }
        Ok(purged)
    }
}

/// Stores a sign-in of generation 0. Nothing comes before it, so its own pair counts as used.
pub(super) async fn insert(db: &impl ConnectionTrait, user: UserId, sign_in: &NewSignIn) -> Result<()> {
    let row = ActiveModel {
        id: Set(sign_in.id.0),
        user_id: Set(user.0),
        generation: Set(0),
        current_hash: Set(sign_in.token_hash.as_bytes().to_vec()),
        previous_generation: Set(None),
        previous_hash: Set(None),
        confirmed: Set(true),
        created_at: Set(sign_in.created_at),
        expires_at: Set(sign_in.expires_at),
        revoked_at: Set(None),
    };
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// Ends those of the user that have not ended, but one if so asked.
pub(super) async fn revoke_all(
    tx: &impl ConnectionTrait,
    user: UserId,
    except: Option<SignInId>,
    now: TimeMs,
) -> Result<Vec<Outgoing>> {
    let mut revoke = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(now))
        .filter(Column::UserId.eq(user.0).and(Column::RevokedAt.is_null()));
    if let Some(kept) = except {
        revoke = revoke.filter(Column::Id.ne(kept.0));
    }
    let revoked: Vec<_> = revoke.exec_with_returning(tx).await?.into_iter().map(|row| SignInId(row.id)).collect();
    let mut outgoing = Vec::new();
    for sign_ins in revoked.chunks(ANNOUNCED_MAX) {
        outgoing.push(outbox::put(tx, Change::Revoked { user, sign_ins: sign_ins.to_vec() }).await?);
    }
    Ok(outgoing)
}

async fn revoke(tx: &impl ConnectionTrait, sign_in: SignInId, now: TimeMs) -> Result<Option<Outgoing>> {
    let revoke = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(now))
        .filter(Column::Id.eq(sign_in.0).and(Column::RevokedAt.is_null()));
    let Some(row) = revoke.exec_with_returning(tx).await?.pop() else { return Ok(None) };
    let change = Change::Revoked { user: UserId(row.user_id), sign_ins: vec![sign_in] };
    outbox::put(tx, change).await.map(Some)
}

/// Makes the new token the latest one. The one before it is the latest until now, where that was presented, and else stays.
async fn replace(
    tx: &impl ConnectionTrait,
    row: Model,
    latest_presented: bool,
    new_hash: TokenHash,
    expires_at: TimeMs,
) -> Result<Rotation> {
    let user = users::by_id(tx, UserId(row.user_id)).await?.ok_or_else(|| fault("a sign-in belongs to nobody"))?;
    let generation = row.generation + 1;
    let before = (row.generation, row.current_hash.clone());
    let mut row = row.into_active_model();
    if latest_presented {
        row.previous_generation = Set(Some(before.0));
        row.previous_hash = Set(Some(before.1));
    }
    row.generation = Set(generation);
    row.current_hash = Set(new_hash.as_bytes().to_vec());
    row.confirmed = Set(false);
    row.expires_at = Set(expires_at);
    row.update(tx).await?;
    let generation = u32::try_from(generation).map_err(|_| fault("a sign-in was refreshed four billion times"))?;
    Ok(Rotation::Rotated { user, generation })
}

/// What a presented token is to its sign-in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    /// The latest; presenting it is a use of its pair.
    Latest,
    /// The one before, while nobody has used the latest pair: the answer that carried it may be lost.
    Retried,
    /// An older one, or the one before after the latest pair was used.
    Reused,
    Unknown,
}

fn judge(row: &Model, presented: &RefreshToken) -> Judgement {
    let generation = i64::from(presented.generation);
    if generation == row.generation && presented.hash == row.current_hash[..] {
        return Judgement::Latest;
    }
    let (Some(previous), Some(hash)) = (row.previous_generation, &row.previous_hash) else { return Judgement::Unknown };
    match generation == previous && presented.hash == hash[..] {
        true if row.confirmed => Judgement::Reused,
        true => Judgement::Retried,
        false if generation < previous && presented.issued => Judgement::Reused,
        false => Judgement::Unknown,
    }
}

fn is_alive(row: &Model, now: TimeMs) -> bool {
    row.revoked_at.is_none() && now < row.expires_at
}

fn fault(what: &'static str) -> Error {
    Error::Internal(anyhow::anyhow!(what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, on_both};
    use super::*;
    use crate::auth::RefreshSecret;

    const LATER: TimeMs = NOW + 1_000;
    const END: TimeMs = NOW + 100_000;

    /// Presents a token; on success, the next one.
    async fn refresh(store: &Store, token: &RefreshToken) -> Result<RefreshToken, Rotation> {
        let hash = RefreshSecret::new().unwrap().hash();
        match store.sign_ins().rotate(token, hash, LATER, END).await.unwrap() {
            Rotation::Rotated { generation, .. } => Ok(RefreshToken { generation, hash, ..*token }),
            refused => Err(refused),
        }
    }

    async fn is_active(store: &Store, token: &RefreshToken) -> bool {
        store.sign_ins().is_active(token.sign_in, LATER).await.unwrap()
    }

    on_both! {
        async fn tokens_follow_one_another(store) {
            let ann = SignedUp::new(store, "ann").await;
            let one = ann.token;
            let hash = RefreshSecret::new().unwrap().hash();
            let rotated = store.sign_ins().rotate(&one, hash, LATER, END).await.unwrap();
            assert_eq!(rotated, Rotation::Rotated { user: ann.user, generation: 1 });
            let two = RefreshToken { generation: 1, hash, ..one };
            let three = refresh(store, &two).await.unwrap();
            assert_eq!(three.generation, 2);
            assert!(is_active(store, &three).await);
        }

        async fn a_token_stays_good_until_the_pair_after_it_is_used(store) {
            let one = SignedUp::new(store, "ann").await.token;
            let lost = refresh(store, &one).await.unwrap();
            let two = refresh(store, &one).await.unwrap();
            assert_eq!(refresh(store, &lost).await, Err(Rotation::Unknown), "superseded before it was used");
            assert!(is_active(store, &one).await);
            // A use of the superseded pair is none of the latest.
            store.sign_ins().confirm(lost.sign_in, lost.generation).await.unwrap();
            let three = refresh(store, &one).await.unwrap();
            store.sign_ins().confirm(three.sign_in, three.generation).await.unwrap();
            assert_eq!(two.generation + 1, three.generation);
            assert!(matches!(refresh(store, &one).await, Err(Rotation::Reused(_))));
            assert!(!is_active(store, &one).await);
            assert_eq!(refresh(store, &three).await, Err(Rotation::Unknown), "the sign-in is revoked");
        }

        async fn refreshing_is_a_use_and_an_older_token_ends_the_sign_in(store) {
            let one = SignedUp::new(store, "ann").await.token;
            let two = refresh(store, &one).await.unwrap();
            let three = refresh(store, &two).await.unwrap();
            assert!(matches!(refresh(store, &one).await, Err(Rotation::Reused(_))));
            assert_eq!(refresh(store, &three).await, Err(Rotation::Unknown));
            assert_eq!(store.sign_ins().revoked_since(LATER).await.unwrap(), [one.sign_in]);
        }

        async fn a_made_up_token_is_unknown_and_harms_nobody(store) {
            let one = SignedUp::new(store, "ann").await.token;
            let two = refresh(store, &one).await.unwrap();
            let three = refresh(store, &two).await.unwrap();
            let hash = RefreshSecret::new().unwrap().hash();
            for made_up in [
                RefreshToken { sign_in: SignInId::new(), ..three },
                RefreshToken { hash, ..three },
                RefreshToken { hash, ..two },
                RefreshToken { hash, issued: false, ..one },
                RefreshToken { generation: 9, ..three },
            ] {
                assert_eq!(refresh(store, &made_up).await, Err(Rotation::Unknown));
            }
            let unmarked = RefreshToken { issued: false, ..three };
            assert!(refresh(store, &unmarked).await.is_ok(), "the key that marked it may be gone");
        }

        async fn of_many_that_refresh_at_once_the_last_has_the_good_pair(store) {
            let one = SignedUp::new(store, "ann").await.token;
            let many = futures_util::future::join_all((0..16).map(|_| refresh(store, &one))).await;
            let mut many: Vec<_> = many.into_iter().map(Result::unwrap).collect();
            many.sort_by_key(|token| token.generation);
            let generations: Vec<_> = many.iter().map(|token| token.generation).collect();
            assert_eq!(generations, (1..=16).collect::<Vec<_>>());
            let last = many.pop().unwrap();
            for superseded in many {
                assert_eq!(refresh(store, &superseded).await, Err(Rotation::Unknown));
            }
            assert!(refresh(store, &last).await.is_ok());
        }

        async fn an_expired_sign_in_is_over_and_forgotten(store) {
            let ann = SignedUp::new(store, "ann").await;
            let hash = RefreshSecret::new().unwrap().hash();
            let at_its_end = store.sign_ins().rotate(&ann.token, hash, ann.expires_at, END).await.unwrap();
            assert_eq!(at_its_end, Rotation::Unknown);
            assert!(!store.sign_ins().is_active(ann.token.sign_in, ann.expires_at).await.unwrap());
            assert_eq!(store.sign_ins().purge_expired(ann.expires_at - 1).await.unwrap(), 0);
            assert_eq!(store.sign_ins().purge_expired(ann.expires_at).await.unwrap(), 1);
            assert!(!is_active(store, &ann.token).await);
        }

        async fn revoking_tells_whom_it_concerned(store) {
            let ann = SignedUp::new(store, "ann").await;
            let bob = SignedUp::new(store, "bob").await;
            let (second, third) = (ann.sign_in_again(store).await, ann.sign_in_again(store).await);
            let revoked = |sign_ins: Vec<SignInId>| Change::Revoked { user: ann.user.id, sign_ins };
            let one = store.sign_ins().revoke(third, LATER).await.unwrap().expect("it was good");
            assert_eq!(one.change, revoked(vec![third]));
            assert_eq!(store.sign_ins().revoke(third, LATER).await.unwrap(), None);
            let mut others = store.sign_ins().revoke_all(ann.user.id, LATER).await.unwrap();
            let Change::Revoked { sign_ins, .. } = &mut others[0].change else { panic!("{others:?}") };
            sign_ins.sort_unstable();
            assert_eq!(others[0].change, revoked(vec![ann.token.sign_in, second]));
            assert_eq!(store.sign_ins().revoke_all(ann.user.id, LATER).await.unwrap(), []);
            assert_eq!(store.sign_ins().revoked_since(LATER).await.unwrap().len(), 3);
            assert_eq!(store.sign_ins().revoked_since(LATER + 1).await.unwrap(), []);
            assert!(is_active(store, &bob.token).await);
        }

        async fn a_sign_in_needs_the_password_of_now(store) {
            let ann = SignedUp::new(store, "ann").await;
            let (users, kept) = (store.users(), ann.token.sign_in);
            let other = ann.sign_in_again(store).await;
            let revoked = users.change_password(ann.user.id, "hash of ann", "new", kept, LATER).await.unwrap();
            let changes: Vec<_> = revoked.expect("the hash is right").into_iter().map(|told| told.change).collect();
            assert_eq!(changes, [Change::Revoked { user: ann.user.id, sign_ins: vec![other] }]);
            assert!(is_active(store, &ann.token).await);
            let again = users.change_password(ann.user.id, "hash of ann", "newer", kept, LATER).await.unwrap();
            assert_eq!(again, None);
            let late = NewSignIn { id: SignInId::new(), token_hash: ann.token.hash, created_at: LATER, expires_at: END };
            assert!(!store.sign_ins().create(ann.user.id, "hash of ann", &late).await.unwrap());
            assert!(store.sign_ins().create(ann.user.id, "new", &late).await.unwrap());
        }
    }
}
