//! Opens the database: pools with bounds, tables up to date, and nobody else in an SQLite file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use migrations::{Migrator, MigratorTrait};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPool};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, SqliteConnection};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait};
use tokio::time::timeout;
use uuid::Uuid;

use super::entity::installation;
use super::{StoreKind, StoreUrl};

/// How long a call may wait for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(3);
/// How long one statement may take on the server, and wait for a lock there. Less than a call may take, so that the cause
/// that is logged is the true one.
const STATEMENT_MAX: Duration = Duration::from_secs(4);
/// After how long Postgres ends a transaction whose node says nothing more, and frees what it had locked. Longer than a call
/// may take: a node that lives has ended it by then.
const IDLE_TRANSACTION_MAX: Duration = Duration::from_secs(10);
/// How long SQLite waits while another process, such as a backup, has the file.
const BUSY_MAX: Duration = Duration::from_secs(4);
/// How long tables may take to come up to date, another node's work on them included.
const MIGRATE_MAX: Duration = Duration::from_secs(600);
/// SQLite's readers. Each is a thread.
const SQLITE_READERS_MAX: u32 = 4;
/// The pages that each of them keeps. What is asked for again and again is remembered outside of the database.
const SQLITE_CACHE_KIB: u32 = 256;
/// A node's connections to Postgres; a server takes a hundred by default. More calls than these wait in a queue.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// A connection to Postgres that nobody needed for so long is closed.
const POSTGRES_IDLE_MAX: Duration = Duration::from_secs(600);
/// Nodes that start together change the tables one after the other: whoever has this lock of Postgres's ("burble").
const MIGRATION_LOCK: i64 = 0x6275_7262_6c65;
/// The row of `installation` that tells databases apart.
pub(super) const INSTALLATION_ID: &str = "id";

pub(super) struct Opened {
    pub(super) kind: StoreKind,
    pub(super) read: DatabaseConnection,
    pub(super) write: DatabaseConnection,
    pub(super) lock: Option<File>,
}

/// Opens it and brings its tables up to date.
pub(super) async fn open(database: &StoreUrl) -> anyhow::Result<Opened> {
    let opening = async {
        match database {
            StoreUrl::Sqlite(path) => {
                open_sqlite(path).await.with_context(|| format!("cannot open the database {}", path.display()))
            }
            StoreUrl::Postgres(url) => open_postgres(url).await.context("cannot open the Postgres database"),
        }
    };
    timeout(MIGRATE_MAX, opening).await.map_err(|_| anyhow!("the database was not ready within {MIGRATE_MAX:?}"))?
}

/// What tells this database from any other, made by whichever node asks first.
pub(super) async fn installation_id(db: &impl ConnectionTrait) -> anyhow::Result<Uuid> {
    let made = installation::ActiveModel { key: Set(INSTALLATION_ID.into()), value: Set(Uuid::new_v4().to_string()) };
    installation::Entity::insert(made).on_conflict_do_nothing().exec_without_returning(db).await?;
    let row = installation::Entity::find_by_id(INSTALLATION_ID).one(db).await?;
    let id = row.context("the database keeps no id of its own")?.value;
    id.parse().with_context(|| format!("the database's own id is no UUID: {id}"))
}

/// Opens one that is there and up to date, and locks and changes nothing.
pub(super) async fn beside(database: &StoreUrl) -> anyhow::Result<Opened> {
    let opened = match database {
        StoreUrl::Sqlite(path) => {
            ensure!(path.exists(), "there is no {} yet: the first start makes it, or `burble migrate`", path.display());
            let options = sqlite_options(path).create_if_missing(false);
            let write = sqlite_pool(options, 1).await?;
            Opened { kind: StoreKind::Sqlite, read: write.clone(), write, lock: None }
        }
        StoreUrl::Postgres(url) => {
            serve_postgres(postgres_options(url)?).await.context("Postgres cannot be reached")?
        }
    };
    let pending = Migrator::get_pending_migrations(&opened.write).await.context(
        "the tables are of a later version of Burble, or no Burble's; run the commands of the version that the nodes run",
    )?;
    let pending: Vec<_> = pending.iter().map(|migration| migration.name()).collect();
    ensure!(
        pending.is_empty(),
        "the tables are older than this version ({}): `burble migrate` first",
        pending.join(", ")
    );
    Ok(opened)
}

