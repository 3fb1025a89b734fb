//! Users, sign-ins, channels and members in SQLite or Postgres: the only code that speaks SQL. It keeps what must be true of
//! the rows, also among many callers; what a user may do is decided elsewhere.

pub mod backup;
mod channels;
mod connect;
pub mod doctor;
mod entity;
mod failure;
mod members;
mod outbox;
mod signins;
#[cfg(test)]
mod testing;
mod transfer;
mod users;
mod watch;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::config;
use crate::error::{Error, Result};

pub use channels::{Channels, NewChannel};
pub use members::Members;
pub use outbox::{Outbox, Outgoing};
pub use signins::{NewSignIn, Rotation, SignIns};
pub use users::{Account, NewUser, Users};

/// The longest that any call here takes. Whoever waits longer hears `unavailable`; an open transaction is rolled back.
const CALL_MAX: Duration = Duration::from_secs(5);
/// The longest that the database may take to say that it is there.
const PING_MAX: Duration = Duration::from_secs(1);

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// The path of a file. One node.
    Sqlite(PathBuf),
    /// A URL, `postgres://…`; may hold a password. Any number of nodes.
    Postgres(String),
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

impl From<&config::Database> for StoreUrl {
    fn from(database: &config::Database) -> Self {
        match database {
            config::Database::Sqlite(path) => Self::Sqlite(path.clone()),
            config::Database::Postgres(url) => Self::Postgres(url.expose().to_owned()),
        }
    }
}

/// Which database it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// A file that one node has to itself.
    Sqlite,
    /// A server that nodes share.
    Postgres,
}

/// The database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kind: StoreKind,
    installation: Uuid,
    /// For statements that only read. On Postgres the same pool as `write`.
    read: DatabaseConnection,
    /// For all others. On SQLite a single connection: writers queue here, in order, and none finds the file busy.
    write: DatabaseConnection,
    /// Held for as long as the file is ours.
    _lock: Option<File>,
}

impl Store {
    /// Opens the database, makes it where there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// Where it cannot be reached or changed, and for an SQLite file that another process has; says what to do.
    pub async fn connect(database: &StoreUrl) -> anyhow::Result<Self> {
        let opened = connect::open(database).await?;
        let installation = connect::installation_id(&opened.write).await?;
        let (read, write, kind) = (opened.read, opened.write, opened.kind);
        Ok(Self { shared: Arc::new(Shared { kind, installation, read, write, _lock: opened.lock }) })
    }

    /// Opens a database that is there already, beside the nodes that use it. Of an SQLite file it takes no lock of a node:
    /// SQLite's own is enough for single transactions.
    ///
    /// # Errors
    /// Where it is not there, cannot be reached, or its tables are not those of this version; says what to do.
    pub async fn beside(database: &StoreUrl) -> anyhow::Result<Self> {
        let opened = connect::beside(database).await?;
        let installation = connect::installation_id(&opened.write).await?;
        let (read, write, kind) = (opened.read, opened.write, opened.kind);
        Ok(Self { shared: Arc::new(Shared { kind, installation, read, write, _lock: None }) })
    }

    /// Which database it is.
    pub fn kind(&self) -> StoreKind {
        self.shared.kind
    }

    /// What tells this database from any other; made once, and the same on all nodes that share it.
    pub fn installation_id(&self) -> Uuid {
        self.shared.installation
    }

    /// Asks the database for a sign of life, and waits no longer than a second.
    ///
    /// # Errors
    /// `unavailable`, with the cause.
    pub async fn ping(&self) -> Result<()> {
        match timeout(PING_MAX, self.shared.read.execute_unprepared("SELECT 1")).await {
            Ok(answer) => answer.map(drop).map_err(|e| Error::Unavailable(e.into())),
            Err(_) => Err(failure::too_slow(PING_MAX)),
        }
    }

    /// Closes all connections; whatever is asked afterwards is `unavailable`.
    pub async fn close(&self) {
        for pool in [&self.shared.read, &self.shared.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::warn!(%error, "The database did not close cleanly");
            }
        }
    }

    /// Accounts and their password hashes.
    pub fn users(&self) -> Users<'_> {
        Users(self)
    }

    /// Who is signed in, and the hashes of their refresh tokens.
    pub fn sign_ins(&self) -> SignIns<'_> {
        SignIns(self)
    }

    /// Definitions of channels.
    pub fn channels(&self) -> Channels<'_> {
        Channels(self)
    }

    /// Who belongs to which channel.
    pub fn members(&self) -> Members<'_> {
        Members(self)
    }

    /// Changes that some node may not have heard of yet.
    pub fn outbox(&self) -> Outbox<'_> {
        Outbox(self)
    }

    fn read(&self) -> &DatabaseConnection {
        &self.shared.read
    }

    fn write(&self) -> &DatabaseConnection {
        &self.shared.write
    }

    /// A transaction that may write. Dropped without a commit, it leaves nothing behind.
    async fn begin(&self) -> Result<DatabaseTransaction> {
        // On SQLite it asks for the right to write at once: one that reads first could be refused when it comes to write.
        let mode = TransactionOptions {
            sqlite_transaction_mode: (self.kind() == StoreKind::Sqlite).then_some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        Ok(self.write().begin_with_options(mode).await?)
    }
}

/// Gives the work as long as a call may take.
async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(CALL_MAX, work).await.unwrap_or_else(|_| Err(failure::too_slow(CALL_MAX)))
}

/// A value that was checked before it was stored; one that does not pass now is a fault of ours.
fn stored<T>(parsed: Result<T>) -> Result<T> {
    parsed.map_err(|e| Error::Internal(anyhow::Error::new(e).context("a stored value is not what it must be")))
}

