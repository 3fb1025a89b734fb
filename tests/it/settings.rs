//! Settings that cannot be stop the start, and say what would do.

use crate::support::TestServer;

#[tokio::test]
async fn a_setting_that_cannot_be_names_itself_what_was_found_and_what_is_expected() {
    let cases = [
        ("SERVER_PROT", "8080", vec!["SERVER_PROT"]),
        ("SERVER_PORT", "eighty", vec!["SERVER_PORT", "eighty"]),
        ("SERVER_PORT", "65536", vec!["SERVER_PORT", "65536"]),
        ("PUBSUB_SERVER_MODE", "triple", vec!["PUBSUB_SERVER_MODE", "triple", "single"]),
        ("PUBSUB_DURABILITY", "hope", vec!["PUBSUB_DURABILITY", "hope", "memory", "fsync", "replica"]),
        ("LIMIT_SESSION_JOINS", "-1", vec!["LIMIT_SESSION_JOINS", "-1"]),
        ("ENV", "prod", vec!["ENV", "prod", "production", "development"]),
        ("SERVER_DB", "mysql://db", vec!["SERVER_DB", "postgres"]),
        ("SERVER_ORIGINS", "chat.example", vec!["SERVER_ORIGINS", "chat.example"]),
        ("SERVER_TRUSTED_PROXIES", "10.0.0.0/33", vec!["SERVER_TRUSTED_PROXIES", "10.0.0.0/33"]),
    ];
    for (name, value, said) in cases {
        let started = TestServer::refused(&[(name, value)]).await;
        let checked = TestServer::run(&["check-config"], &[(name, value)]).await;
        for ended in [started, checked] {
            assert!(!ended.status.success(), "{name}={value}");
            for part in &said {
                assert!(ended.output.contains(part), "{name}={value}: no {part} in\n{}", ended.output);
            }
        }
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_a_secret_is_not_repeated() {
    let ended = TestServer::run(&["check-config"], &[("AUTH_SECRET", "short-secret"), ("OPS_PORT", "x")]).await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("AUTH_SECRET") && ended.output.contains("OPS_PORT"), "{}", ended.output);
    assert!(!ended.output.contains("short-secret"), "{}", ended.output);
}

#[tokio::test]
async fn good_settings_are_found_good_without_a_start() {
    let ended = TestServer::run(&["check-config"], &[]).await;
    assert!(ended.status.success(), "{}", ended.output);
    assert!(!ended.output.contains("Burble listens"), "{}", ended.output);
}

#[tokio::test]
async fn in_production_a_key_must_be_given_where_the_redis_is_not_our_own() {
    let ended =
        TestServer::refused(&[("ENV", "production"), ("AUTH_SECRET", ""), ("AUTH_PASSWORD_ROUNDS", "600000")]).await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("AUTH_SECRET"), "{}", ended.output);
}

#[tokio::test]
async fn a_redis_that_is_not_there_or_not_fit_is_named_with_the_remedy() {
    let gone = TestServer::refused(&[("PUBSUB_SERVER_PORT", "1")]).await;
    assert!(!gone.status.success());
    assert!(gone.output.contains("127.0.0.1:1"), "{}", gone.output);
    // The shared Redis of these tests writes nothing to the disk.
    let unfit = TestServer::refused(&[("PUBSUB_DURABILITY", "fsync")]).await;
    assert!(!unfit.status.success());
    assert!(unfit.output.contains("appendonly"), "{}", unfit.output);
}

#[tokio::test]
async fn the_number_of_feeds_is_fixed_at_installation() {
    let mut server = TestServer::with(&[("PUBSUB_FEEDS", "16")]).await;
    server.stop().await;
    let ended = TestServer::refused(&[("PUBSUB_FEEDS", "32"), ("PUBSUB_PREFIX", &server.prefix)]).await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("PUBSUB_FEEDS"), "{}", ended.output);
}

#[tokio::test]
async fn a_second_node_on_sqlite_is_refused_with_an_explanation() {
    let server = TestServer::start().await;
    let ended = TestServer::refused(&[("PUBSUB_PREFIX", &server.prefix)]).await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("SERVER_DB") && ended.output.contains("postgres"), "{}", ended.output);
}
