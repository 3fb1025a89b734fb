//! Accounts and their password hashes.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QuerySelect, sea_query::Expr,
};

use crate::error::Result;
use crate::model::{SignInId, TimeMs, User, UserId, UserName};

use super::entity::users;
use super::failure::is_taken;
use super::{NewSignIn, Outgoing, Store, bounded, signins};

/// An account to be.
#[derive(Clone, Copy, Debug)]
pub struct NewUser<'a> {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub name: &'a UserName,
    /// The hash of its password, a PHC string.
    pub password_hash: &'a str,
    /// Now.
    pub created_at: TimeMs,
}

/// What can be asked about accounts.
#[derive(Clone, Copy, Debug)]
pub struct Users<'a>(pub(super) &'a Store);

impl Users<'_> {
    /// Makes an account together with its first sign-in. `None`: the name is taken, and nothing was made.
    pub async fn sign_up(self, user: NewUser<'_>, sign_in: &NewSignIn) -> Result<Option<User>> {
        bounded(async {
            let tx = self.0.begin().await?;
            match users::Entity::insert(row(user)).exec_without_returning(&tx).await {
                Err(error) if is_taken(&error) => return Ok(None),
                done => done?,
            };
            signins::insert(&tx, user.id, sign_in).await?;
            tx.commit().await?;
            Ok(Some(User { id: user.id, name: user.name.clone(), created_at: user.created_at }))
        })
        .await
    }

    /// The account of that name, and the hash of its password.
    pub async fn by_name(self, name: &UserName) -> Result<Option<(User, String)>> {
        bounded(async {
            let found = users::Entity::find().filter(users::Column::Name.eq(name.as_str())).one(self.0.read()).await?;
            let with_hash = |mut row: users::Model| {
                let hash = std::mem::take(&mut row.password_hash);
                Ok((row.try_into()?, hash))
            };
            found.map(with_hash).transpose()
        })
        .await
    }

    /// The account of that id.
    pub async fn by_id(self, user: UserId) -> Result<Option<User>> {
        bounded(by_id(self.0.read(), user)).await
    }

    /// The hash of the account's password.
    pub async fn password_hash(self, user: UserId) -> Result<Option<String>> {
        bounded(async {
            let found = users::Entity::find_by_id(user.0).one(self.0.read()).await?;
            Ok(found.map(|row| row.password_hash))
        })
        .await
    }

    /// Replaces the hash against which the present password was verified, and revokes every sign-in but `keep`, in one step.
    /// `None`: the hash has changed meanwhile; read and verify anew.
    pub async fn change_password(
        self,
        user: UserId,
        verified_hash: &str,
        new_hash: &str,
        keep: SignInId,
        now: TimeMs,
    ) -> Result<Option<Vec<Outgoing>>> {
        bounded(async {
            let tx = self.0.begin().await?;
            if !replace_hash(&tx, user, verified_hash, new_hash).await? {
                return Ok(None);
            }
            let revoked = signins::revoke_all(&tx, user, Some(keep), now).await?;
            tx.commit().await?;
            Ok(Some(revoked))
        })
        .await
    }

    /// Replaces the hash of an unchanged password by a stronger one. `false`: it was another hash by then.
    pub async fn rehash_if(self, user: UserId, old_hash: &str, new_hash: &str) -> Result<bool> {
        bounded(replace_hash(self.0.write(), user, old_hash, new_hash)).await
    }
}

/// The account of that id.
pub(super) async fn by_id(db: &impl ConnectionTrait, user: UserId) -> Result<Option<User>> {
    users::Entity::find_by_id(user.0).one(db).await?.map(User::try_from).transpose()
}

/// Whether that is the user's hash; it stays so until the transaction ends.
pub(super) async fn holds_hash(tx: &impl ConnectionTrait, user: UserId, hash: &str) -> Result<bool> {
    let row = users::Entity::find_by_id(user.0).lock_shared().one(tx).await?;
    Ok(row.is_some_and(|row| row.password_hash == hash))
}

async fn replace_hash(db: &impl ConnectionTrait, user: UserId, old: &str, new: &str) -> Result<bool> {
    let done = users::Entity::update_many()
        .col_expr(users::Column::PasswordHash, Expr::value(new))
        .filter(users::Column::Id.eq(user.0).and(users::Column::PasswordHash.eq(old)))
        .exec(db)
        .await?;
    Ok(done.rows_affected == 1)
}

fn row(user: NewUser<'_>) -> users::ActiveModel {
    users::ActiveModel {
        id: Set(user.id.0),
        name: Set(user.name.as_str().into()),
        password_hash: Set(user.password_hash.into()),
        created_at: Set(user.created_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, on_both, sign_in};
    use super::*;

    on_both! {
        async fn a_user_is_found_by_name_and_by_id(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let found = store.users().by_name(&ann.name).await.unwrap();
            assert_eq!(found, Some((ann.clone(), "hash of ann".into())));
            assert_eq!(store.users().by_id(ann.id).await.unwrap(), Some(ann.clone()));
            assert_eq!(store.users().password_hash(ann.id).await.unwrap(), Some("hash of ann".into()));
            assert_eq!(store.users().by_name(&"bob".parse().unwrap()).await.unwrap(), None);
            assert_eq!(store.users().by_id(UserId::new()).await.unwrap(), None);
        }

        async fn of_many_that_want_a_name_one_gets_it(store) {
            let name = "ann".parse().unwrap();
            let sign_up = || async {
                let new = NewUser { id: UserId::new(), name: &name, password_hash: "hash", created_at: NOW };
                let sign_in = sign_in();
                let user = store.users().sign_up(new, &sign_in).await.unwrap();
                (user, store.sign_ins().is_active(sign_in.id, NOW).await.unwrap())
            };
            let many = futures_util::future::join_all((0..8).map(|_| sign_up())).await;
            assert_eq!(many.iter().filter(|(user, _)| user.is_some()).count(), 1);
            assert!(many.iter().all(|(user, signed_in)| user.is_some() == *signed_in), "no sign-in without its user");
        }

        async fn a_hash_is_replaced_only_while_it_is_the_one_that_was_verified(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            assert!(store.users().rehash_if(ann.id, "hash of ann", "stronger").await.unwrap());
            assert!(!store.users().rehash_if(ann.id, "hash of ann", "another").await.unwrap());
            assert_eq!(store.users().password_hash(ann.id).await.unwrap(), Some("stronger".into()));
        }
    }
}
