//! What operators ask.

use crate::support::{Request, TestServer, text};

#[tokio::test]
async fn a_running_node_is_alive_and_ready() {
    let server = TestServer::start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.probe(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn probes_and_metrics_are_not_for_the_public() {
    let server = TestServer::start().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        server.get(path).await.refused(404, "not_found");
    }
    for path in ["/me", "/channels", "/openapi.json"] {
        assert_eq!(server.probe(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_named_described_and_without_anybodys_name() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann-the-listener").await;
    ann.create_channel("tea-for-two").await;
    ann.join("tea-for-two").await;
    ann.send("tea-for-two", "hello").await;
    ann.next_message().await;
    let metrics = server.metrics().await;
    let samples = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for sample in samples {
        let name = sample.split(['{', ' ']).next().expect("a name");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let described = [name, family].iter().any(|name| metrics.contains(&format!("# HELP {name} ")));
        assert!(described, "{name} has no help");
        let ours = ["burble_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(ours, "{name} has no prefix of ours");
    }
    for private in ["ann-the-listener", "tea-for-two", text(&ann.welcome["session"])] {
        assert!(!metrics.contains(private), "{private} is nobody's business");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    server.get("/").await.refused(404, "not_found");
    server.get("/nowhere").await.refused(404, "not_found");
    let ann = server.user("ann").await;
    ann.delete("/nowhere").await.refused(404, "not_found");
    Request::new("POST", "/me/nothing").send(server.address).await.refused(404, "not_found");
}
