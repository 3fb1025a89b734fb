//! The doctor finds nothing where all is well, and what is wrong where one thing is, with the remedy.

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::diagnosis::{DOCTOR, Diagnosis, FEW};
use crate::support::ports::fixed_port;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::server::Ended;
use crate::support::setup::Setup;
use crate::support::{TestServer, eventually};

/// A node on a Redis that keeps its promise, and the two of them.
async fn fsync() -> (Redis, TestServer) {
    let redis = Redis::start(true);
    let server = TestServer::on(&redis, &[("PUBSUB_DURABILITY", "fsync"), FEW]).await;
    (redis, server)
}

#[tokio::test]
async fn the_redis_that_we_hand_out_is_one_that_the_doctor_has_nothing_to_say_about() {
    let folder = TempDir::new().expect("a temporary folder");
    let port = fixed_port();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis.conf");
    let own = ["--port".into(), port.to_string(), "--dir".into(), folder.path().display().to_string()];
    let arguments = [&[shipped.to_owned()][..], &own].concat();
    let redis = Redis::configured(port, arguments, folder.path().join("log"), None);
    let server = TestServer::on(&redis, &[("PUBSUB_DURABILITY", "fsync"), FEW]).await;
    beside(&server, &[]).await.healthy();
}

async fn beside(server: &TestServer, env: &[(&str, &str)]) -> Diagnosis {
    Diagnosis::of(&server.run_beside(&DOCTOR, env).await)
}

#[tokio::test]
async fn the_embedded_set_up_is_healthy_while_it_runs_and_before_its_first_start() {
    Diagnosis::of(&TestServer::run(&DOCTOR, &[FEW]).await).healthy();
    let server = TestServer::embedded().await;
    let ended = server.run_beside(&DOCTOR, &[FEW]).await;
    Diagnosis::of(&ended).healthy();
    let served = format!("is served by process {}", server.pid());
    for said in [served.as_str(), "feeds: 1, p50", "1 heard of lately: one", "up to date"] {
        assert!(ended.output.contains(said), "no {said} in {}", ended.output);
    }
    assert_eq!(server.probe("/readyz").await.status, 200, "the node is not disturbed");
}

#[tokio::test]
async fn a_node_on_redis_and_postgres_is_healthy_and_hears_no_gap_from_the_doctor() {
    let (redis, database) = (Redis::start(true), Postgres::shared().create_database());
    let env = [("PUBSUB_DURABILITY", "fsync"), ("SERVER_DB", &database), FEW];
    let server = TestServer::on(&redis, &env).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    beside(&server, &[]).await.healthy();
    ann.send("tea", "hello").await;
    assert_eq!(ann.next_message().await["text"], "hello");
    assert!(server.metrics().await.contains("burble_feed_refills_total 0"), "no part of a feed was missed");
}

#[tokio::test]
async fn a_redis_that_is_set_up_wrongly_is_found_out() {
    let (redis, server) = fsync().await;
    let cases = [
        ("maxmemory-policy", "allkeys-lru", "noeviction", "failure redis eviction"),
        ("appendfsync", "everysec", "always", "failure redis durability"),
        ("timeout", "300", "0", "warning redis configuration"),
        ("min-replicas-to-write", "1", "0", "failure redis replicas"),
    ];
    for (name, wrong, right, check) in cases {
        redis.run(&["CONFIG", "SET", name, wrong]).await;
        let found = beside(&server, &[]).await;
        redis.run(&["CONFIG", "SET", name, right]).await;
        found.says(check, &[name]);
        let echoes = ["failure round trip", "failure feeds"];
        let others = found.0.iter().filter(|(other, _)| other != check && !echoes.contains(&other.as_str()));
        assert_eq!(others.count(), 0, "{name}: {:#?}", found.0);
    }
    beside(&server, &[]).await.healthy();
}

#[tokio::test]
async fn a_redis_without_a_file_is_told_as_severely_as_the_promise_asks() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[FEW]).await;
    beside(&server, &[]).await.only("warning redis persistence", &["append-only", "CONFIG SET appendonly yes"]);
    let strict = server.run_beside(&["doctor", "--strict"], &[]).await;
    assert!(!strict.status.success(), "strict minds warnings");
    assert!(strict.output.contains("→ CONFIG SET appendonly yes"), "{}", strict.output);
    let found = beside(&server, &[("PUBSUB_DURABILITY", "fsync")]).await;
    found.says("failure redis durability", &["appendonly yes", "appendfsync always"]);
}

