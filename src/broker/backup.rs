//! Copies of the private Redis's append-only file, taken while it writes, and put back where there is none yet.
//!
//! The file is a folder: a manifest, and the parts that it names. Only the last part grows; all others are never
//! written again, and a rewrite, which makes new parts and removes old ones, replaces the manifest. So whatever was
//! copied between two looks at the same manifest belongs together. The copy may end in the midst of an entry, as after a
//! loss of power, and Redis leaves that out when it loads.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::embedded::{self, Embedded};
use super::keys::Keys;

/// What Redis calls the folder, and its manifest.
const FOLDER: &str = "appendonlydir";
const MANIFEST: &str = "appendonly.aof.manifest";
/// How often copying begins anew because a rewrite came in between. Rewrites are rare: each waits until the log has doubled.
const ATTEMPTS_MAX: usize = 5;

/// Copies the append-only file of the data folder into a new folder.
///
/// # Errors
/// Where it cannot be read or written.
pub async fn take(data_dir: &Path, to: &Path) -> anyhow::Result<()> {
    let (from, to) = (data_dir.join("redis").join(FOLDER), to.to_owned());
    spawn_blocking(move || {
        for _ in 0..ATTEMPTS_MAX {
            if copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))? {
                return Ok(());
            }
            fs::remove_dir_all(&to)?;
        }
        bail!("{} was rewritten {ATTEMPTS_MAX} times while it was copied; try again", from.display());
    })
    .await?
}

/// Puts a copy into an empty data folder, has Redis load it, and lets the logs go on in a new epoch: positions given out
/// after the backup must not be given out again.
///
/// # Errors
/// Where it cannot be written, or Redis does not load it.
pub async fn put_back(from: &Path, data_dir: &Path, fsync: bool, prefix: &str) -> anyhow::Result<()> {
    let redis = data_dir.join("redis");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&redis)?;
    let (from, to) = (from.to_owned(), redis.join(FOLDER));
    ensure!(spawn_blocking(move || copy(&from, &to)).await??, "the backup is changed while it is read");
    let redis = Embedded::start(data_dir, fsync).await?;
    let forgotten = forget_floors(redis.socket(), prefix).await;
    let stop = CancellationToken::new();
    stop.cancel();
    redis.watch(stop, || {}).await;
    forgotten
}

/// `false`: a rewrite came in between, and the copy is of no use.
fn copy(from: &Path, to: &Path) -> io::Result<bool> {
    let manifest = fs::read_to_string(from.join(MANIFEST))?;
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for part in parts(&manifest) {
        match own_copy(&from.join(part), &to.join(part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            done => done?,
        }
    }
    let own = to.join(MANIFEST);
    fs::write(&own, &manifest)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600))?;
    fs::File::open(&own)?.sync_all()?;
    fs::File::open(to)?.sync_all()?;
    Ok(fs::read_to_string(from.join(MANIFEST))? == manifest)
}

fn own_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
    fs::File::open(to)?.sync_all()
}

/// `file appendonly.aof.1.base.rdb seq 1 type b`, a line for each part; `h` is one that is to be removed.
fn parts(manifest: &str) -> impl Iterator<Item = &str> {
    manifest.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["file", name, "seq", _, "type", "b" | "i", ..] if !name.contains('/') => Some(name),
        _ => None,
    })
}

/// Without its floor, a feed takes the next node's connection for one to another primary, whatever the durability.
async fn forget_floors(socket: &Path, prefix: &str) -> anyhow::Result<()> {
    let installation = Keys::new(prefix, 0, false).installation();
    let shards = embedded::ask(socket, &format!("HGET {installation} feeds")).await?;
    let Ok(shards) = shards.parse() else {
        bail!("this backup is of another PUBSUB_PREFIX than {prefix}: Redis answers {shards} about its feeds")
    };
    let keys = Keys::new(prefix, shards, false);
    for state in keys.feeds().map(|feed| keys.state(feed)) {
        let answer = embedded::ask(socket, &format!("HDEL {state} floor")).await?;
        ensure!(answer.starts_with(':'), "Redis answers {answer}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_holds_what_the_manifest_names_and_is_none_if_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        let manifest =
            "file a.1.base.rdb seq 1 type b\nfile old seq 1 type h\nfile a.2.incr.aof seq 2 type i startoffset 4\n";
        fs::write(from.join(MANIFEST), manifest).unwrap();
        for part in ["a.1.base.rdb", "a.2.incr.aof", "old", "temp"] {
            fs::write(from.join(part), part).unwrap();
        }
        assert!(copy(&from, &to).unwrap());
        let mut copied: Vec<_> = fs::read_dir(&to).unwrap().map(|file| file.unwrap().file_name()).collect();
        copied.sort();
        assert_eq!(copied, ["a.1.base.rdb", "a.2.incr.aof", MANIFEST]);
        fs::remove_dir_all(&to).unwrap();
        fs::remove_file(from.join("a.1.base.rdb")).unwrap();
        assert!(!copy(&from, &to).unwrap());
    }
}
