//! Looks at the database beside the nodes that use it: reads only, waits for nobody, and makes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use migrations::{Migrator, MigratorTrait};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::PgPool;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sea_orm::sqlx::{ConnectOptions, Connection};
use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, Statement, TryGetable};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::StoreUrl;
use super::connect::{INSTALLATION_ID, lock_path, postgres_options};
use super::entity::installation;
use crate::clock;
use crate::finding::Finding;

/// How long opening the database and asking it everything may take.
const EXAMINE_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Questions whose median is told.
const PINGS: usize = 9;
/// A median beyond this is felt at sign-in and by whoever comes to a channel first.
const PING_SLOW: Duration = Duration::from_millis(20);
/// As for the clock of Redis.
const CLOCK_WARNING_MS: u64 = 1_000;
const CLOCK_FAILURE_MS: u64 = 60_000;
/// A node's connections: a Postgres with fewer free ones turns the next node away.
const CONNECTIONS_OF_A_NODE: i64 = 16;
/// The oldest Postgres that the tests run on.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// What there is to say, and the database's own id where it has one.
pub async fn examine(database: &StoreUrl) -> (Vec<Finding>, Option<Uuid>) {
    let mut seen = Seen::default();
    let looked = timeout(EXAMINE_MAX, async {
        match database {
            StoreUrl::Sqlite(path) => seen.sqlite(path).await,
            StoreUrl::Postgres(url) => seen.postgres(url).await,
        }
    });
    let why = match looked.await {
        Ok(Ok(())) => return (seen.findings, seen.installation),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("no answer within {EXAMINE_MAX:?}"),
    };
    let remedy = match database {
        StoreUrl::Sqlite(_) => "see that the file belongs to the account that runs Burble, and is no other program's",
        StoreUrl::Postgres(_) => "start it, open the way to it, or mend SERVER_DB: psql with the same URL says more",
    };
    seen.findings.push(Finding::failure("database", why, remedy));
    (seen.findings, seen.installation)
}

#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    installation: Option<Uuid>,
}