#[tokio::test]
async fn a_replica_in_place_of_its_primary_is_found_out() {
    let (primary, server) = fsync().await;
    let replica = Redis::start(true);
    replica.run(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).await;
    let found = eventually("the replica has the data", async || {
        let found = beside(&server, &[("PUBSUB_SERVER_PORT", &replica.port.to_string())]).await;
        found.0.iter().all(|(check, _)| !check.contains("last writes")).then_some(found)
    })
    .await;
    found.says("failure redis kind", &["replica", "PUBSUB_SERVER_MODE=sentinel"]);
}

#[tokio::test]
async fn settings_of_another_installation_are_found_out_and_nothing_is_written_to_it() {
    let (redis, server) = fsync().await;
    let keys = async || {
        let mut keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut redis.connect().await).await.expect("it runs");
        // Whichever node cleans up makes this one, and it expires.
        keys.retain(|key| key != &format!("{}:janitor", server.prefix));
        keys.sort();
        keys
    };
    let before = keys().await;
    let feeds = beside(&server, &[("PUBSUB_FEEDS", "32")]).await;
    feeds.only("failure redis installation", &["set up with PUBSUB_FEEDS=16", "set PUBSUB_FEEDS=16"]);
    let database = Postgres::shared().create_database();
    let other = TestServer::on(&redis, &[("SERVER_DB", &database)]).await;
    let mixed = beside(&server, &[("SERVER_DB", &database)]).await;
    mixed.only("failure redis installation", &["another database", "PUBSUB_PREFIX"]);
    let after = keys().await.into_iter().filter(|key| !key.starts_with(&other.prefix));
    assert_eq!(after.collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn what_cannot_be_reached_is_named_and_the_rest_is_examined() {
    let (redis, server) = fsync().await;
    redis.freeze();
    let silent = beside(&server, &[]).await;
    redis.thaw();
    silent.only("failure redis", &["cannot be reached", "start it"]);
    let gone = beside(&server, &[("PUBSUB_SERVER_PORT", "1")]).await;
    gone.only("failure redis", &["cannot be reached", "PUBSUB_SERVER_PORT"]);
    let gone = beside(&server, &[("SERVER_DB", "postgres://ann:secret@127.0.0.1:1/db")]).await;
    gone.only("failure database", &["cannot be reached", "SERVER_DB"]);
    assert!(!gone.0[0].1.contains("secret"), "{:?}", gone.0);
}

#[tokio::test]
async fn settings_that_cannot_be_are_findings_too() {
    let found = Diagnosis::of(&TestServer::run(&DOCTOR, &[("SERVER_PORT", "eighty"), ("OPS_PORT", "x")]).await);
    assert_eq!(found.0.len(), 2, "{:#?}", found.0);
    found.says("failure settings", &["SERVER_PORT", "eighty", "check-config"]);
}

#[tokio::test]
async fn too_few_open_files_are_found_out() {
    let setup = Setup::new().and("LIMIT_CONNECTIONS", "1000");
    let burble = setup.command(&DOCTOR);
    let burble = burble.as_std();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -n 512; exec \"$0\" \"$@\""]).arg(burble.get_program()).args(burble.get_args());
    shell.env_clear().envs(burble.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.current_dir(setup.data.path()).output().await.expect("every machine has a shell");
    let ended = Ended { status: output.status, output: String::from_utf8_lossy(&output.stdout).into_owned() };
    Diagnosis::of(&ended).only("warning open files", &["512", "1256", "LimitNOFILE=1256"]);
}

#[tokio::test]
async fn a_password_that_is_missing_is_asked_for() {
    let (redis, server) = fsync().await;
    redis.run(&["CONFIG", "SET", "requirepass", "open sesame"]).await;
    beside(&server, &[]).await.only("failure redis", &["PUBSUB_SERVER_PASS"]);
    beside(&server, &[("PUBSUB_SERVER_PASS", "open sesame")]).await.healthy();
}
