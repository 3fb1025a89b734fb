//! Settings that may stand, and are unwise together. No I/O.

use std::net::IpAddr;

use crate::config::{Database, Durability, Environment, Settings};
use crate::finding::Finding;

/// Proxies cut a connection that is silent for so long, unless told otherwise.
const PROXY_PATIENCE_MS: u64 = 60_000;

pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let advice = [exposure(settings), operators(settings), proxies(settings), origins(settings), rest(settings)];
    let found: Vec<Finding> = advice.into_iter().flatten().collect();
    if found.is_empty() { vec![Finding::ok("settings", "they go together")] } else { found }
}

fn exposure(settings: &Settings) -> Vec<Finding> {
    let server = &settings.server;
    let mut found = Vec::new();
    if is_loopback(&server.host) {
        return found;
    }
    if settings.env == Environment::Development {
        found.push(Finding::warning(
            "ENV",
            format!("development, and SERVER_HOST={} is open to others: passwords may be hashed weakly", server.host),
            "set ENV=production, or SERVER_HOST=127.0.0.1",
        ));
    }
    if server.trusted_proxies.0.is_empty() {
        found.push(Finding::warning(
            "SERVER_TRUSTED_PROXIES",
            format!(
                "empty, and SERVER_HOST={} is open to others: behind a proxy all clients look like one",
                server.host
            ),
            "set SERVER_TRUSTED_PROXIES to the address of the proxy, or SERVER_HOST=127.0.0.1 where there is none",
        ));
    }
    found
}

fn operators(settings: &Settings) -> Vec<Finding> {
    let private = settings.ops.host.parse::<IpAddr>().map(|address| match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    });
    // A name may be anything; most often it is one of a private network.
    if private.unwrap_or(true) {
        return Vec::new();
    }
    let found = format!("{}: probes and metrics may be open to the public", settings.ops.host);
    vec![Finding::warning("OPS_HOST", found, "set OPS_HOST to 127.0.0.1 or an address of the private network")]
}

fn proxies(settings: &Settings) -> Vec<Finding> {
    let all = settings.server.trusted_proxies.0.iter().filter(|net| net.prefix_len() == 0);
    all.map(|net| {
        let found = format!("{net}: whoever connects may claim any address");
        Finding::failure("SERVER_TRUSTED_PROXIES", found, "name the proxies, or the range that only they have")
    })
    .collect()
}

fn origins(settings: &Settings) -> Vec<Finding> {
    if settings.env == Environment::Development {
        return Vec::new();
    }
    let plain = settings.server.origins.0.iter().filter(|origin| origin.as_str().starts_with("http://"));
    plain
        .map(|origin| {
            let found = format!("{origin}: whoever is on the way may change that page and use its visitors' sign-ins");
            Finding::warning("SERVER_ORIGINS", found, "serve the page by https://, and name it so")
        })
        .collect()
}

fn rest(settings: &Settings) -> Vec<Finding> {
    let (auth, pubsub) = (&settings.auth, &settings.pubsub);
    let mut found = Vec::new();
    if settings.session.ping_ms >= PROXY_PATIENCE_MS {
        let text = format!("{} ms: proxies cut what is silent for 60 s", settings.session.ping_ms);
        found.push(Finding::warning("SESSION_PING_MS", text, "set it to 25000"));
    }
    if auth.secret_previous.is_some() {
        let remedy = format!("remove it {} s after the last node has the new key", auth.access_seconds);
        found.push(Finding::note("AUTH_SECRET_PREVIOUS", "set: a rotation of the key is under way", remedy));
    }
    if settings.env == Environment::Production && !pubsub.is_embedded() && pubsub.durability == Durability::Memory {
        let remedy = "set PUBSUB_DURABILITY=fsync or replica where that must not be";
        found.push(Finding::note(
            "PUBSUB_DURABILITY",
            "memory: a crash of Redis may lose what was acknowledged",
            remedy,
        ));
    }
    if !pubsub.is_embedded() && matches!(settings.server.db, Database::Sqlite(_)) {
        let remedy = "set SERVER_DB=postgres://… before there is a second one";
        found.push(Finding::note("SERVER_DB", "SQLite serves one node", remedy));
    }
    found
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    fn advice(vars: &[(&str, &str)]) -> Vec<(String, Verdict)> {
        let vars = vars.iter().copied().chain([("AUTH_SECRET", "0123456789abcdef0123456789abcdef")]);
        let found = examine(&Settings::from_vars(vars).unwrap());
        assert!(found.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.remedy.is_empty()), "{found:?}");
        found.into_iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(advice(&[]), [("settings".into(), Verdict::Ok)]);
    }

    #[test]
    fn each_unwise_setting_has_its_line() {
        let cases = [
            (vec![("ENV", "development"), ("SERVER_HOST", "0.0.0.0"), ("SERVER_TRUSTED_PROXIES", "10.0.0.1")], "ENV"),
            (vec![("SERVER_HOST", "0.0.0.0")], "SERVER_TRUSTED_PROXIES"),
            (vec![("OPS_HOST", "0.0.0.0")], "OPS_HOST"),
            (vec![("OPS_HOST", "203.0.113.7")], "OPS_HOST"),
            (vec![("SERVER_ORIGINS", "http://chat.example")], "SERVER_ORIGINS"),
            (vec![("SESSION_PING_MS", "90000"), ("SESSION_SILENCE_MS", "200000")], "SESSION_PING_MS"),
        ];
        for (vars, check) in cases {
            assert_eq!(advice(&vars), [(check.into(), Verdict::Warning)], "{vars:?}");
        }
        let all = [("SERVER_TRUSTED_PROXIES", "0.0.0.0/0")];
        assert_eq!(advice(&all), [("SERVER_TRUSTED_PROXIES".into(), Verdict::Failure)]);
        assert_eq!(advice(&[("OPS_HOST", "10.1.2.3")]), [("settings".into(), Verdict::Ok)]);
    }
}
