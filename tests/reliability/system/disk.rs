//! A disk so small that it can be filled: a tmpfs, which only root may mount.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::Impossible;

/// Mounts and says so; once the pipe to this shell closes, unmounts, even what is still in use.
const SCRIPT: &str = r#"mount -t tmpfs -o "size=$1" burble "$2" && echo mounted && read _; umount -l "$2""#;
const BALLAST: &str = "ballast";
/// Written at a time, until nothing more fits.
const PIECE: [u8; 4096] = [0; 4096];

/// A mounted disk. It is gone when this is dropped or the process ends.
pub(crate) struct SmallDisk {
    path: PathBuf,
    shell: Child,
}

impl SmallDisk {
    /// Mounts one below `folder`; an error where this is not allowed.
    pub(crate) fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        let path = folder.join("disk");
        fs::create_dir_all(&path)?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "disk", &bytes.to_string()])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut said = [0; 8];
        let out = shell.stdout.as_mut().context("it is piped")?;
        let mounted = std::io::Read::read_exact(out, &mut said).is_ok();
        let disk = Self { path, shell };
        if !mounted {
            let why = "a small disk cannot be mounted here: mounting a tmpfs takes root, with CAP_SYS_ADMIN";
            return Err(Impossible(why.into()).into());
        }
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all that is free.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.path.join(BALLAST))?;
        while ballast.write_all(&PIECE).is_ok() {}
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join(BALLAST))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
