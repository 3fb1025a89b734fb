//! Secrets: a type that shows nothing, and the key that access tokens are signed with.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::{fmt, process};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use tracing::{info, warn};

use super::{Environment, Settings};

/// The shortest key that signs tokens, in bytes: as long as the hash of HS256.
pub const SECRET_BYTES_MIN: usize = 32;
/// How many random bytes a key has that is made here.
const SECRET_BYTES_MADE: usize = 48;
/// Where a key that is made here is kept, below the data folder.
pub const KEY_FILE: &str = "auth.key";

/// A text that logs, errors and `burble check-config` never show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A new one, from the system's random numbers.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; SECRET_BYTES_MADE];
        getrandom::fill(&mut bytes).context("the system has no random numbers")?;
        Ok(Self(STANDARD.encode(bytes).into()))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("***")
    }
}

/// The key that signs access tokens: `AUTH_SECRET` where it is set; with the embedded Redis one that is made on first
/// start and kept in the data folder; in development one that lives as long as the process. Else an error.
pub fn auth_secret(settings: &Settings) -> anyhow::Result<Secret> {
    if let Some(secret) = &settings.auth.secret {
        return Ok(secret.clone());
    }
    if settings.pubsub.is_embedded() {
        return kept_secret(&settings.data_dir);
    }
    ensure!(settings.env == Environment::Development, "{}", super::SECRET_MISSING);
    warn!("AUTH_SECRET is not set: tokens are signed with a key that ends with this process");
    Secret::random()
}

/// The key in `dir`, made if there is none. Of several nodes that start at once, all get the same.
fn kept_secret(dir: &Path) -> anyhow::Result<Secret> {
    let path = dir.join(KEY_FILE);
    match File::open(&path) {
        Ok(file) => read_key(file, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_key(dir, &path).with_context(|| format!("{} cannot be made", path.display()))?;
            read_key(File::open(&path)?, &path)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be opened", path.display())),
    }
}

fn read_key(file: File, path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let mode = file.metadata()?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read {shown}, so it is no secret; remove it, or: chmod 600 {shown}");
    let text = std::io::read_to_string(file).with_context(|| format!("{shown} cannot be read"))?;
    let key = text.trim_end();
    ensure!(key.len() >= SECRET_BYTES_MIN, "{shown} holds less than {SECRET_BYTES_MIN} bytes; remove it for a new one");
    Ok(key.into())
}

/// Writes the key beside its place and links it there: readers see all of it or nothing, and the first link stands.
fn make_key(dir: &Path, path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let secret = Secret::random()?;
    let unique = Secret::random()?.expose()[..8].replace('/', "-");
    let draft = dir.join(format!("{KEY_FILE}.{}.{unique}", process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked =
        writeln!(file, "{}", secret.expose()).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => {
            File::open(dir)?.sync_all()?;
            info!(file = %path.display(), "Token key made");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nodes_that_start_at_once_share_the_key_that_was_made_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let starts: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn({
                    let data = data.clone();
                    move || kept_secret(&data)
                })
            })
            .collect();
        let keys: Vec<_> = starts.into_iter().map(|start| start.join().unwrap().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(kept_secret(&data).unwrap(), keys[0]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        assert_eq!(fs::metadata(data.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        kept_secret(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(KEY_FILE), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(kept_secret(dir.path()).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_key_that_is_too_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        make_key(dir.path(), &dir.path().join(KEY_FILE)).unwrap();
        fs::write(dir.path().join(KEY_FILE), "short").unwrap();
        assert!(kept_secret(dir.path()).unwrap_err().to_string().contains("less than 32 bytes"));
    }

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }
}
