//! Accounts and their password hashes.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
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

/// An account as the operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Whose it is.
    pub user: User,
    /// Since when it is disabled.
    pub disabled_at: Option<TimeMs>,
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

    /// Makes an account that has not signed in yet. `false`: the name is taken, and nothing was made.
    pub async fn add(self, user: NewUser<'_>) -> Result<bool> {
        bounded(async {
            match users::Entity::insert(row(user)).exec_without_returning(self.0.write()).await {
                Err(error) if is_taken(&error) => Ok(false),
                done => Ok(done.map(|_| true)?),
            }
        })
        .await
    }

    /// The accounts behind that name, at most `limit`, by name.
    pub async fn list(self, after: Option<&UserName>, limit: u64) -> Result<Vec<Account>> {
        let mut find = users::Entity::find().order_by_asc(users::Column::Name).limit(limit);
        if let Some(after) = after {
            find = find.filter(users::Column::Name.gt(after.as_str()));
        }
        let account = |row: users::Model| Ok(Account { disabled_at: row.disabled_at, user: row.try_into()? });
        bounded(async { find.all(self.0.read()).await?.into_iter().map(account).collect() }).await
    }

    /// Disables the account and ends all its sign-ins, in one step. `None`: there is none of that name.
    pub async fn disable(self, name: &UserName, now: TimeMs) -> Result<Option<Vec<Outgoing>>> {
        let since = Expr::col(users::Column::DisabledAt).if_null(now);
        self.change_and_revoke(name, users::Column::DisabledAt, since, now).await
    }

    /// Makes a disabled account good again; its sign-ins stay ended. `false`: there is none of that name.
    pub async fn enable(self, name: &UserName) -> Result<bool> {
        let enable = users::Entity::update_many()
            .col_expr(users::Column::DisabledAt, Expr::value(None::<TimeMs>))
            .filter(users::Column::Name.eq(name.as_str()));
        bounded(async { Ok(enable.exec(self.0.write()).await?.rows_affected == 1) }).await
    }

    /// Replaces the password's hash, whatever it was, and ends all sign-ins, in one step. `None`: there is none of that name.
    pub async fn set_password(self, name: &UserName, new_hash: &str, now: TimeMs) -> Result<Option<Vec<Outgoing>>> {
        self.change_and_revoke(name, users::Column::PasswordHash, Expr::value(new_hash), now).await
    }

    async fn change_and_revoke(
        self,
        name: &UserName,
        column: users::Column,
        value: Expr,
        now: TimeMs,
    ) -> Result<Option<Vec<Outgoing>>> {
        bounded(async {
            let tx = self.0.begin().await?;
            let mine = users::Column::Name.eq(name.as_str());
            let changed = users::Entity::update_many().col_expr(column, value).filter(mine.clone()).exec(&tx).await?;
            if changed.rows_affected == 0 {
                return Ok(None);
            }
            let Some(user) = users::Entity::find().filter(mine).one(&tx).await? else { return Ok(None) };
            let revoked = signins::revoke_all(&tx, UserId(user.id), None, now).await?;
            tx.commit().await?;
            Ok(Some(revoked))
        })
        .await
    }

    /// The account of that name, and the hash of its password; none where it is disabled.
    pub async fn to_sign_in(self, name: &UserName) -> Result<Option<(User, String)>> {
        let enabled = users::Column::Name.eq(name.as_str()).and(users::Column::DisabledAt.is_null());
        bounded(async {
            let Some(mut row) = users::Entity::find().filter(enabled).one(self.0.read()).await? else {
                return Ok(None);
            };
            let hash = std::mem::take(&mut row.password_hash);
            Ok(Some((row.try_into()?, hash)))
        })
        .await
    }

    /// The account of that name, disabled or not.
    pub async fn by_name(self, name: &UserName) -> Result<Option<User>> {
        let named = users::Entity::find().filter(users::Column::Name.eq(name.as_str()));
        bounded(async { named.one(self.0.read()).await?.map(User::try_from).transpose() }).await
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

/// Whether that is the user's hash, and the user not disabled; it stays so until the transaction ends.
pub(super) async fn holds_hash(tx: &impl ConnectionTrait, user: UserId, hash: &str) -> Result<bool> {
    let row = users::Entity::find_by_id(user.0).lock_shared().one(tx).await?;
    Ok(row.is_some_and(|row| row.password_hash == hash && row.disabled_at.is_none()))
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
        disabled_at: Set(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SignedUp, on_both, sign_in};
    use super::*;

    on_both! {
        async fn a_user_is_found_by_name_and_by_id(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            assert_eq!(store.users().by_name(&ann.name).await.unwrap(), Some(ann.clone()));
            let signs_in = store.users().to_sign_in(&ann.name).await.unwrap();
            assert_eq!(signs_in, Some((ann.clone(), "hash of ann".into())));
            assert_eq!(store.users().by_id(ann.id).await.unwrap(), Some(ann.clone()));
            assert_eq!(store.users().password_hash(ann.id).await.unwrap(), Some("hash of ann".into()));
            assert_eq!(store.users().by_name(&"bob".parse().unwrap()).await.unwrap(), None);
            assert_eq!(store.users().by_id(UserId::new()).await.unwrap(), None);
        }

        async fn whoever_is_disabled_signs_in_no_more_until_they_are_enabled(store) {
            let ann = SignedUp::new(store, "ann").await;
            let (name, now) = (&ann.user.name, NOW + 1);
            let revoked = store.users().disable(name, now).await.unwrap().unwrap();
            assert_eq!(store.outbox().waiting(9).await.unwrap(), revoked, "every node is to hear it");
            assert_eq!(revoked.len(), 1);
            assert!(!store.sign_ins().is_active(ann.token.sign_in, now).await.unwrap());
            assert_eq!(store.users().to_sign_in(name).await.unwrap(), None);
            assert!(!store.sign_ins().create(ann.user.id, "hash of ann", &sign_in()).await.unwrap());
            assert!(store.users().disable(name, now + 1).await.unwrap().unwrap().is_empty());
            let listed = store.users().list(None, 9).await.unwrap();
            assert_eq!(listed, [Account { user: ann.user.clone(), disabled_at: Some(now) }], "since the first time");
            assert!(store.users().enable(name).await.unwrap());
            assert!(store.users().to_sign_in(name).await.unwrap().is_some());
            assert!(!store.sign_ins().is_active(ann.token.sign_in, now).await.unwrap(), "what was ended stays so");
            let nobody = "bob".parse().unwrap();
            assert_eq!(store.users().disable(&nobody, now).await.unwrap(), None);
            assert!(!store.users().enable(&nobody).await.unwrap());
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
