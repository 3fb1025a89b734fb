//! The doctor finds nothing where all is well, and what is wrong where one thing is, with the remedy.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::server::Ended;
use crate::support::setup::Setup;
use crate::support::user::PASSWORD;
use crate::support::{Request, TestServer, eventually, items, text};

/// What depends on the machine that the tests run on; it is not set up by them.
const OF_THE_MACHINE: [&str; 4] = ["disk", "memory and cores", "backlog", "clock"];
/// So few that every machine has the open files for them.
const FEW: (&str, &str) = ("LIMIT_CONNECTIONS", "100");
const DOCTOR: [&str; 2] = ["doctor", "--json"];

/// What is wrong, or may be: the checks, each with what was found and the remedy.
struct Diagnosis(Vec<(String, String)>);

impl Diagnosis {
    fn of(ended: &Ended) -> Self {
        let document: Value =
            serde_json::from_str(&ended.output).unwrap_or_else(|_| panic!("no document: {}", ended.output));
        let failed = items(&document["findings"]).iter().any(|finding| finding["verdict"] == "failure");
        assert_eq!(ended.status.success(), !failed, "{}", ended.output);
        assert_eq!(document["healthy"], !failed);
        let mut problems = Vec::new();
        for finding in items(&document["findings"]) {
            let (check, verdict) = (text(&finding["check"]), text(&finding["verdict"]));
            assert_eq!(finding.get("remedy").is_none(), verdict == "ok", "{finding}");
            if ["warning", "failure"].contains(&verdict) && !OF_THE_MACHINE.contains(&check) {
                let said = format!("{}; {}", text(&finding["found"]), text(&finding["remedy"]));
                problems.push((format!("{verdict} {check}"), said));
            }
        }
        Self(problems)
    }

    /// Nothing is wrong.
    fn healthy(&self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }

    /// This is wrong, and nothing else; the line says all of `said`.
    fn only(&self, check: &str, said: &[&str]) {
        assert_eq!(self.0.iter().map(|(check, _)| check.as_str()).collect::<Vec<_>>(), [check], "{:#?}", self.0);
        self.says(check, said);
    }

    fn says(&self, check: &str, said: &[&str]) {
        let found = self.0.iter().find(|(known, _)| known == check);
        let (_, line) = found.unwrap_or_else(|| panic!("{check} is not in {:#?}", self.0));
        for part in said {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}

/// A node on a Redis that keeps its promise, and the two of them.
async fn fsync() -> (Redis, TestServer) {
    let redis = Redis::start(true);
    let server = TestServer::on(&redis, &[("PUBSUB_DURABILITY", "fsync"), FEW]).await;
    (redis, server)
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
    for said in [served.as_str(), "16 feeds, p50", "1 heard of lately: one", "up to date"] {
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
    feeds.only("failure redis installation", &["16 feeds", "set PUBSUB_FEEDS=16"]);
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

/// An nginx in front of a node; it ends with the test.
struct Nginx {
    url: String,
    _folder: TempDir,
    _child: Child,
}

impl Nginx {
    /// With these lines in its one location.
    async fn start(server: &TestServer, location: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-nginx").tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {free}; location / {{ proxy_pass http://{}; {location} }} }} }}\n",
            server.address
        );
        fs::write(folder.path().join("nginx.conf"), configuration).expect("the folder is ours");
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        nginx.env("PATH", concat!(env!("PATH"), ":/usr/sbin")).stdin(Stdio::null()).stderr(Stdio::null());
        let child = nginx.kill_on_drop(true).spawn().expect("these tests need nginx: apt-get install nginx");
        eventually("nginx listens", async || Request::new("GET", "/").elsewhere().try_send(free).await.ok()).await;
        Self { url: format!("http://{free}"), _folder: folder, _child: child }
    }
}

const RIGHT: &str = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_buffering off;\
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

async fn through(nginx: &Nginx, server: &TestServer) -> Diagnosis {
    Diagnosis::of(&server.run_beside(&["doctor", "--json", "--url", &nginx.url], &[FEW]).await)
}

#[tokio::test]
async fn a_proxy_that_passes_everything_on_is_healthy() {
    let server = TestServer::embedded().await;
    through(&Nginx::start(&server, RIGHT).await, &server).await.healthy();
}

#[tokio::test]
async fn a_proxy_without_the_upgrade_or_the_host_is_found_out() {
    let server = TestServer::embedded().await;
    let found = through(&Nginx::start(&server, "proxy_set_header Host $http_host;").await, &server).await;
    found.says("failure proxy upgrade", &["400", "proxy_set_header Upgrade $http_upgrade"]);
    let foreign_host = RIGHT.replace("$http_host", "other.example");
    let found = through(&Nginx::start(&server, &foreign_host).await, &server).await;
    found.only("failure proxy own origin", &["proxy_set_header Host $http_host", "SERVER_ORIGINS=http://127.0.0.1"]);
    let deaf = format!("{RIGHT} proxy_set_header Origin '';");
    let found = through(&Nginx::start(&server, &deaf).await, &server).await;
    found.only("failure proxy foreign origin", &["let in", "Origin"]);
}

/// The proxy comes from another address than the clients, as it does anywhere but in a test.
const APART: &str = "proxy_bind 127.0.0.2;";
const FORWARDED: &str = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";

#[tokio::test]
async fn an_address_that_can_be_forged_or_is_that_of_the_proxy_is_found_out() {
    let trusting = TestServer::with(&[("SERVER_TRUSTED_PROXIES", "127.0.0.2"), FEW]).await;
    let rest = "warning redis persistence";
    let right = through(&Nginx::start(&trusting, &format!("{RIGHT}{APART}{FORWARDED}")).await, &trusting).await;
    right.only(rest, &[]);
    let silent = through(&Nginx::start(&trusting, &format!("{RIGHT}{APART}")).await, &trusting).await;
    silent.says("failure proxy address", &["127.0.0.2 became 198.51.100.77", "$proxy_add_x_forwarded_for"]);
    let server = TestServer::with(&[FEW]).await;
    let same = through(&Nginx::start(&server, &format!("{RIGHT}{APART}{FORWARDED}")).await, &server).await;
    same.says("warning proxy address", &["seen as 127.0.0.2", "SERVER_TRUSTED_PROXIES=127.0.0.2"]);
}

#[tokio::test]
async fn a_proxy_that_exposes_the_operators_is_found_out() {
    let server = TestServer::embedded().await;
    let nginx =
        Nginx::start(&server, &format!("{RIGHT} if ($uri = /metrics) {{ proxy_pass http://{}; }}", server.ops)).await;
    through(&nginx, &server).await.only("failure proxy operators", &["/metrics", "OPS_PORT"]);
}

#[tokio::test]
async fn an_idle_session_outlives_a_patient_proxy_and_not_an_impatient_one() {
    let server = TestServer::embedded().await;
    server.user("ann").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("the folder is ours");
    let stay = async |nginx: &Nginx| {
        let file = file.to_str().expect("a plain path");
        let arguments = ["--url", &nginx.url, "--idle", "3", "--user", "ann", "--password-file", file];
        Diagnosis::of(&server.run_beside(&[&DOCTOR[..], &arguments].concat(), &[FEW]).await)
    };
    stay(&Nginx::start(&server, RIGHT).await).await.healthy();
    let impatient = format!("{RIGHT} proxy_read_timeout 1s;");
    stay(&Nginx::start(&server, &impatient).await)
        .await
        .only("failure proxy idle", &["cut off after 1 s", "proxy_read_timeout"]);
}
