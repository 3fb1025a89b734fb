//! What a node does beside its work: tells that it lives, makes sure its feeds flow, removes what dead nodes left.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use redis::{RedisError, RedisResult, Value};
use tokio::time::interval;
use tracing::{info, warn};

use super::keys::{Keys, slot_of};
use super::servers::Servers;
use super::{Broker, value};

/// How often a node tells that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// After how long of silence a node counts as dead, and its groups are removed.
const DEAD_AFTER: Duration = Duration::from_secs(600);
/// How often somebody looks for dead nodes.
const SWEEP: Duration = Duration::from_secs(60);
/// How often an entry goes through each feed, so that a part that was missed shows though nobody talks.
const CANARY: Duration = Duration::from_secs(5);

/// Tells that this node lives. Comes before its groups, so that no janitor takes them for a dead node's.
pub(super) async fn announce(servers: &Servers, keys: &Keys, group: &str) -> anyhow::Result<()> {
    let key = keys.node(group);
    let mut connection = servers.pooled(slot_of(&key)).await?;
    redis::cmd("SET")
        .arg(key)
        .arg(1)
        .arg("EX")
        .arg(DEAD_AFTER.as_secs())
        .query_async::<()>(&mut connection)
        .await
        .context("cannot register the node")
}

pub(super) async fn heartbeat(broker: Broker) {
    let mut ticks = interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        let shared = &broker.shared;
        if let Err(error) = announce(&shared.servers, &shared.keys, &shared.options.group).await {
            warn!(error = format!("{error:#}"), "Redis did not take the heartbeat");
        }
    }
}

pub(super) async fn canary(broker: Broker) {
    let mut ticks = interval(CANARY);
    loop {
        ticks.tick().await;
        let probed = broker.probe().await;
        broker.shared.metrics.redis_up.set(f64::from(u8::from(probed.is_ok())));
        if let Err(error) = probed {
            warn!(cause = error.cause().map(|cause| format!("{cause:#}")), "A feed does not flow");
        }
    }
}

pub(super) async fn sweep(broker: Broker) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep_once(&broker).await {
            warn!(error = format!("{error:#}"), "Groups of dead nodes could not be looked for");
        }
    }
}

async fn sweep_once(broker: &Broker) -> anyhow::Result<()> {
    let shared = &broker.shared;
    let (servers, keys, group) = (&shared.servers, &shared.keys, &shared.options.group);
    let mut lock = redis::cmd("SET");
    lock.arg(keys.janitor()).arg(group).arg("NX").arg("EX").arg(SWEEP.as_secs());
    let mut connection = servers.pooled(slot_of(&keys.janitor())).await?;
    if lock.query_async::<Option<String>>(&mut connection).await?.is_none() {
        return Ok(());
    }
    let mut alive = HashSet::from([group.clone()]);
    for feed in keys.feeds() {
        let key = keys.feed(feed);
        let mut connection = servers.pooled(keys.slot(feed)).await?;
        let groups: Value = redis::cmd("XINFO").arg("GROUPS").arg(&key).query_async(&mut connection).await?;
        for group in names(&groups)? {
            if alive.contains(&group) || is_alive(servers, keys, &group).await? {
                alive.insert(group);
                continue;
            }
            redis::cmd("XGROUP").arg("DESTROY").arg(&key).arg(&group).query_async::<()>(&mut connection).await?;
            info!(group, feed = feed.0, "Removed the consumer group of a dead node");
        }
    }
    Ok(())
}

async fn is_alive(servers: &Servers, keys: &Keys, group: &str) -> RedisResult<bool> {
    let key = keys.node(group);
    let mut connection = servers.pooled(slot_of(&key)).await?;
    redis::cmd("EXISTS").arg(key).query_async(&mut connection).await
}

/// The names in the reply of `XINFO GROUPS`: a list of lists of fields.
fn names(groups: &Value) -> Result<Vec<String>, RedisError> {
    let mut names = Vec::new();
    for group in value::list(groups)? {
        for pair in value::list(group)?.chunks_exact(2) {
            if value::text(&pair[0])? == "name" {
                names.push(value::text(&pair[1])?.to_owned());
            }
        }
    }
    Ok(names)
}
