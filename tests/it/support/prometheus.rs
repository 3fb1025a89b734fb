//! A real Prometheus, which scrapes the servers under test once a second.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::keeper::Keeper;
use super::ports::fixed_port;
use super::{Request, TestServer, eventually, items};

/// The rules that come with Burble.
pub(crate) const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/burble.rules.yml");

pub(crate) struct Prometheus {
    address: SocketAddr,
    /// Ends with this, before the folder goes.
    _keeper: Keeper,
    _folder: TempDir,
}

impl Prometheus {
    /// Waits until it answers.
    pub(crate) async fn scraping(servers: &[&TestServer]) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-prometheus").tempdir().expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], fixed_port()));
        let targets: Vec<_> = servers.iter().map(|server| server.ops.to_string()).collect();
        // JSON is YAML.
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [RULES],
            "scrape_configs": [{ "job_name": "burble", "static_configs": [{ "targets": targets }] }],
        });
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).expect("the folder can be written");
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let program = [
            "prometheus".to_owned(),
            option("config.file", &file),
            option("storage.tsdb.path", &folder.path().join("data")),
            format!("--web.listen-address={address}"),
        ];
        let keeper = Keeper::start(&program, &folder.path().join("log"), None);
        eventually("Prometheus is ready", async || {
            let answer = Request::new("GET", "/-/ready").elsewhere().try_send(address).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Self { address, _keeper: keeper, _folder: folder }
    }

    /// The values that an expression has now; one that Prometheus does not understand fails.
    pub(crate) async fn ask(&self, expression: &str) -> Vec<f64> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(expression))).await;
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|value| value.parse().ok());
        items(&data["result"]).iter().map(|sample| value(sample).expect("a number")).collect()
    }

    /// All rules, as Prometheus has understood them.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules").await;
        items(&data["groups"]).iter().flat_map(|group| items(&group["rules"])).cloned().collect()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = Request::new("GET", path).elsewhere().send(self.address).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["data"].take()
    }
}

/// As a part of a URL's query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
