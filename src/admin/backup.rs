//! Everything into one folder, and back: the database, the log of the private Redis, the token key.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::json;

use super::Answer;
use crate::broker;
use crate::config::{Durability, KEY_FILE, Settings};
use crate::store::{self, Store, StoreKind, StoreUrl};

pub(super) const EXAMPLES: &str = "\
A backup holds the database (SQLite: a checked copy; Postgres: what pg_dump makes), and, of the private Redis, its
append-only file and the token key. A Redis of your own is backed up by its own means.

A backup with an SQLite file can be restored into an empty Postgres: that is how one node becomes several.

Examples:
  burble backup /var/backups/burble-2026-11-24
  DATA_DIR=/var/lib/burble burble restore /var/backups/burble-2026-11-24    into an empty folder, Burble stopped
  SERVER_DB=postgres://… PUBSUB_SERVER_HOST=… burble restore …              into an empty Postgres";

/// The append-only file of the private Redis within a backup.
const LOG: &str = "appendonlydir";

pub(super) async fn take(
    settings: &Settings,
    store: &Store,
    database: &StoreUrl,
    folder: &Path,
) -> anyhow::Result<Answer> {
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let draft = beside(folder);
    make(&draft).with_context(|| format!("cannot make {}; is it left of a backup that broke off?", draft.display()))?;
    let taken = fill(settings, store, database, &draft).await;
    if let Err(error) = taken {
        let _ = fs::remove_dir_all(&draft);
        return Err(error);
    }
    // Under its name it is whole.
    fs::rename(&draft, folder)?;
    let database = if store.kind() == StoreKind::Sqlite { "sqlite" } else { "postgres" };
    let log = settings.pubsub.is_embedded();
    let rest = if log { "" } else { " The Redis at PUBSUB_SERVER_HOST is not in it: back it up by its own means." };
    let text = format!("The backup is in {}.{rest}", folder.display());
    Ok(Answer::new(text, json!({ "folder": folder, "database": database, "log": log })))
}

/// The database first: a message of a channel that it does not know is out of reach, and does no harm.
async fn fill(settings: &Settings, store: &Store, database: &StoreUrl, folder: &Path) -> anyhow::Result<()> {
    store::backup::take(store, database, folder).await?;
    if settings.pubsub.is_embedded() {
        broker::backup::take(&settings.data_dir, &folder.join(LOG)).await?;
        let key = settings.data_dir.join(KEY_FILE);
        if key.exists() {
            copy_key(&key, &folder.join(KEY_FILE))?;
        }
    }
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

pub(super) async fn restore(settings: &Settings, database: &StoreUrl, folder: &Path) -> anyhow::Result<Answer> {
    store::backup::fits(database, folder)?;
    let data = &settings.data_dir;
    let (log, key) = (folder.join(LOG), folder.join(KEY_FILE));
    let embedded = settings.pubsub.is_embedded();
    if embedded {
        let empty = fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
        ensure!(empty, "{} is not empty: restore goes into an empty place", data.display());
        ensure!(log.is_dir(), "{} holds no {LOG}: it was taken beside a Redis of its own", folder.display());
    }
    let restoring = async {
        if embedded {
            let fsync = settings.pubsub.durability == Durability::Fsync;
            broker::backup::put_back(&log, data, fsync, &settings.pubsub.prefix).await?;
            if key.exists() {
                copy_key(&key, &data.join(KEY_FILE))?;
            }
        }
        store::backup::put_back(database, folder).await
    };
    restoring.await.context("only a part was put back: empty the place, and try again")?;
    let rest = match (embedded, log.is_dir()) {
        (true, _) => "Logs go on in a new epoch.",
        (false, true) => {
            "Its log is to be put into the folder of your Redis before that starts; its auth.key is AUTH_SECRET."
        }
        (false, false) => "The Redis at PUBSUB_SERVER_HOST was left alone.",
    };
    let text = format!("{} is put back. {rest}", folder.display());
    Ok(Answer::new(text, json!({ "folder": folder, "log": embedded })))
}

fn beside(folder: &Path) -> PathBuf {
    let mut draft = folder.as_os_str().to_owned();
    draft.push(".partial");
    draft.into()
}

fn make(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)
}

fn copy_key(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
    fs::File::open(to)?.sync_all()?;
    Ok(())
}
