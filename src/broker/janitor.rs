//! What a node does beside its work: tells that it lives, makes sure its feeds flow, removes what dead nodes left.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use redis::{RedisError, RedisResult, Value};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::keys::{Keys, slot_of};
use super::servers::Servers;
use super::{Broker, Options, value};

/// How many times a node tells that it lives before it would count as dead: so many tellings may fail.
const HEARTBEATS: u32 = 60;
/// How many times somebody looks for dead nodes in the time after which a node counts as one.
const SWEEPS: u32 = 10;
/// How often an entry goes through each feed, so that a part that was missed shows though nobody talks.
const CANARY: Duration = Duration::from_secs(5);

/// Tells that this node lives. Comes before its groups, so that no janitor takes them for a dead node's.
pub(super) async fn announce(servers: &Servers, keys: &Keys, options: &Options) -> anyhow::Result<()> {
    let key = keys.node(&options.group);
    let mut connection = servers.pooled(slot_of(&key)).await?;
    redis::cmd("SET")
        .arg(key)
        .arg(1)
        .arg("PX")
        .arg(options.node_dead.as_millis() as u64)
        .query_async::<()>(&mut connection)
        .await
        .context("cannot register the node")
}

pub(super) async fn heartbeat(broker: Broker) {
    let mut ticks = every(broker.shared.options.node_dead / HEARTBEATS);
    loop {
        ticks.tick().await;
        let shared = &broker.shared;
        if let Err(error) = announce(&shared.servers, &shared.keys, &shared.options).await {
            warn!(error = format!("{error:#}"), "Redis did not take the heartbeat");
        }
    }
}

pub(super) async fn canary(broker: Broker) {
    let mut ticks = every(CANARY);
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
    let mut ticks = every(broker.shared.options.node_dead / SWEEPS);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep_once(&broker).await {
            warn!(error = format!("{error:#}"), "Groups of dead nodes could not be looked for");
        }
    }
}

/// Ticks from now on; a node that was asleep does not make up for what it missed.
pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn sweep_once(broker: &Broker) -> anyhow::Result<()> {
    let shared = &broker.shared;
    let (servers, keys, group) = (&shared.servers, &shared.keys, &shared.options.group);
    let mut lock = redis::cmd("SET");
    let until_next = shared.options.node_dead / SWEEPS;
    lock.arg(keys.janitor()).arg(group).arg("NX").arg("PX").arg(until_next.as_millis() as u64);
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
