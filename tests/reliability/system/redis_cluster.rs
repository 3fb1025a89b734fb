//! A Redis Cluster: three primaries that share the slots, each with replicas.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use redis::Value;

use super::redis::{launch, until};
use super::redis_single::DATA;
use crate::support::redis::Redis;

const SLOTS: usize = 16_384;
/// How long a member may be silent: short, so that a run has many failovers.
const NODE_TIMEOUT_MS: u32 = 1_500;

/// Knows how its members are asked about each other; the members themselves are with
/// [`RedisSystem`](super::redis::RedisSystem).
pub(super) struct Cluster;

impl Cluster {
    /// A cluster needs three primaries to agree on anything.
    pub(super) const SHARDS: usize = 3;

    /// Starts the members and makes them a cluster.
    pub(super) async fn start(folder: &Path, replicas: usize) -> Result<(Self, Vec<Redis>)> {
        // Members stay in their shard: a replica that moves to another one is a fault that nobody asked for.
        let config = format!(
            "{DATA}appendfsync everysec\ncluster-enabled yes\ncluster-config-file nodes.conf\n\
             cluster-node-timeout {NODE_TIMEOUT_MS}\ncluster-allow-replica-migration no\n"
        );
        let start = |number| launch(folder, &format!("redis-{number}"), None, |_| config.clone());
        let members: Vec<Redis> = (0..Self::SHARDS * (1 + replicas)).map(start).collect();
        let first = members[0].port.to_string();
        for (number, member) in members.iter().enumerate() {
            if number < Self::SHARDS {
                let (begin, end) = (Self::first_slot(number).to_string(), Self::first_slot(number + 1) - 1);
                member.ask::<Value>(&["CLUSTER", "ADDSLOTSRANGE", &begin, &end.to_string()]).await?;
            }
            // Each its own, so that nobody has to make way for another.
            member.ask::<Value>(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
            member.ask::<Value>(&["CLUSTER", "MEET", "127.0.0.1", &first]).await?;
        }
        for (number, replica) in members.iter().enumerate().skip(Self::SHARDS) {
            let primary: String = members[number % Self::SHARDS].ask(&["CLUSTER", "MYID"]).await?;
            until("a replica knows its primary", async || {
                replica.ask::<Value>(&["CLUSTER", "REPLICATE", &primary]).await.ok()
            })
            .await?;
        }
        Ok((Self, members))
    }

    pub(super) fn shard_of_slot(slot: usize) -> usize {
        (0..Self::SHARDS).rfind(|shard| Self::first_slot(*shard) <= slot).expect("the first slot is 0")
    }

    fn first_slot(shard: usize) -> usize {
        SLOTS * shard / Self::SHARDS
    }

    /// Whether each member says that all is well, and knows all the others and none of them to be failing.
    pub(super) async fn is_content(members: &[Redis]) -> bool {
        for member in members {
            let Ok(nodes) = member.ask::<String>(&["CLUSTER", "NODES"]).await else { return false };
            let well = nodes.lines().filter(|line| !line.contains("fail") && !line.contains("handshake")).count();
            if well != members.len() || !says_ok(member).await {
                return false;
            }
        }
        true
    }

    /// By the port of whom they name: how many members do. Who says that the cluster is down does not vote.
    pub(super) async fn votes(members: &[Redis], shard: usize) -> BTreeMap<u16, usize> {
        let mut votes = BTreeMap::new();
        for member in members {
            if let Some(port) = owner(member, Self::first_slot(shard)).await {
                *votes.entry(port).or_default() += 1;
            }
        }
        votes
    }
}

async fn says_ok(member: &Redis) -> bool {
    let info = member.ask::<String>(&["CLUSTER", "INFO"]).await;
    info.is_ok_and(|info| info.lines().any(|line| line.trim() == "cluster_state:ok"))
}

/// The port of the primary that a member believes to have a slot, and to be there.
async fn owner(member: &Redis, slot: usize) -> Option<u16> {
    if !says_ok(member).await {
        return None;
    }
    let nodes: String = member.ask(&["CLUSTER", "NODES"]).await.ok()?;
    let has = |range: &str| {
        let (begin, end) = range.split_once('-').unwrap_or((range, range));
        matches!((begin.parse::<usize>(), end.parse::<usize>()), (Ok(begin), Ok(end)) if (begin..=end).contains(&slot))
    };
    // <id> <ip:port@bus> <flags> <primary> <ping> <pong> <epoch> <link> <slots…>
    let line = nodes.lines().find(|line| line.split(' ').skip(8).any(has))?;
    let address = line.split(' ').nth(1)?;
    address.split_once('@')?.0.rsplit_once(':')?.1.parse().ok()
}