#[cfg(test)]
mod tests {
    use super::testing::{Postgres, SignedUp, TestStore, on_both};
    use super::*;
    use crate::model::{ChannelKind, SignInId, Topic, UserId};

    on_both! {
        async fn what_waits_too_long_for_another_is_unavailable_and_mends(store) {
            let ann = SignedUp::new(store, "ann").await.user;
            let tea = testing::channel(store, "tea", ChannelKind::Public, &ann).await;
            let held = store.begin().await.unwrap();
            channels::lock(&held, tea.id).await.unwrap();
            let topic = Topic::default();
            let change = || store.channels().set_topic(tea.id, ann.id, &topic, |_| Ok(()));
            let refused = change().await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            assert_eq!(store.channels().by_name(&tea.name).await.unwrap(), Some(tea.clone()), "readers go on");
            drop(held);
            assert_eq!(change().await.unwrap().0, tea);
        }

        async fn a_store_says_that_it_is_there_until_it_is_closed(store) {
            store.ping().await.unwrap();
            SignedUp::new(store, "ann").await;
            store.close().await;
            assert!(matches!(store.ping().await, Err(Error::Unavailable(_))));
            let asked = store.users().by_name(&"ann".parse().unwrap()).await;
            assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_file_serves_one_store_at_a_time_and_keeps_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(folder.path().join("a folder/50%?#.db"));
        let first = Store::connect(&url).await.unwrap();
        let ann = SignedUp::new(&first, "ann").await.user;
        let refused = format!("{:#}", Store::connect(&url).await.unwrap_err());
        assert!(refused.contains("SQLite serves one node; use SERVER_DB=postgres://… for several"), "{refused}");
        let id = first.installation_id();
        first.close().await;
        drop(first);
        let second = Store::connect(&url).await.unwrap();
        assert_eq!((second.installation_id(), second.kind()), (id, StoreKind::Sqlite));
        assert_eq!(second.users().by_id(ann.id).await.unwrap(), Some(ann));
    }

    #[tokio::test]
    async fn an_sqlite_file_is_set_up_as_it_should_be() {
        let store = TestStore::on_sqlite().await;
        for (pragma, expected) in [("journal_mode", "wal"), ("synchronous", "1"), ("foreign_keys", "1")] {
            for pool in [store.read(), store.write()] {
                let pool = pool.get_sqlite_connection_pool();
                let asked = sea_orm::sqlx::AssertSqlSafe(format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"));
                let value: String = sea_orm::sqlx::query_scalar(asked).fetch_one(pool).await.unwrap();
                assert_eq!(value, expected, "{pragma}");
            }
        }
        assert!(store.read().execute_unprepared("DELETE FROM users").await.is_err(), "readers do not write");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_that_start_together_share_one_installation() {
        let url = StoreUrl::Postgres(Postgres::shared().create_database());
        let nodes = futures_util::future::join_all((0..4).map(|_| Store::connect(&url))).await;
        let ids: Vec<_> = nodes.iter().map(|node| node.as_ref().unwrap().installation_id()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let other = TestStore::on_postgres().await;
        assert_ne!(other.installation_id(), ids[0]);
        assert_eq!(other.kind(), StoreKind::Postgres);
    }

    #[tokio::test]
    async fn a_password_in_a_url_is_never_told() {
        for url in ["postgres://ann:secret@127.0.0.1:1/db", "postgres://ann:secret@[/db", "ann:secret"] {
            let url = StoreUrl::Postgres(url.into());
            let refused = Store::connect(&url).await.unwrap_err();
            assert!(!format!("{refused:?} {url:?}").contains("secret"), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_another_process_has_is_unavailable() {
        let store = TestStore::on_sqlite().await;
        let path: String = {
            let asked = sea_orm::sqlx::query_scalar("SELECT file FROM pragma_database_list");
            asked.fetch_one(store.read().get_sqlite_connection_pool()).await.unwrap()
        };
        let other = sea_orm::Database::connect(format!("sqlite://{path}")).await.unwrap();
        other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        let refused = store.sign_ins().revoke(SignInId::new(), 0).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        other.execute_unprepared("ROLLBACK").await.unwrap();
        assert_eq!(store.sign_ins().revoke(SignInId::new(), 0).await.unwrap(), None);
    }

    /// As SQLite ends one by itself where the disk is full: <https://sqlite.org/lang_transaction.html>.
    #[tokio::test]
    async fn a_transaction_that_the_database_ended_takes_nothing_later_along() {
        let store = TestStore::on_sqlite().await;
        let ann = SignedUp::new(&store, "ann").await.user;
        let ended = store.begin().await.unwrap();
        ended.execute_unprepared("ROLLBACK").await.unwrap();
        drop(ended);
        drop(store.begin().await.unwrap());
        let tea = testing::channel(&store, "tea", ChannelKind::Public, &ann).await;
        assert_eq!(store.channels().by_name(&tea.name).await.unwrap(), Some(tea));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_gone_is_unavailable() {
        let server = Postgres::start();
        let store = Store::connect(&StoreUrl::Postgres(server.create_database())).await.unwrap();
        store.ping().await.unwrap();
        drop(server);
        assert!(matches!(store.ping().await, Err(Error::Unavailable(_))));
        let asked = store.users().by_id(UserId::new()).await;
        assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
        let begun = store.users().change_password(UserId::new(), "old", "new", SignInId::new(), 0).await;
        assert!(matches!(begun, Err(Error::Unavailable(_))), "{begun:?}");
    }

    #[tokio::test]
    async fn nobody_else_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(folder.path().join("burble.db"));
        let _store = Store::connect(&url).await.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        }
    }
}