async fn open_sqlite(path: &Path) -> anyhow::Result<Opened> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let lock = lock(path)?;
    // Nobody else reads password hashes. What SQLite puts beside the file has the same mode.
    own_file(path).with_context(|| format!("cannot write {}", path.display()))?;
    let options = sqlite_options(path).optimize_on_close(true, None);
    // The writer first: it makes the tables.
    let write = sqlite_pool(options.clone(), 1).await?;
    Migrator::up(&write, None).await?;
    let read = sqlite_pool(options.pragma("query_only", "on"), SQLITE_READERS_MAX).await?;
    Ok(Opened { kind: StoreKind::Sqlite, read, write, lock: Some(lock) })
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_MAX)
        .foreign_keys(true)
        // Negative: kibibytes.
        .pragma("cache_size", format!("-{SQLITE_CACHE_KIB}"))
        .disable_statement_logging()
}

/// A lock beside the file, which the system lets go of when the process ends, however that happens.
fn lock(database: &Path) -> anyhow::Result<File> {
    let path = lock_path(database);
    let file = own_file(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another process serves this file. SQLite serves one node; use SERVER_DB=postgres://… for several")
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

pub(super) fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

/// The file, made for this account alone where there is none.
fn own_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

async fn sqlite_pool(options: SqliteConnectOptions, connections: u32) -> Result<DatabaseConnection, DbErr> {
    let pool: SqlitePool = PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_clean(connection)))
        .connect_with(options)
        .await
        .map_err(unreachable)?;
    Ok(pool.into())
}

/// Whether what was begun on the connection before has ended. Where SQLite itself has ended a transaction, as it does on a
/// full disk, the library takes it for one that goes on, and whatever came next would be a part of it that is never
/// committed. Such a connection is closed, which leaves nothing of it behind.
async fn is_clean(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // A rollback may still be under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn open_postgres(url: &str) -> anyhow::Result<Opened> {
    let options = postgres_options(url)?;
    migrate_postgres(options.clone()).await?;
    serve_postgres(options).await
}

async fn serve_postgres(options: PgConnectOptions) -> anyhow::Result<Opened> {
    let (statement_ms, idle_ms) = (STATEMENT_MAX.as_millis().to_string(), IDLE_TRANSACTION_MAX.as_millis().to_string());
    let pool: PgPool = PoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .idle_timeout(POSTGRES_IDLE_MAX)
        .connect_with(options.options([
            ("statement_timeout", &statement_ms),
            ("lock_timeout", &statement_ms),
            ("idle_in_transaction_session_timeout", &idle_ms),
        ]))
        .await
        .map_err(unreachable)?;
    let connections = DatabaseConnection::from(pool);
    Ok(Opened { kind: StoreKind::Postgres, read: connections.clone(), write: connections, lock: None })
}

/// The error of the parser may quote the URL, which may hold a password.
pub(super) fn postgres_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| anyhow!("the URL is not of the form postgres://user:password@host:port/database"))?;
    Ok(options.application_name("burble").disable_statement_logging())
}

/// On a connection of its own, which knows no time limit: a large table may take its time.
async fn migrate_postgres(options: PgConnectOptions) -> anyhow::Result<()> {
    let pool: PgPool = PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(unreachable)?;
    let connection = DatabaseConnection::from(pool);
    connection.execute_unprepared(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).await?;
    let migrated = Migrator::up(&connection, None).await;
    // The end of the connection is the end of the lock.
    connection.close().await?;
    Ok(migrated?)
}

fn unreachable(error: sea_orm::sqlx::Error) -> DbErr {
    DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into()))
}
