//! Channels: listed and deleted, whoever owns them.

use std::fmt::Write;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use super::users::cause;
use super::{Answer, LIST_MAX, shown};
use crate::model::{ChannelKind, ChannelName};
use crate::store::Store;

/// What can be done to channels.
#[derive(Subcommand)]
pub enum Command {
    /// List channels, public and private, by name.
    List {
        /// Begin behind this name.
        #[arg(long, value_name = "NAME")]
        after: Option<ChannelName>,
        /// How many at most.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=LIST_MAX))]
        limit: u64,
    },
    /// Delete a channel with its history, on every node. The name is free once a node has done so.
    Delete {
        /// Which.
        name: ChannelName,
        /// Do it: there is no way back.
        #[arg(long, required = true)]
        yes: bool,
    },
}

pub(super) async fn run(store: &Store, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::List { after, limit } => list(store, after.as_ref(), limit).await,
        Command::Delete { name, .. } => {
            let found = store.channels().by_name(&name).await.map_err(cause)?;
            let channel = found.with_context(|| format!("there is no channel {name}"))?;
            let _announced_by_a_node = store.channels().delete_by_operator(channel.id).await.map_err(cause)?;
            let text = format!("{name} is deleted; nodes hear of it, and remove its history, within seconds.");
            Ok(Answer::new(text, json!({ "channel": name })))
        }
    }
}

async fn list(store: &Store, after: Option<&ChannelName>, limit: u64) -> anyhow::Result<Answer> {
    let channels = store.channels().list(after, limit).await.map_err(cause)?;
    let mut text = String::new();
    for channel in &channels {
        let kind = if channel.kind == ChannelKind::Private { "private" } else { "public " };
        let _ = writeln!(text, "{:<64}  {kind}  {}", channel.name.as_str(), shown(channel.created_at));
    }
    let rows = channels.iter().map(|channel| {
        json!({ "id": channel.id, "name": channel.name, "kind": channel.kind, "created_at": channel.created_at })
    });
    Ok(Answer::new(text.trim_end(), json!({ "channels": rows.collect::<Vec<_>>() })))
}
