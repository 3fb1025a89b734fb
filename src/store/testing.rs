//! What the tests of this room share: each runs once on an SQLite file and once on Postgres.

#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "here the server is not taken away")]
mod postgres;

use std::ops::Deref;

use tempfile::TempDir;

use crate::auth::{RefreshSecret, RefreshToken};
use crate::model::{Channel, ChannelKind, SignInId, TimeMs, Topic, User, UserId};

use super::{NewChannel, NewSignIn, NewUser, Store, StoreUrl};

pub(super) use postgres::Postgres;

/// The time of whatever does not say another.
pub(super) const NOW: TimeMs = 1_763_923_812_345;

/// A test for each database out of one body.
macro_rules! on_both {
    ($(async fn $name:ident($store:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            use crate::store::testing::TestStore;

            async fn check($store: &Store) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                check(&*TestStore::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                check(&*TestStore::on_postgres().await).await;
            }
        }
    )*};
}
pub(super) use on_both;

/// A store with nothing in it.
pub(super) struct TestStore {
    store: Store,
    _folder: Option<TempDir>,
}

impl TestStore {
    pub(super) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = StoreUrl::Sqlite(folder.path().join("burble.db"));
        Self { store: Store::connect(&url).await.expect("the file opens"), _folder: Some(folder) }
    }

    pub(super) async fn on_postgres() -> Self {
        let url = StoreUrl::Postgres(Postgres::shared().create_database());
        Self { store: Store::connect(&url).await.expect("the database opens"), _folder: None }
    }
}

impl Deref for TestStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A user with a sign-in. Their password's hash is "hash of" and their name.
pub(super) struct SignedUp {
    pub(super) user: User,
    pub(super) token: RefreshToken,
    pub(super) expires_at: TimeMs,
}

impl SignedUp {
    pub(super) async fn new(store: &Store, name: &str) -> Self {
        let sign_in = sign_in();
        let (id, password_hash) = (UserId::new(), format!("hash of {name}"));
        let name = name.parse().unwrap();
        let user = NewUser { id, name: &name, password_hash: &password_hash, created_at: NOW };
        let user = store.users().sign_up(user, &sign_in).await.unwrap().expect("the name is free");
        let token = RefreshToken { sign_in: sign_in.id, generation: 0, hash: sign_in.token_hash, issued: true };
        Self { user, token, expires_at: sign_in.expires_at }
    }

    pub(super) async fn sign_in_again(&self, store: &Store) -> SignInId {
        let sign_in = sign_in();
        let hash = format!("hash of {}", self.user.name);
        assert!(store.sign_ins().create(self.user.id, &hash, &sign_in).await.unwrap());
        sign_in.id
    }
}

pub(super) fn sign_in() -> NewSignIn {
    let token_hash = RefreshSecret::new().unwrap().hash();
    NewSignIn { id: SignInId::new(), token_hash, created_at: NOW, expires_at: NOW + 50_000 }
}

pub(super) async fn channel(store: &Store, name: &str, kind: ChannelKind, owner: &User) -> Channel {
    let (name, topic) = (name.parse().unwrap(), Topic::default());
    let new = NewChannel { name: &name, kind, topic: &topic };
    store.channels().create(new, owner.id, NOW).await.unwrap().expect("the name is free")
}
