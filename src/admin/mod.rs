//! What an operator does by command, beside nodes that run: accounts, channels, tokens, tables, backups. It speaks to the
//! database alone; what nodes have to hear of waits in the outbox, and whichever node lives announces it.

mod backup;
mod channels;
mod password;
mod tokens;
mod users;

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::model::TimeMs;
use crate::store::{Store, StoreUrl};

/// The most rows of one list.
const LIST_MAX: u64 = 10_000;

/// What an operator may ask for.
#[derive(Subcommand)]
pub enum Command {
    /// Bring the tables of the database up to date, and start nothing.
    ///
    /// A start does the same. An SQLite file that a node serves is refused: stop the node first.
    Migrate,
    /// Accounts: add, password, disable, enable, list.
    #[command(subcommand)]
    User(users::Command),
    /// Channels: list, delete.
    #[command(subcommand)]
    Channel(channels::Command),
    /// Access tokens: issue, inspect.
    #[command(subcommand)]
    Token(tokens::Command),
    /// Copy everything into a new folder, while nodes run.
    #[command(after_help = backup::EXAMPLES)]
    Backup {
        /// The folder to make; it must not be there yet.
        folder: PathBuf,
    },
    /// Put a backup where nothing is yet, and have the logs go on in a new epoch.
    #[command(after_help = backup::EXAMPLES)]
    Restore {
        /// The folder that a backup made.
        folder: PathBuf,
    },
}

/// What a command has to say, to people and to programs.
#[derive(Debug)]
pub struct Answer {
    /// Lines.
    pub text: String,
    /// The same as one document.
    pub json: Value,
}

impl Answer {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json }
    }
}

/// Does it.
///
/// # Errors
/// What kept it from being done, with what to do about it. Nothing was changed then, unless it says so.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<Answer> {
    let database = StoreUrl::from(&settings.server.db);
    match command {
        Command::Migrate => {
            Store::connect(&database).await?.close().await;
            Ok(Answer::new("The tables are up to date.", json!({ "up_to_date": true })))
        }
        Command::Restore { folder } => backup::restore(settings, &database, &folder).await,
        command => {
            let store = Store::beside(&database).await?;
            let answer = match command {
                Command::User(command) => users::run(settings, &store, command).await,
                Command::Channel(command) => channels::run(&store, command).await,
                Command::Token(command) => tokens::run(settings, &store, command).await,
                Command::Backup { folder } => backup::take(settings, &store, &database, &folder).await,
                Command::Migrate | Command::Restore { .. } => unreachable!("done above"),
            };
            store.close().await;
            answer
        }
    }
}

/// As people read it: `2026-11-24T02:22:24Z`.
fn shown(at: TimeMs) -> String {
    let since = Duration::from_millis(at.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
