//! Where a command takes a secret from: a prompt, a file or standard input. Never its arguments, which every process sees.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::auth::{Password, Passwords};
use crate::config::Settings;
use crate::metrics::Metrics;

/// A longer secret is none: a password has at most 256 characters, a token 4 KiB.
const SECRET_BYTES_MAX: u64 = 8 * 1024;

/// How a new password comes in.
#[derive(Args)]
pub struct Source {
    /// The file with the password; `-` is standard input. Without it a prompt asks, or standard input is read where that is
    /// no terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Source {
    /// The hash of the password that it names.
    pub(super) async fn hash(&self, settings: &Settings) -> anyhow::Result<String> {
        let password = Password::chosen(self.read()?)?;
        let metrics = Metrics::new(&::metrics::NoopRecorder);
        Ok(Passwords::new(settings.auth.password_rounds, 1, 1, metrics)?.hash(password).await?)
    }

    fn read(&self) -> anyhow::Result<String> {
        match &self.password_file {
            Some(file) => secret(Some(file)),
            None if io::stdin().is_terminal() => {
                let password = rpassword::prompt_password("New password: ")?;
                ensure!(password == rpassword::prompt_password("Again: ")?, "these are two different passwords");
                Ok(password)
            }
            None => secret(None),
        }
    }
}

/// The one line of a file, or of standard input.
pub(super) fn secret(file: Option<&Path>) -> anyhow::Result<String> {
    let file = file.filter(|file| *file != Path::new("-"));
    let mut text = String::new();
    match file {
        Some(file) => {
            let opened = File::open(file).with_context(|| format!("{} cannot be opened", file.display()))?;
            opened.take(SECRET_BYTES_MAX).read_to_string(&mut text)?
        }
        None => io::stdin().take(SECRET_BYTES_MAX).read_to_string(&mut text)?,
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.contains('\n') {
        bail!("the secret has more than one line");
    }
    Ok(text.to_owned())
}
