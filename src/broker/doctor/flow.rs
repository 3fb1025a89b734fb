//! What is in the feeds: who reads them and how far, what dead nodes left, and whether an entry that is put into one
//! comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{BoxFuture, join_all};
use redis::{RedisResult, Value};
use tokio::time::Instant;

use super::super::append::{Appended, Appender, Item};
use super::super::heard::Heard;
use super::super::keys::{Feed, Keys, slot_of};
use super::super::link::{Link, Route};
use super::super::notice::{FeedEvent, Notice, RawEntry, entry_id};
use super::super::servers::Servers;
use super::super::{Options, outcome, setup, value};
use super::{STEP_MAX, limited, named};
use crate::finding::Finding;
use crate::metrics::Metrics;
use crate::model::Position;

/// Among how many an entry is looked for that was appended just now; meanwhile nodes write theirs.
const LOOK_BACK_ENTRIES: usize = 1_024;
/// An entry that takes longer is felt as a delay.
const ROUND_TRIP_SLOW: Duration = Duration::from_millis(100);

pub(super) async fn examine(servers: &Servers, keys: &Keys, options: &Options) -> Vec<Finding> {
    let mut findings = match limited(STEP_MAX, async { Ok(Readers::of(servers, keys).await?) }).await {
        Ok(readers) => readers.judge(options.feed_window),
        Err(why) => vec![Finding::failure("feeds", why, "see what else is said of Redis")],
    };
    findings.push(match limited(STEP_MAX, round_trips(servers, keys, options)).await {
        Ok(times) => judge(times),
        Err(why) => {
            let remedy = "Redis refuses to write or is too slow: see what else is said of it";
            Finding::failure("round trip", why, remedy)
        }
    });
    findings
}

/// Who reads the feeds.
#[derive(Default)]
struct Readers {
    feeds: usize,
    entries: u64,
    alive: BTreeSet<String>,
    dead: BTreeSet<String>,
    /// By how many milliseconds a living reader is behind, at worst in any feed.
    behind_ms: BTreeMap<String, u64>,
}

impl Readers {
    async fn of(servers: &Servers, keys: &Keys) -> RedisResult<Self> {
        let mut readers = Self::default();
        for feed in keys.feeds() {
            readers.look_at(servers, keys, feed).await?;
        }
        Ok(readers)
    }

