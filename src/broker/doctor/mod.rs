//! Looks at the servers that hold the log and at what is in them, beside nodes that run. Changes nothing, but for one
//! entry in each feed, which nodes ignore.

mod flow;
mod server;
mod topology;

use std::time::Duration;

use redis::{RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::keys::{Keys, slot_of};
use super::servers::{Place, Servers};
use super::{Options, setup, value};
use crate::clock;
use crate::finding::{Finding, Verdict};
use server::Facts;

/// How long one server may take for all that it is asked; what comes later counts as no answer.
const SERVER_MAX: Duration = Duration::from_secs(5);
/// How long finding the way, reading the groups and the round trip may take, each.
const STEP_MAX: Duration = Duration::from_secs(15);
/// Sent to each server; the median is told.
const PINGS: usize = 9;
/// What is read of a server's configuration.
const CONFIG: [&str; 8] = [
    "appendfsync",
    "maxclients",
    "maxmemory",
    "min-replicas-to-write",
    "save",
    "stop-writes-on-bgsave-error",
    "stream-node-max-bytes",
    "timeout",
];

/// All that can be told of the log. Without the id of the `database`, whether the two belong together is left out.
pub async fn examine(options: &Options, database: Option<Uuid>) -> Vec<Finding> {
    let keys = Keys::new(&options.prefix, options.shards, options.address.is_cluster());
    let servers = Servers::of(options);
    let mut findings = topology::examine(&servers).await;
    let primaries = match limited(STEP_MAX, setup::primaries(&servers, &keys)).await {
        Ok(primaries) => primaries,
        Err(why) => {
            findings.push(Finding::failure("redis", why, "start Redis, or mend PUBSUB_SERVER_HOST and _PORT"));
            return findings;
        }
    };
    let mut reached = 0;
    for primary in &primaries {
        let mut remedy = None;
        let asked = async { ask(&servers, primary).await.inspect_err(|error| remedy = servers.remedy(error)) };
        match limited(SERVER_MAX, async { Ok(asked.await?) }).await {
            Ok(facts) => {
                reached += 1;
                findings.extend(server::judge(&facts, options).into_iter().map(|finding| finding.of(primary)));
            }
            Err(why) => findings.push(unreachable(&why, remedy).of(primary)),
        }
    }
    if reached < primaries.len() {
        return findings;
    }
    match limited(STEP_MAX, async { Ok(installation(&servers, &keys, options, database).await?) }).await {
        // What belongs to others is not written to.
        Ok(Some(finding)) if finding.verdict == Verdict::Failure => findings.push(finding),
        Ok(Some(finding)) => {
            findings.push(finding);
            findings.extend(flow::examine(&servers, &keys, options).await);
        }
        Ok(None) => findings.push(Finding::note(
            "redis installation",
            format!("no node has started with the prefix {} yet, so that there are no feeds", options.prefix),
            "start one, and look again",
        )),
        Err(why) => findings.push(Finding::failure("redis installation", why, "see what else is said of Redis")),
    }
    findings
}

fn unreachable(why: &str, remedy: Option<&'static str>) -> Finding {
    let remedy = if why.contains("NOAUTH") || why.contains("WRONGPASS") || why.contains("uthentication") {
        "set PUBSUB_SERVER_PASS to its password"
    } else {
        remedy.unwrap_or("start it, open the way to it, or mend PUBSUB_SERVER_HOST and PUBSUB_SERVER_PORT")
    };
    Finding::failure("redis", format!("it cannot be reached: {why}"), remedy)
}

/// The answer, or in a sentence why there is none.
async fn limited<T>(limit: Duration, asking: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn ask(servers: &Servers, place: &Place) -> RedisResult<Facts> {
    let info = setup::info(servers, place).await?;
    let config = setup::config(servers, place, &CONFIG).await.ok();
    let mut connection = servers.of_pool(place).await?;
    let mut pings = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        pings.push(began.elapsed());
    }
    pings.sort_unstable();
    let before = clock::now_ms();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let here = (before + clock::now_ms()) / 2;
    let ahead_ms = seconds * 1_000 + micros / 1_000 - here;
    Ok(Facts { info, config, ping: pings[PINGS / 2], ahead_ms, address: servers.address().clone() })
}

/// Whether the settings are those that the first node wrote down; nothing where there was none yet.
async fn installation(
    servers: &Servers,
    keys: &Keys,
    options: &Options,
    database: Option<Uuid>,
) -> RedisResult<Option<Finding>> {
    let key = keys.installation();
    let mut connection = servers.pooled(slot_of(&key)).await?;
    let (shards, found): (Option<u64>, Option<String>) =
        redis::cmd("HMGET").arg(&key).arg("feeds").arg("database").query_async(&mut connection).await?;
    let (Some(shards), Some(found)) = (shards, found) else { return Ok(None) };
    let finding =
        setup::fits_installation(options, shards, &found, database.or_else(|| found.parse().ok()).unwrap_or_default());
    Ok(Some(match database {
        None if finding.verdict == Verdict::Ok => Finding::note(
            finding.check,
            format!("PUBSUB_FEEDS={shards}; whether it belongs to the database cannot be told"),
            "see what is said of the database",
        ),
        _ => finding,
    }))
}

/// The value behind a name in a reply that is a list of names and values.
fn named<'a>(reply: &'a Value, name: &str) -> Result<Option<&'a Value>, RedisError> {
    for pair in value::list(reply)?.chunks_exact(2) {
        if value::text(&pair[0])? == name {
            return Ok(Some(&pair[1]));
        }
    }
    Ok(None)
}
