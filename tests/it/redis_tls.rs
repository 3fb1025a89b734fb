//! Redis over TLS, as one server, as a Cluster and under a Sentinel, which show and ask for certificates.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::ports::fixed_port;
use crate::support::redis::{Redis, own_folder};
use crate::support::tls::Authority;
use crate::support::{TestServer, eventually, message, without};

/// A Redis that speaks in the clear on one port and TLS on another.
struct Encrypted {
    redis: Redis,
    tls_port: u16,
    folder: PathBuf,
}

impl Encrypted {
    fn start(more: &[&str]) -> Self {
        let (folder, tls_port) = (own_folder(), fixed_port());
        Authority::new().issue(&folder);
        let mut arguments = options(&folder, tls_port, "--");
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let redis = Redis::with_arguments(folder.clone(), &arguments);
        Self { redis, tls_port, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What lets a node in, by this port.
    fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("PUBSUB_SERVER_PORT", port.to_string()),
            ("PUBSUB_TLS", "on".into()),
            ("PUBSUB_TLS_CA", self.file("authority.pem")),
            ("PUBSUB_TLS_CERT", self.file("chat.pem")),
            ("PUBSUB_TLS_KEY", self.file("chat.key")),
        ]
    }
}

/// The options of a server that speaks TLS on this port, names and values in turn, each name behind a prefix.
fn options(folder: &Path, port: u16, prefix: &str) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let values = [
        ("tls-port", port.to_string()),
        ("tls-cert-file", file("chat.pem")),
        ("tls-key-file", file("chat.key")),
        ("tls-ca-cert-file", file("authority.pem")),
    ];
    values.into_iter().flat_map(|(name, value)| [format!("{prefix}{name}"), value]).collect()
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Starts a node with these settings, and has one say something to another.
async fn talk(redis: &Redis, settings: &[(&'static str, String)]) -> TestServer {
    let server = TestServer::on(redis, &borrowed(settings)).await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let sent = ann.send("tea", "hello").await;
    assert_eq!(without(bob.next_message().await, &["at"]), message("tea", &sent.id, "ann", "hello"));
    server
}

#[tokio::test]
async fn a_redis_is_spoken_to_in_tls_alone_and_found_again_when_all_connections_broke() {
    let mut encrypted = Encrypted::start(&[]);
    let settings = encrypted.settings(encrypted.tls_port);
    let server = talk(&encrypted.redis, &settings).await;
    let clients: String = encrypted.redis.ask(&["CLIENT", "LIST"]).await.expect("it runs");
    let connected_to = |port: u16| clients.matches(&format!(" laddr=127.0.0.1:{port} ")).count();
    assert!(connected_to(encrypted.tls_port) > 1, "{clients}");
    assert_eq!(connected_to(encrypted.redis.port), 1, "the one that asks: {clients}");

    encrypted.redis.kill();
    encrypted.redis.restart();
    let mut carl = server.session("carl").await;
    eventually("it is found again", async || {
        let answer = carl.ask(json!({"op": "send", "channel": "tea", "text": "still there?"})).await;
        (answer["ev"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_tells_the_ports_where_it_speaks_tls() {
    let encrypted = Encrypted::start(&["--cluster-enabled", "yes", "--tls-cluster", "yes"]);
    encrypted.redis.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    eventually("the Cluster is one", async || {
        let info: String = encrypted.redis.ask(&["CLUSTER", "INFO"]).await.ok()?;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    let mut settings = encrypted.settings(encrypted.tls_port);
    settings.push(("PUBSUB_SERVER_MODE", "cluster".into()));
    talk(&encrypted.redis, &settings).await;
}

#[tokio::test]
async fn a_sentinel_and_the_primary_that_it_names_are_spoken_to_in_tls() {
    let encrypted = Encrypted::start(&["--tls-replication", "yes"]);
    let (port, tls_port) = (fixed_port(), fixed_port());
    let mut lines = vec![format!("port {port}"), "bind 127.0.0.1".into(), "tls-replication yes".into()];
    lines.extend(options(&encrypted.folder, tls_port, "").chunks(2).map(|option| option.join(" ")));
    lines.push(format!("sentinel monitor mymaster 127.0.0.1 {} 1", encrypted.tls_port));
    let file = encrypted.folder.join("sentinel.conf");
    std::fs::write(&file, lines.join("\n")).expect("the folder is ours");
    let arguments = vec![file.display().to_string(), "--sentinel".into()];
    let _sentinel = Redis::configured(port, arguments, encrypted.folder.join("sentinel.log"), None);
    let mut settings = encrypted.settings(tls_port);
    settings.push(("PUBSUB_SERVER_MODE", "sentinel".into()));
    talk(&encrypted.redis, &settings).await;
}

#[tokio::test]
async fn what_keeps_a_connection_from_coming_about_is_said_with_the_remedy() {
    let encrypted = Encrypted::start(&[]);
    let good = encrypted.settings(encrypted.tls_port);
    let but = |changes: &[(&'static str, &str)]| {
        let mut settings = good.clone();
        for (name, value) in changes {
            settings.retain(|(known, _)| known != name);
            settings.push((name, (*value).to_owned()));
        }
        settings
    };
    let (clear, key, none) = (encrypted.redis.port.to_string(), encrypted.file("chat.key"), encrypted.file("none.pem"));
    let at_tls = format!("127.0.0.1:{}", encrypted.tls_port);
    let cases = [
        // Of an authority that the system does not know.
        (but(&[("PUBSUB_TLS_CA", "")]), vec![at_tls.as_str(), "PUBSUB_TLS_CA"]),
        (but(&[("PUBSUB_TLS_CERT", ""), ("PUBSUB_TLS_KEY", "")]), vec![&at_tls, "PUBSUB_TLS_CERT"]),
        (but(&[("PUBSUB_SERVER_PORT", &clear)]), vec![&clear, "PUBSUB_TLS=on"]),
        (
            but(&[("PUBSUB_TLS", "off"), ("PUBSUB_TLS_CA", ""), ("PUBSUB_TLS_CERT", ""), ("PUBSUB_TLS_KEY", "")]),
            vec![&at_tls, "PUBSUB_TLS=on"],
        ),
        (but(&[("PUBSUB_TLS_CA", &none)]), vec!["PUBSUB_TLS_CA", "none.pem"]),
        (but(&[("PUBSUB_TLS_CA", &key)]), vec!["PUBSUB_TLS_CA", "no certificate", "chat.key"]),
        (but(&[("PUBSUB_TLS", "off")]), vec!["PUBSUB_TLS_CA", "PUBSUB_TLS is off"]),
        (but(&[("PUBSUB_TLS_KEY", "")]), vec!["PUBSUB_TLS_KEY", "PUBSUB_TLS_CERT"]),
    ];
    for (settings, said) in cases {
        let ended = TestServer::refused(&borrowed(&settings)).await;
        assert!(!ended.status.success());
        for part in said {
            assert!(ended.output.contains(part), "no {part} for {settings:?} in\n{}", ended.output);
        }
    }
    for (changed, said) in [("", "PUBSUB_TLS_CA"), (none.as_str(), "none.pem")] {
        let mut settings = but(&[("PUBSUB_TLS_CA", changed)]);
        settings.push(("PUBSUB_SERVER_HOST", "127.0.0.1".into()));
        let found = TestServer::run(&["doctor"], &borrowed(&settings)).await;
        let failure = found.output.lines().find(|line| line.contains("failure") && line.contains("redis"));
        assert!(failure.is_some() && found.output.contains(said), "{}", found.output);
    }
}
