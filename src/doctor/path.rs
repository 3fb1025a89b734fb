//! The way to the node as clients take it: through the reverse proxy, by the public URL.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use tokio::time::Instant;

use super::client::{Client, NotOpen};
use super::socket;
use crate::config::Settings;
use crate::finding::{Finding, Verdict};

/// A page that nobody serves: the name is reserved.
const FOREIGN_ORIGIN: &str = "https://doctor.invalid";
/// An address that nobody has (RFC 5737).
const FORGED: &str = "198.51.100.77";
const UPGRADE_REMEDY: &str = "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
     proxy_set_header Connection \"upgrade\"; (deploy/nginx.conf)";

/// A visit by way of the public URL.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where clients go: `https://chat.example.com`.
    pub url: String,
    /// Who stays idle, for how long, and the file with their password.
    pub idle: Option<(String, PathBuf, Duration)>,
}

impl Visit {
    pub(super) async fn examine(&self, settings: &Settings) -> Vec<Finding> {
        let client = match Client::new(&self.url) {
            Ok(client) => client,
            Err(error) => {
                return vec![Finding::failure("url", format!("{error:#}"), "give it as https://chat.example.com")];
            }
        };
        let mut findings = Vec::new();
        let reached = http(&client).await;
        let went = reached.verdict;
        findings.push(reached);
        if went == Verdict::Failure {
            return findings;
        }
        findings.extend(operators(&client).await);
        match client.upgrade(&[]).await {
            Ok(socket) => {
                findings.push(Finding::ok("proxy upgrade", "101, burble.v1"));
                findings.extend(socket::frames(&client, socket).await);
                findings.push(socket::large(&client).await);
                findings.push(foreign_origin(&client).await);
                findings.push(own_origin(&client).await);
                findings.extend(self.idle(&client, settings).await);
            }
            Err(why) => findings.push(not_open("proxy upgrade", why)),
        }
        findings.push(address(&client, settings).await);
        findings
    }

    async fn idle(&self, client: &Client, settings: &Settings) -> Option<Finding> {
        let (user, password, idle) = self.idle.as_ref()?;
        let ping = Duration::from_millis(settings.session.ping_ms);
        let stayed = socket::stay(client, user, password, *idle, ping).await;
        Some(stayed.unwrap_or_else(|error| {
            Finding::failure("proxy idle", format!("{error:#}"), "see that the name and the password are right")
        }))
    }
}

async fn http(client: &Client) -> Finding {
    const CHECK: &str = "proxy";
    let began = Instant::now();
    let remedy = "see that the proxy runs and passes all paths on to SERVER_HOST:SERVER_PORT";
    match client.ask("GET", "/openapi.json", &[], None).await {
        Ok(answer) if answer.json().is_some_and(|document| document["info"]["title"] == "Burble") => {
            Finding::ok(CHECK, format!("leads to Burble, {} ms", began.elapsed().as_millis()))
        }
        Ok(answer) => {
            Finding::failure(CHECK, format!("GET /openapi.json is answered {}, not by Burble", answer.status), remedy)
        }
        Err(error) => {
            let why = format!("{error:#}");
            let remedy = if why.contains("certificate") {
                "have the proxy show a certificate for this name; SSL_CERT_FILE=… names an authority of your own"
            } else {
                remedy
            };
            Finding::failure(CHECK, why, remedy)
        }
    }
}

/// What is for operators must not be for all.
async fn operators(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, ours) in [("/metrics", "burble_"), ("/readyz", "\"ready\""), ("/livez", "\"alive\"")] {
        let Ok(answer) = client.ask("GET", path, &[], None).await else { continue };
        if String::from_utf8_lossy(&answer.body).contains(ours) {
            let remedy = "have the proxy pass nothing on to OPS_PORT";
            findings.push(Finding::failure("proxy operators", format!("{path} is open to the public"), remedy));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("proxy operators", "probes and metrics are not exposed"));
    }
    findings
}

async fn foreign_origin(client: &Client) -> Finding {
    const CHECK: &str = "proxy foreign origin";
    let remedy = "have the proxy pass Origin on as it came, and Host as the browser sent it";
    match client.upgrade(&[("origin", FOREIGN_ORIGIN)]).await {
        Err(NotOpen::Refused(StatusCode::FORBIDDEN)) => Finding::ok(CHECK, "refused with 403"),
        Ok(_) => Finding::failure(CHECK, "let in: any page may use the sign-ins of its visitors", remedy),
        Err(why) => not_open(CHECK, why),
    }
}

async fn own_origin(client: &Client) -> Finding {
    const CHECK: &str = "proxy own origin";
    let origin = client.origin();
    match client.upgrade(&[("origin", &origin)]).await {
        Ok(_) => Finding::ok(CHECK, format!("{origin} is let in")),
        Err(NotOpen::Refused(StatusCode::FORBIDDEN)) => Finding::failure(
            CHECK,
            format!("pages of {origin} are refused"),
            format!("nginx: proxy_set_header Host $http_host; or set SERVER_ORIGINS={origin}"),
        ),
        Err(why) => not_open(CHECK, why),
    }
}

/// Who answers requests and not the upgrade waits for the end of an answer that has none.
fn not_open(check: &str, why: NotOpen) -> Finding {
    match why {
        NotOpen::Refused(status) => Finding::failure(check, format!("refused with {status}"), UPGRADE_REMEDY),
        NotOpen::Unanswered => {
            Finding::failure(check, "no answer in time, though requests are answered", socket::HELD_REMEDY)
        }
        NotOpen::Failed(error) => Finding::failure(check, format!("{error:#}"), UPGRADE_REMEDY),
    }
}

/// Whether the node sees our address, and goes on seeing it when we claim another one.
async fn address(client: &Client, settings: &Settings) -> Finding {
    const CHECK: &str = "proxy address";
    let seen = async |headers: &[(&str, &str)]| {
        let answer = client.ask("GET", "/address", headers, None).await?;
        let document = answer.json().with_context(|| format!("GET /address is answered {}", answer.status))?;
        let address = document["address"].as_str().and_then(|address| address.parse::<IpAddr>().ok());
        address.context("GET /address is answered without an address")
    };
    let asked = async {
        anyhow::Ok((seen(&[]).await?, seen(&[("x-forwarded-for", FORGED)]).await?, client.own_address().await?))
    };
    let (honest, forged, own) = match asked.await {
        Ok(answers) => answers,
        Err(error) => {
            return Finding::failure(
                CHECK,
                format!("{error:#}"),
                "have the proxy pass /address on like all other paths",
            );
        }
    };
    let is_private = match honest {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    };
    let is_trusted = settings.server.trusted_proxies.contain(honest);
    if is_trusted && honest == own {
        let found = format!("we are seen as {honest}, which is a trusted proxy and may claim any address");
        return Finding::note(CHECK, found, "run this from a machine that is no proxy");
    }
    if forged != honest {
        return Finding::failure(
            CHECK,
            format!("a forged X-Forwarded-For is believed: {honest} became {forged}"),
            "have the proxy set the header itself: nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             and name only the proxy in SERVER_TRUSTED_PROXIES",
        );
    }
    // Somebody who translates addresses on the way may show us under a public one that is not our own.
    if honest != own && is_private {
        return Finding::warning(
            CHECK,
            format!("we are {own} and seen as {honest}: where that is the proxy, all clients look like one"),
            if is_trusted {
                "nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;".to_owned()
            } else {
                format!("set SERVER_TRUSTED_PROXIES={honest}, and have the proxy set X-Forwarded-For")
            },
        );
    }
    Finding::ok(CHECK, format!("we are seen as {honest}, whatever we claim"))
}
