//! Three sentinels over a primary and its replicas.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use redis::Value;

use super::redis::{launch, until};
use crate::support::redis::Redis;

/// How many sentinels there are; two of them agree that a primary is gone.
const COUNT: usize = 3;
/// How long a server may be silent, in milliseconds: short, so that a run has many failovers. Sentinels ask every second, so
/// that after one second alone they take a primary that was just promoted for dead, and go back to the former one.
const PATIENCE: &str = "2000";
/// How long a failover may take, in milliseconds.
const FAILOVER_TIMEOUT: &str = "3000";

pub(super) struct Sentinels {
    pub(super) members: Vec<Redis>,
}

impl Sentinels {
    /// By what name they know the primary.
    pub(super) const GROUP: &str = "burble";

    /// Starts them and waits until each knows the others and all replicas.
    pub(super) async fn start(folder: &Path, primary: u16, replicas: usize) -> Result<Self> {
        let group = Self::GROUP;
        let config = format!(
            "sentinel monitor {group} 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds {group} {PATIENCE}\n\
             sentinel failover-timeout {group} {FAILOVER_TIMEOUT}\nsentinel parallel-syncs {group} {replicas}\n"
        );
        let start = |number| launch(folder, &format!("sentinel-{number}"), None, |_| config.clone());
        let sentinels = Self { members: (0..COUNT).map(start).collect() };
        until("the sentinels know everybody", async || sentinels.are_content(replicas).await.then_some(())).await?;
        Ok(sentinels)
    }

    /// Whether each of them sees the primary, so many replicas and all sentinels, and none of them down.
    pub(super) async fn are_content(&self, replicas: usize) -> bool {
        for sentinel in &self.members {
            let Ok(primary) = sentinel.ask::<BTreeMap<String, String>>(&["SENTINEL", "MASTER", Self::GROUP]).await
            else {
                return false;
            };
            let counted = |name: &str| primary.get(name).and_then(|value| value.parse().ok());
            let known = counted("num-slaves") == Some(replicas) && counted("num-other-sentinels") == Some(COUNT - 1);
            if !known || primary.get("flags").is_none_or(|flags| flags != "master") {
                return false;
            }
            match sentinel.ask::<Vec<BTreeMap<String, String>>>(&["SENTINEL", "REPLICAS", Self::GROUP]).await {
                Ok(replicas) if replicas.iter().all(is_well) => {}
                _ => return false,
            }
        }
        true
    }

    /// By the port of whom they name: how many sentinels do.
    pub(super) async fn votes(&self) -> BTreeMap<u16, usize> {
        let mut votes = BTreeMap::new();
        for sentinel in &self.members {
            let asked = sentinel.ask::<(String, u16)>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::GROUP]);
            if let Ok((_, port)) = asked.await {
                *votes.entry(port).or_default() += 1;
            }
        }
        votes
    }

    /// Has them choose this replica, at once. They refuse while they do not see it well, so they are asked again.
    pub(super) async fn promote(&self, members: &[Redis], replica: usize) -> Result<()> {
        let mut wanted = Vec::new();
        for (number, member) in members.iter().enumerate() {
            let priority = if number == replica { "1" } else { "100" };
            if member.ask::<Value>(&["CONFIG", "SET", "replica-priority", priority]).await.is_ok() {
                wanted.push((member.port, priority));
            }
        }
        // One sentinel carries it out, and the others follow it.
        let (sentinel, port) = (&self.members[0], members[replica].port);
        until("a sentinel begins the failover", async || {
            if self.votes().await.contains_key(&port) {
                return Some(());
            }
            let command = ["SENTINEL", "REPLICAS", Self::GROUP];
            let replicas = sentinel.ask::<Vec<BTreeMap<String, String>>>(&command).await.ok()?;
            replicas.iter().all(|found| is_as_wanted(found, &wanted)).then_some(())?;
            sentinel.ask::<Value>(&["SENTINEL", "FAILOVER", Self::GROUP]).await.ok().map(drop)
        })
        .await
    }
}

fn is_well(replica: &BTreeMap<String, String>) -> bool {
    replica.get("flags").is_some_and(|flags| flags == "slave")
        && replica.get("master-link-status").is_some_and(|status| status == "ok")
}

/// Whether the sentinel has learnt of a replica's priority, where it was given one.
fn is_as_wanted(replica: &BTreeMap<String, String>, wanted: &[(u16, &str)]) -> bool {
    let port = replica.get("port").and_then(|port| port.parse::<u16>().ok());
    let wanted = wanted.iter().find(|(known, _)| Some(*known) == port);
    wanted.is_none_or(|(_, priority)| replica.get("slave-priority").is_some_and(|found| found == priority))
}