    async fn look_at(&mut self, servers: &Servers, keys: &Keys, feed: Feed) -> RedisResult<()> {
        let key = keys.feed(feed);
        let mut connection = servers.pooled(keys.slot(feed)).await?;
        if !redis::cmd("EXISTS").arg(&key).query_async::<bool>(&mut connection).await? {
            return Ok(());
        }
        self.feeds += 1;
        // The groups first: what is written in between must not make a reader look slow.
        let groups: Value = redis::cmd("XINFO").arg("GROUPS").arg(&key).query_async(&mut connection).await?;
        let stream: Value = redis::cmd("XINFO").arg("STREAM").arg(&key).query_async(&mut connection).await?;
        self.entries += named(&stream, "length")?.map(value::number::<u64>).transpose()?.unwrap_or(0);
        for group in value::list(&groups)? {
            let text = |name| {
                Ok::<_, redis::RedisError>(named(group, name)?.map(value::text).transpose()?.unwrap_or_default())
            };
            let name = text("name")?.to_owned();
            if self.dead.contains(&name) || !self.is_alive(servers, keys, &name).await? {
                self.dead.insert(name);
                continue;
            }
            let read: Position = text("last-delivered-id")?.parse().map_err(|_| value::unexpected("a position"))?;
            let next: Option<Value> = {
                let mut next = redis::cmd("XRANGE");
                next.arg(&key).arg(format!("({read}")).arg("+").arg("COUNT").arg(1);
                next.query_async(&mut connection).await?
            };
            let waits = next.as_ref().map(value::list).transpose()?.and_then(<[Value]>::first).map(entry_id);
            let seconds: (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await?;
            let now_ms = seconds.0 * 1_000 + seconds.1 / 1_000;
            let behind = waits.transpose()?.map_or(0, |id| now_ms.saturating_sub(id.epoch));
            let worst = self.behind_ms.entry(name).or_default();
            *worst = behind.max(*worst);
        }
        Ok(())
    }

    async fn is_alive(&mut self, servers: &Servers, keys: &Keys, group: &str) -> RedisResult<bool> {
        if self.alive.contains(group) {
            return Ok(true);
        }
        let key = keys.node(group);
        let mut connection = servers.pooled(slot_of(&key)).await?;
        let alive = redis::cmd("EXISTS").arg(key).query_async(&mut connection).await?;
        if alive {
            self.alive.insert(group.to_owned());
        }
        Ok(alive)
    }

    fn judge(&self, window: Duration) -> Vec<Finding> {
        let nodes: Vec<_> = self.alive.iter().map(|group| node(group)).collect();
        let mut findings = vec![if nodes.is_empty() {
            Finding::note("nodes", "none was heard of in the last ten minutes", "start one: burble serve")
        } else {
            Finding::ok("nodes", format!("{} heard of lately: {}", nodes.len(), nodes.join(", ")))
        }];
        findings.push(if self.dead.is_empty() {
            Finding::ok("dead nodes", "none has left a consumer group")
        } else {
            let names: Vec<_> = self.dead.iter().map(|group| node(group)).collect();
            let found = format!("{} consumer groups of nodes that are gone: {}", names.len(), names.join(", "));
            Finding::note("dead nodes", found, "any running node removes them within a minute; start one")
        });
        let found = format!("feeds: {}, entries: {}", self.feeds, self.entries);
        findings.push(match self.behind_ms.iter().max_by_key(|(_, behind)| **behind) {
            Some((group, behind)) if u128::from(*behind) > window.as_millis() / 2 => Finding::warning(
                "feeds",
                format!("{found}; {} is {behind} ms behind, and they keep {window:?}", node(group)),
                format!("see the log of {}, and its burble_feed_unread_entries", node(group)),
            ),
            Some((group, behind)) if *behind > 0 => {
                Finding::ok("feeds", format!("{found}; {} is furthest behind, by {behind} ms", node(group)))
            }
            _ => Finding::ok("feeds", format!("{found}, and nobody is behind")),
        });
        findings
    }
}

/// The node of a consumer group: what comes before its start.
fn node(group: &str) -> &str {
    group.rsplit_once('-').map_or(group, |(node, _)| node)
}

/// How long an entry of ours takes through each feed: appended at the durability that is set, and read back.
async fn round_trips(servers: &Servers, keys: &Keys, options: &Options) -> anyhow::Result<Vec<(Feed, Duration)>> {
    let mut upkeep: Vec<BoxFuture<'static, ()>> = Vec::new();
    let links: Vec<Link> = keys
        .feeds()
        .map(|feed| {
            let route = Route { servers: servers.clone(), slot: keys.slot(feed) };
            let origin = setup::origin(keys, feed, options);
            let (link, keep) = Link::new("round trip", route, options.append_timeout, Some(origin));
            upkeep.push(keep);
            link
        })
        .collect();
    let heard: Vec<_> = keys.feeds().map(Heard::new).collect();
    let (appender, writers) = Appender::new(&links, keys, options, &heard, &Metrics::unobserved());
    upkeep.extend(writers.into_iter().map(|writer| Box::pin(writer) as BoxFuture<'static, ()>));
    let trips = async {
        let mut times = Vec::new();
        for feed in keys.feeds() {
            // The first one makes the connection, and is not counted.
            round_trip(servers, keys, &appender, options, feed).await?;
            times.push((feed, round_trip(servers, keys, &appender, options, feed).await?));
        }
        anyhow::Ok(times)
    };
    tokio::select! {
        times = trips => times,
        _ = join_all(upkeep) => bail!("the connections ended"),
    }
}

async fn round_trip(
    servers: &Servers,
    keys: &Keys,
    appender: &Appender,
    options: &Options,
    feed: Feed,
) -> anyhow::Result<Duration> {
    let canary = Notice::Canary { node: options.group.clone(), number: feed.0 as u64 };
    let json = serde_json::to_string(&canary)?;
    let mut connection = servers.pooled(keys.slot(feed)).await?;
    let key = keys.feed(feed);
    let newest: Value =
        redis::cmd("XREVRANGE").arg(&key).arg("+").arg("-").arg("COUNT").arg(1).query_async(&mut connection).await?;
    let newest = value::list(&newest)?.first().map(entry_id).transpose()?;
    let after = newest.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let began = Instant::now();
    let appended = outcome(appender.append(feed, Item::Notice(json))?).await;
    let appended = appended.map_err(|error| match error.cause() {
        Some(cause) => anyhow::anyhow!("feed {}: {cause:#}", feed.0),
        None => anyhow::anyhow!("feed {}: {error}", feed.0),
    })?;
    let Appended::Announced(number) = appended else { bail!("feed {}: an answer to something else", feed.0) };
    let mut read = redis::cmd("XRANGE");
    read.arg(&key).arg(after).arg("+").arg("COUNT").arg(LOOK_BACK_ENTRIES);
    let found: Value = read.query_async(&mut connection).await?;
    for raw in value::list(&found)? {
        let entry = RawEntry::of(raw)?;
        if entry.last_number() < number {
            continue;
        }
        let entry = entry.read()?;
        let ours = Some(FeedEvent::Notice(canary.clone(), None));
        if (entry.number..).zip(entry.events).any(|item| item == (number, ours.clone())) {
            return Ok(began.elapsed());
        }
    }
    None.with_context(|| format!("feed {}: what was written is not there", feed.0))
}

fn judge(mut times: Vec<(Feed, Duration)>) -> Finding {
    times.sort_unstable_by_key(|(_, time)| *time);
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (Some((_, median)), Some((slowest, max))) = (times.get(times.len() / 2), times.last()) else {
        return Finding::note("round trip", "there are no feeds", "set PUBSUB_FEEDS");
    };
    let count = times.len();
    let found = format!("feeds: {count}, p50 {:.2} ms, max {:.2} ms (feed {})", ms(*median), ms(*max), slowest.0);
    if *max <= ROUND_TRIP_SLOW {
        Finding::ok("round trip", found)
    } else {
        Finding::warning(
            "round trip",
            found,
            "see the latency of Redis, of its disk under fsync, of its replicas under replica",
        )
    }
}
