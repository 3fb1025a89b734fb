//! Redis, as the load tool meets it: a server of its own, a meter of what one does, and how fast the bare round trip
//! is. The only code of the tool that speaks Redis.

mod server;
pub(crate) mod trip;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

pub(crate) use server::{Flush, RedisServer};

/// Counts the commands that a Redis carries out.
pub(crate) struct Meter {
    connection: MultiplexedConnection,
}

impl Meter {
    /// Connects to it.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        Ok(Self { connection: connect(url).await? })
    }

    /// How many so far, those inside scripts included, and this question too.
    pub(crate) async fn commands(&mut self) -> Result<u64> {
        let info: String = redis::cmd("INFO").arg("stats").query_async(&mut self.connection).await?;
        let field = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        field.and_then(|count| count.trim().parse().ok()).context("INFO has an unknown form")
    }
}

async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(url).with_context(|| format!("\"{url}\" is no address of a Redis"))?;
    client.get_multiplexed_async_connection().await.with_context(|| format!("no Redis answers at {url}"))
}
