//! Looks at Redis from time to time, so that it shows in the metrics before it shows in the answers.

use std::time::Duration;

use anyhow::Context;
use tracing::debug;

use super::janitor::every;
use super::{Broker, setup};

/// How often each feed's length and each server's own figures are read: as often as Prometheus mostly asks.
const INTERVAL: Duration = Duration::from_secs(15);
/// What Redis says of its last write, rewrite and snapshot; each is `ok`, or missing where there was none.
const WRITES: [&str; 3] = ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"];

pub(super) async fn watch(broker: Broker) {
    let entries_max = broker.shared.options.feed_entries_max;
    broker.shared.metrics.feed_entries_max.set(entries_max as f64);
    let mut ticks = every(INTERVAL);
    loop {
        ticks.tick().await;
        // That Redis is away, the canary warns of.
        if let Err(error) = look(&broker).await {
            debug!(error = format!("{error:#}"), "Redis could not be looked at");
        }
    }
}

async fn look(broker: &Broker) -> anyhow::Result<()> {
    look_at_feeds(broker).await.context("the feeds")?;
    look_at_servers(broker).await.context("the servers")
}

/// The longest feed, and the one in which this node is furthest behind.
async fn look_at_feeds(broker: &Broker) -> anyhow::Result<()> {
    let shared = &broker.shared;
    let (mut longest, mut unread) = (0, 0);
    for feed in shared.keys.feeds() {
        let mut connection = shared.servers.pooled(shared.keys.slot(feed)).await?;
        let mut ask = redis::pipe();
        ask.cmd("XLEN").arg(shared.keys.feed(feed)).cmd("HGET").arg(shared.keys.state(feed)).arg("seq");
        let (length, newest): (u64, Option<u64>) = ask.query_async(&mut connection).await?;
        longest = longest.max(length);
        // 0 is a place that is being looked for anew.
        let handled = shared.heard[feed.0].number();
        if handled > 0 {
            unread = unread.max(newest.unwrap_or(0).saturating_sub(handled));
        }
    }
    shared.metrics.feed_entries.set(longest as f64);
    shared.metrics.feed_unread_entries.set(unread as f64);
    Ok(())
}

/// The server that has the least memory left, and whether all could write.
async fn look_at_servers(broker: &Broker) -> anyhow::Result<()> {
    let shared = &broker.shared;
    let (mut used, mut max, mut writes) = (0, 0, true);
    for place in setup::primaries(&shared.servers, &shared.keys).await? {
        let info = setup::info(&shared.servers, &place).await?;
        let (its_used, (its_max, _)) = (info.number("used_memory"), info.memory_max());
        // By cross-multiplication: which part is taken.
        if max == 0 || u128::from(its_used) * u128::from(max) > u128::from(used) * u128::from(its_max) {
            (used, max) = (its_used, its_max);
        }
        writes &= WRITES.iter().all(|name| matches!(info.field(name), "ok" | ""));
    }
    shared.metrics.redis_memory_used_bytes.set(used as f64);
    shared.metrics.redis_memory_max_bytes.set(max as f64);
    shared.metrics.redis_writes_ok.set(f64::from(u8::from(writes)));
    Ok(())
}