impl Seen {
    async fn sqlite(&mut self, path: &Path) -> anyhow::Result<()> {
        if !path.exists() {
            let found = format!("there is no {} yet", path.display());
            self.findings.push(Finding::note("database", found, "the first start makes it"));
            return Ok(());
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
        let pool: SqlitePool =
            PoolOptions::new().max_connections(1).connect_with(options).await.context("it cannot be opened")?;
        let db = DatabaseConnection::from(pool);
        self.findings.push(match holder(path) {
            Some(pid) => Finding::note(
                "database",
                format!("{} is served by process {pid}", path.display()),
                "nothing to do; a second node needs SERVER_DB=postgres://…",
            ),
            None => Finding::ok("database", format!("{}, which no node serves now", path.display())),
        });
        self.tables(&db).await?;
        let mode: String = ask(&db, "PRAGMA journal_mode").await?;
        self.findings.push(if mode == "wal" {
            Finding::ok("database journal", "wal; each node sets synchronous=NORMAL for itself")
        } else {
            let remedy = "the next start sets it; see that no other program opens the file";
            Finding::warning("database journal", format!("{mode}: readers and the writer wait for each other"), remedy)
        });
        db.close().await?;
        Ok(())
    }

    async fn postgres(&mut self, url: &str) -> anyhow::Result<()> {
        let options = postgres_options(url)?;
        // Once by itself: a pool tries again for as long as it may, and then forgets why.
        let first = timeout(CONNECT_MAX, options.connect()).await;
        let first = first.map_err(|_| anyhow!("no answer within {CONNECT_MAX:?}")).and_then(|first| Ok(first?));
        first.context("it cannot be reached")?.close().await?;
        let pool = PoolOptions::new().max_connections(1).acquire_timeout(EXAMINE_MAX);
        let pool: PgPool = pool.connect_with(options).await.context("it cannot be reached")?;
        let db = DatabaseConnection::from(pool);
        self.server(&db).await?;
        self.tables(&db).await?;
        db.close().await?;
        Ok(())
    }

    async fn server(&mut self, db: &DatabaseConnection) -> anyhow::Result<()> {
        let version: String = ask(db, "SELECT current_setting('server_version')").await?;
        let major: u32 = version.split(['.', ' ']).next().unwrap_or_default().parse().unwrap_or(0);
        self.findings.push(if major >= POSTGRES_MAJOR_MIN {
            Finding::ok("database", format!("Postgres {version}"))
        } else {
            let remedy = format!("Burble is tested on {POSTGRES_MAJOR_MIN} and later");
            Finding::warning("database", format!("Postgres {version} is old"), remedy)
        });
        let replica: bool = ask(db, "SELECT pg_is_in_recovery()").await?;
        if replica {
            let remedy = "name the primary in SERVER_DB, or add target_session_attrs=read-write to it";
            self.findings.push(Finding::failure("database role", "a replica, which takes no writes", remedy));
        }
        let before = clock::now_ms();
        let there: i64 = ask(db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await?;
        let ahead = there - (before + clock::now_ms()) / 2;
        let (found, remedy) =
            (format!("{ahead} ms ahead of this machine's"), "have both keep the time: timedatectl set-ntp true");
        self.findings.push(match ahead.unsigned_abs() {
            ms if ms > CLOCK_FAILURE_MS => Finding::failure("database clock", found, remedy),
            ms if ms > CLOCK_WARNING_MS => Finding::warning("database clock", found, remedy),
            _ => Finding::ok("database clock", found),
        });
        let used: i64 = ask(db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").await?;
        let max: i64 = ask(db, "SELECT current_setting('max_connections')::bigint").await?;
        let found = format!("{used} of {max} connections are in use");
        self.findings.push(if max - used >= CONNECTIONS_OF_A_NODE {
            Finding::ok("database connections", found)
        } else {
            let remedy = format!("a node needs {CONNECTIONS_OF_A_NODE}: raise max_connections in postgresql.conf");
            Finding::warning("database connections", found, remedy)
        });
        Ok(())
    }

    /// Latency, migrations, and the id, on either kind.
    async fn tables(&mut self, db: &DatabaseConnection) -> anyhow::Result<()> {
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            db.execute_unprepared("SELECT 1").await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let found = format!("a question takes {:.2} ms (median)", times[PINGS / 2].as_secs_f64() * 1_000.0);
        self.findings.push(if times[PINGS / 2] <= PING_SLOW {
            Finding::ok("database latency", found)
        } else {
            Finding::warning("database latency", found, "move it nearer to the nodes, or see what it is busy with")
        });
        let rows = Statement::from_string(db.get_database_backend(), "SELECT version FROM seaql_migrations");
        // Where the table is missing, nothing has been done yet.
        let rows = db.query_all_raw(rows).await.unwrap_or_default();
        let done = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<Vec<_>, _>>()?;
        let known: Vec<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
        let missing = |of: &[String], from: &[String]| {
            of.iter().filter(|name| !from.contains(name)).cloned().collect::<Vec<_>>().join(", ")
        };
        let (pending, foreign) = (missing(&known, &done), missing(&done, &known));
        self.findings.push(if !foreign.is_empty() {
            let remedy = "run that version, or go back to a backup from before it";
            Finding::failure("database tables", format!("of a later version of Burble: {foreign}"), remedy)
        } else if !pending.is_empty() {
            Finding::note("database tables", format!("pending: {pending}"), "the next start brings them up to date")
        } else {
            Finding::ok("database tables", format!("up to date, {} migrations", done.len()))
        });
        if !done.is_empty() {
            let row = installation::Entity::find_by_id(INSTALLATION_ID).one(db).await?;
            self.installation = row.and_then(|row| row.value.parse().ok());
        }
        Ok(())
    }
}

async fn ask<T: TryGetable>(db: &DatabaseConnection, question: &str) -> anyhow::Result<T> {
    let question = Statement::from_string(db.get_database_backend(), question);
    let row = db.query_one_raw(question).await?.context("the database gave no answer")?;
    Ok(row.try_get_by_index(0)?)
}

/// The process that holds the lock of the file, as the kernel lists it: to try the lock could turn a node away that starts
/// at that moment. `12: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`
fn holder(database: &Path) -> Option<u32> {
    let inode = format!(":{}", fs::metadata(lock_path(database)).ok()?.ino());
    fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let [_, "FLOCK", _, _, pid, file, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        file.ends_with(&inode).then(|| pid.parse().ok())?
    })
}
