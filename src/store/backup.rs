//! Copies of the database, taken beside the nodes that use it, and put back where there is none yet.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::process::Command;
use tokio::time::timeout;
use url::Url;

use super::{Store, StoreKind, StoreUrl, connect, transfer};

/// The names of the copies within a backup.
const SQLITE_COPY: &str = "burble.db";
const POSTGRES_COPY: &str = "postgres.dump";
/// How long copying may take, or putting back.
const COPY_MAX: Duration = Duration::from_secs(3_600);

/// Copies the database into a folder, as it stands at one moment, and has the copy checked.
///
/// # Errors
/// Where it cannot be read, the copy is not sound, or `pg_dump` is missing.
pub async fn take(store: &Store, database: &StoreUrl, folder: &Path) -> anyhow::Result<()> {
    let copying = async {
        match database {
            StoreUrl::Sqlite(_) => copy_sqlite(store, &folder.join(SQLITE_COPY)).await,
            StoreUrl::Postgres(url) => {
                let file = own_path(&folder.join(POSTGRES_COPY))?;
                run("pg_dump", &[OsStr::new("--format=custom"), OsStr::new("--file"), file.as_os_str()], url).await
            }
        }
    };
    timeout(COPY_MAX, copying).await.map_err(|_| anyhow!("the database was not copied within {COPY_MAX:?}"))?
}

/// Puts a copy where no database is yet; one of SQLite may go into Postgres.
///
/// # Errors
/// Where there is one already, or the backup holds none of this kind.
pub async fn put_back(database: &StoreUrl, folder: &Path) -> anyhow::Result<()> {
    let putting = async {
        match database {
            StoreUrl::Sqlite(path) => put_back_sqlite(&folder.join(SQLITE_COPY), path).await,
            StoreUrl::Postgres(_) if is_sqlite(folder) => move_to_postgres(&folder.join(SQLITE_COPY), database).await,
            StoreUrl::Postgres(url) => put_back_postgres(&folder.join(POSTGRES_COPY), url).await,
        }
    };
    timeout(COPY_MAX, putting).await.map_err(|_| anyhow!("the database was not put back within {COPY_MAX:?}"))?
}

/// Whether the backup holds a database that can go where the settings say, and no file is there yet.
///
/// # Errors
/// Says which of the two.
pub fn fits(database: &StoreUrl, folder: &Path) -> anyhow::Result<()> {
    let copy = match database {
        StoreUrl::Sqlite(path) => {
            ensure!(!path.exists(), "{} is there already: restore goes into an empty place", path.display());
            SQLITE_COPY
        }
        StoreUrl::Postgres(_) if is_sqlite(folder) => SQLITE_COPY,
        StoreUrl::Postgres(_) => POSTGRES_COPY,
    };
    ensure!(folder.join(copy).is_file(), "{} holds no {copy}; SERVER_DB names the other kind", folder.display());
    Ok(())
}

fn is_sqlite(folder: &Path) -> bool {
    folder.join(SQLITE_COPY).is_file()
}

async fn copy_sqlite(store: &Store, file: &Path) -> anyhow::Result<()> {
    ensure!(store.kind() == StoreKind::Sqlite, "this is no SQLite file");
    let file = own_path(file)?;
    let quoted = file.to_str().context("the path of the backup is no text")?.replace('\'', "''");
    store.write().execute_unprepared(&format!("VACUUM INTO '{quoted}'")).await.context("VACUUM INTO failed")?;
    check_sqlite(&file).await?;
    fs::File::open(&file)?.sync_all()?;
    Ok(())
}

/// The absolute path of an empty file that nobody else reads: the copy holds password hashes.
fn own_path(file: &Path) -> anyhow::Result<std::path::PathBuf> {
    let made = fs::File::options().create_new(true).write(true).mode(0o600).open(file);
    made.with_context(|| format!("cannot make {}", file.display()))?;
    Ok(std::path::absolute(file)?)
}

/// A copy, which nobody writes.
async fn open_copy(file: &Path) -> anyhow::Result<DatabaseConnection> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).disable_statement_logging();
    let pool: SqlitePool = PoolOptions::new().max_connections(1).connect_with(options).await?;
    Ok(pool.into())
}

async fn check_sqlite(file: &Path) -> anyhow::Result<()> {
    let db = open_copy(file).await?;
    let found = db.query_all_raw(Statement::from_string(db.get_database_backend(), "PRAGMA integrity_check")).await?;
    let found = found.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<Vec<_>, _>>()?;
    db.close().await?;
    ensure!(found == ["ok"], "{} is not sound: {}", file.display(), found.join("; "));
    Ok(())
}

async fn put_back_sqlite(copy: &Path, path: &Path) -> anyhow::Result<()> {
    check_sqlite(copy).await?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut to = fs::File::options().create_new(true).write(true).mode(0o600).open(path)?;
    std::io::copy(&mut fs::File::open(copy)?, &mut to)?;
    to.set_permissions(fs::Permissions::from_mode(0o600))?;
    to.sync_all()?;
    Ok(())
}

async fn move_to_postgres(copy: &Path, database: &StoreUrl) -> anyhow::Result<()> {
    check_sqlite(copy).await?;
    let (file, postgres) = (open_copy(copy).await?, connect::open(database).await?.write);
    let moved = transfer::to_postgres(&file, &postgres).await;
    file.close().await?;
    postgres.close().await?;
    moved
}

/// In one transaction, which fails where a table of a backup is there already.
async fn put_back_postgres(copy: &Path, url: &str) -> anyhow::Result<()> {
    let (_, named) = without_password(url)?;
    let named = format!("--dbname={named}");
    let arguments = ["--single-transaction", "--exit-on-error", "--no-owner", &named].map(OsStr::new);
    run("pg_restore", &[&arguments[..], &[copy.as_os_str()]].concat(), url).await
}

/// The password goes by the environment: everybody may read the arguments of a process.
async fn run(program: &str, arguments: &[&OsStr], url: &str) -> anyhow::Result<()> {
    let (password, named) = without_password(url)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if program == "pg_dump" {
        command.arg(format!("--dbname={named}"));
    }
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let done = command.output().await.with_context(|| {
        format!("{program} cannot be run: install the clients of PostgreSQL, or back Postgres up by its own means")
    })?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} failed: {}", said.trim());
    Ok(())
}

fn without_password(url: &str) -> anyhow::Result<(Option<String>, Url)> {
    // The error of the parser may quote the URL.
    let mut named = Url::parse(url).map_err(|_| anyhow!("SERVER_DB is no URL"))?;
    let password = named.password().map(|text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into());
    named.set_password(None).map_err(|()| anyhow!("SERVER_DB names no host"))?;
    let (inner, query): (Vec<_>, Vec<_>) =
        named.query_pairs().into_owned().partition(|(name, _)| name.eq_ignore_ascii_case("password"));
    if !inner.is_empty() {
        named.query_pairs_mut().clear().extend_pairs(query);
    }
    Ok((password.or(inner.into_iter().next().map(|(_, password)| password)), named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_among_the_arguments() {
        for (url, password, named) in [
            ("postgres://ann:s%20e@db/x", Some("s e"), "postgres://ann@db/x"),
            ("postgres://ann@db/x?password=se&sslmode=require", Some("se"), "postgres://ann@db/x?sslmode=require"),
            ("postgres://ann@db/x?host=%2Frun", None, "postgres://ann@db/x?host=%2Frun"),
        ] {
            let (found, shown) = without_password(url).unwrap();
            assert_eq!((found.as_deref(), shown.as_str()), (password, named));
        }
    }
}
