//! Those who know the way to the primaries: every Sentinel, or the Cluster as each of its named nodes sees it.

use std::collections::{BTreeMap, HashMap};

use redis::RedisResult;

use super::super::Address;
use super::super::servers::{Place, Servers};
use super::super::setup::Info;
use super::{SERVER_MAX, limited};
use crate::finding::Finding;

pub(super) async fn examine(servers: &Servers) -> Vec<Finding> {
    match servers.address() {
        Address::Unix(_) | Address::Single(_) => Vec::new(),
        Address::Sentinel { sentinels, name, .. } => of_sentinels(servers, sentinels, name).await,
        Address::Cluster(nodes) => of_cluster(servers, nodes).await,
    }
}

async fn of_sentinels(servers: &Servers, sentinels: &[(String, u16)], name: &str) -> Vec<Finding> {
    let (mut findings, mut named) = (Vec::new(), BTreeMap::<String, usize>::new());
    for (host, port) in sentinels {
        let place = Place::Tcp(host.clone(), *port);
        match limited(SERVER_MAX, async { Ok(watch(servers, &place, name).await?) }).await {
            Ok((primary, finding)) => {
                *named.entry(primary).or_default() += 1;
                findings.push(finding.of(&place));
            }
            Err(why) => {
                let remedy = "start it, mend PUBSUB_SERVER_HOST, PUBSUB_SENTINEL_PASS or PUBSUB_SENTINEL_NAME";
                findings.push(Finding::failure("sentinel", why, remedy).of(&place));
            }
        }
    }
    if sentinels.len() < 3 {
        let found = format!("{} named; a majority must outlive the loss of one", sentinels.len());
        findings.push(Finding::warning("sentinels", found, "run three, on three machines, and name all of them"));
    }
    match named.len() {
        0 => {}
        1 => findings.extend(named.into_keys().map(|name| Finding::ok("sentinels agree", format!("on {name}")))),
        _ => {
            let views = named.into_iter().map(|(primary, count)| format!("{count} name {primary}"));
            let found = views.collect::<Vec<_>>().join(", ");
            let remedy =
                "a failover is under way, or some are cut off: redis-cli -p 26379 SENTINEL RESET where it lasts";
            findings.push(Finding::warning("sentinels agree", found, remedy));
        }
    }
    findings
}

/// Whom a Sentinel names, and whether it could have another one elected.
async fn watch(servers: &Servers, sentinel: &Place, name: &str) -> RedisResult<(String, Finding)> {
    let mut connection = servers.of_pool(sentinel).await?;
    let primary: HashMap<String, String> =
        redis::cmd("SENTINEL").arg("MASTER").arg(name).query_async(&mut connection).await?;
    let field = |name: &str| primary.get(name).map(String::as_str).unwrap_or_default();
    let address = format!("{}:{}", field("ip"), field("port"));
    let quorum = redis::cmd("SENTINEL").arg("CKQUORUM").arg(name).query_async::<String>(&mut connection).await;
    let flags = field("flags");
    let finding = match quorum {
        _ if flags.contains("down") || flags.contains("failover") => {
            Finding::warning("sentinel", format!("{address} is {flags}"), "see what became of the primary")
        }
        Ok(_) => Finding::ok("sentinel", format!("watches {address}, quorum {}", field("quorum"))),
        Err(error) => Finding::failure("sentinel", error.to_string(), "start the Sentinels that are missing"),
    };
    Ok((address, finding))
}

async fn of_cluster(servers: &Servers, nodes: &[(String, u16)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (host, port) in nodes {
        let place = Place::Tcp(host.clone(), *port);
        let finding = match limited(SERVER_MAX, async { Ok(state(servers, &place).await?) }).await {
            Ok(finding) => finding,
            Err(why) => Finding::warning("cluster node", why, "start it, or take it out of PUBSUB_SERVER_HOST"),
        };
        findings.push(finding.of(&place));
    }
    findings
}

async fn state(servers: &Servers, node: &Place) -> RedisResult<Finding> {
    let mut connection = servers.of_pool(node).await?;
    let info = Info(redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?);
    let (state, slots) = (info.field("cluster_state"), info.number("cluster_slots_ok"));
    let found = format!("state {state}, {slots} slots served, {} primaries", info.field("cluster_size"));
    Ok(if state == "ok" && info.number("cluster_slots_fail") + info.number("cluster_slots_pfail") == 0 {
        Finding::ok("cluster node", found)
    } else {
        Finding::failure(
            "cluster node",
            found,
            "redis-cli --cluster check says what is missing, --cluster fix mends it",
        )
    })
}
