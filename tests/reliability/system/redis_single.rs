//! Servers that nobody watches: one alone, and one with replicas.

use std::path::Path;

use anyhow::Result;

use super::redis::launch;
use crate::support::redis::Redis;

/// As `deploy/redis.conf` has it, but for when the append-only file is flushed.
pub(super) const DATA: &str = "save \"\"\nappendonly yes\nno-appendfsync-on-rewrite no\nmaxmemory-policy noeviction\n\
    stream-node-max-bytes 1024\nlazyfree-lazy-user-del yes\nlazyfree-lazy-expire yes\n\
    repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n";

/// One server, with its data in `data`.
pub(super) fn start(folder: &Path, data: &Path, appendfsync: &str) -> Redis {
    let data = (data != folder).then_some(data);
    launch(folder, "redis-0", data, |_| format!("{DATA}appendfsync {appendfsync}\n"))
}

/// A primary, and replicas that follow it. The file is flushed every second, as is usual where replicas confirm.
pub(super) async fn with_replicas(folder: &Path, replicas: usize) -> Result<Vec<Redis>> {
    // As docs/operations.md advises: a primary that was cut off, or comes back, takes nothing until it has a replica.
    // With one replica alone that would be until the replica is well again.
    let alone = if replicas > 1 { "min-replicas-to-write 1\n" } else { "" };
    let data = format!("{DATA}{alone}appendfsync everysec\n");
    let mut members = vec![launch(folder, "redis-0", None, |_| data.clone())];
    let port = members[0].port;
    for number in 1..=replicas {
        let follow = format!("{data}replicaof 127.0.0.1 {port}\n");
        members.push(launch(folder, &format!("redis-{number}"), None, |_| follow.clone()));
    }
    Ok(members)
}
