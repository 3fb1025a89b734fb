//! Accounts: made, given another password, disabled, enabled, listed.

use std::fmt::Write;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;

use super::{Answer, LIST_MAX, password, shown};
use crate::clock;
use crate::config::Settings;
use crate::model::{UserId, UserName};
use crate::store::{NewUser, Outgoing, Store};

const EXAMPLES: &str = "\
Examples:
  burble user add ann                               asks for the password
  burble user add ann --password-file ann.txt
  pwgen 20 1 | tee ann.txt | burble user add ann    from standard input";

/// What can be done to accounts.
#[derive(Subcommand)]
pub enum Command {
    /// Make an account.
    #[command(after_help = EXAMPLES)]
    Add {
        /// Its name.
        name: UserName,
        #[command(flatten)]
        password: password::Source,
    },
    /// Give an account another password, and sign it out everywhere.
    Password {
        /// Whose.
        name: UserName,
        #[command(flatten)]
        password: password::Source,
    },
    /// Let an account sign in no more, and close its sessions on every node (4403).
    Disable {
        /// Whose.
        name: UserName,
    },
    /// Let a disabled account sign in again.
    Enable {
        /// Whose.
        name: UserName,
    },
    /// List accounts, by name.
    List {
        /// Begin behind this name.
        #[arg(long, value_name = "NAME")]
        after: Option<UserName>,
        /// How many at most.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=LIST_MAX))]
        limit: u64,
    },
}

pub(super) async fn run(settings: &Settings, store: &Store, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Add { name, password } => add(store, &name, &password.hash(settings).await?).await,
        Command::Password { name, password } => {
            let hash = password.hash(settings).await?;
            let ended = store.users().set_password(&name, &hash, clock::now_ms()).await.map_err(cause)?;
            Ok(signed_out("has a new password", &name, &ended.with_context(|| unknown(&name))?))
        }
        Command::Disable { name } => {
            let ended = store.users().disable(&name, clock::now_ms()).await.map_err(cause)?;
            Ok(signed_out("is disabled", &name, &ended.with_context(|| unknown(&name))?))
        }
        Command::Enable { name } => {
            if !store.users().enable(&name).await.map_err(cause)? {
                bail!(unknown(&name));
            }
            Ok(Answer::new(format!("{name} may sign in."), json!({ "user": name })))
        }
        Command::List { after, limit } => list(store, after.as_ref(), limit).await,
    }
}

async fn add(store: &Store, name: &UserName, password_hash: &str) -> anyhow::Result<Answer> {
    let user = NewUser { id: UserId::new(), name, password_hash, created_at: clock::now_ms() };
    if !store.users().add(user).await.map_err(cause)? {
        bail!("the name {name} is taken");
    }
    Ok(Answer::new(format!("{name} may sign in."), json!({ "user": name, "created_at": user.created_at })))
}

async fn list(store: &Store, after: Option<&UserName>, limit: u64) -> anyhow::Result<Answer> {
    let accounts = store.users().list(after, limit).await.map_err(cause)?;
    let mut text = String::new();
    for account in &accounts {
        let disabled = account.disabled_at.map(|at| format!("  disabled {}", shown(at))).unwrap_or_default();
        let _ = writeln!(text, "{:<32}  {}{disabled}", account.user.name.as_str(), shown(account.user.created_at));
    }
    let rows = accounts.iter().map(|account| {
        let user = &account.user;
        json!({ "id": user.id, "name": user.name, "created_at": user.created_at, "disabled_at": account.disabled_at })
    });
    Ok(Answer::new(text.trim_end(), json!({ "users": rows.collect::<Vec<_>>() })))
}

/// Some sign-ins have ended: nodes that live hear of it.
fn signed_out(what: &str, name: &UserName, ended: &[Outgoing]) -> Answer {
    let sign_ins: usize = ended.iter().map(Outgoing::sign_ins).sum();
    let text = format!("{name} {what}; {sign_ins} sign-ins have ended, which nodes hear within seconds.");
    Answer::new(text, json!({ "user": name, "sign_ins_ended": sign_ins }))
}

pub(super) fn unknown(name: &UserName) -> String {
    format!("there is no user {name}")
}

/// What really happened: the operator is no client.
pub(super) fn cause(error: crate::error::Error) -> anyhow::Error {
    match error.cause() {
        Some(cause) => anyhow::anyhow!("{cause:#}"),
        None => error.into(),
    }
}
