//! The way to the node as clients take it: through the reverse proxy, by the public URL.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Socket, Upgrade};
use crate::config::Settings;
use crate::finding::Finding;

/// A page that nobody serves: the name is reserved.
const FOREIGN_ORIGIN: &str = "https://doctor.invalid";
/// An address that nobody has (RFC 5737).
const FORGED: &str = "198.51.100.77";
/// As large a frame as a client may have to send, short of the limit of 64 KiB.
const LARGE_BYTES: usize = 60 * 1024;
/// The first frame is an answer to ours; where it takes longer, something holds it back.
const FRAME_SLOW: Duration = Duration::from_secs(1);
/// How long any frame may take.
const FRAME_MAX: Duration = Duration::from_secs(10);
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
        if went == crate::finding::Verdict::Failure {
            return findings;
        }
        findings.extend(operators(&client).await);
        findings.push(foreign_origin(&client).await);
        findings.push(own_origin(&client).await);
        match client.upgrade(&[]).await {
            Ok(Upgrade::Open(socket)) => {
                findings.push(Finding::ok("proxy upgrade", "101, burble.v1"));
                findings.extend(frames(*socket).await);
                findings.push(large(&client).await);
                if let Some((user, password, idle)) = &self.idle {
                    let stayed = stay(&client, user, password, *idle).await;
                    findings.push(stayed.unwrap_or_else(|error| {
                        let remedy = "see that the name and the password are right";
                        Finding::failure("proxy idle", format!("{error:#}"), remedy)
                    }));
                }
            }
            Ok(Upgrade::Refused(status)) => {
                findings.push(Finding::failure("proxy upgrade", format!("refused with {status}"), UPGRADE_REMEDY));
            }
            Err(error) => findings.push(Finding::failure("proxy upgrade", format!("{error:#}"), UPGRADE_REMEDY)),
        }
        findings.push(address(&client, settings).await);
        findings
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
        Ok(Upgrade::Refused(StatusCode::FORBIDDEN)) => Finding::ok(CHECK, "refused with 403"),
        Ok(Upgrade::Refused(status)) => {
            Finding::failure(CHECK, format!("refused with {status}, not 403"), UPGRADE_REMEDY)
        }
        Ok(Upgrade::Open(_)) => {
            Finding::failure(CHECK, "let in: any page may use the sign-ins of its visitors", remedy)
        }
        Err(error) => Finding::failure(CHECK, format!("{error:#}"), UPGRADE_REMEDY),
    }
}

async fn own_origin(client: &Client) -> Finding {
    const CHECK: &str = "proxy own origin";
    let origin = client.origin();
    match client.upgrade(&[("origin", &origin)]).await {
        Ok(Upgrade::Open(_)) => Finding::ok(CHECK, format!("{origin} is let in")),
        Ok(Upgrade::Refused(StatusCode::FORBIDDEN)) => Finding::failure(
            CHECK,
            format!("pages of {origin} are refused"),
            format!("nginx: proxy_set_header Host $http_host; or set SERVER_ORIGINS={origin}"),
        ),
        Ok(Upgrade::Refused(status)) => Finding::failure(CHECK, format!("refused with {status}"), UPGRADE_REMEDY),
        Err(error) => Finding::failure(CHECK, format!("{error:#}"), UPGRADE_REMEDY),
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

/// A token that is none is told so in a frame, and the socket closed with 4401; each must arrive, and at once.
async fn frames(mut socket: Socket) -> Vec<Finding> {
    let remedy = "switch buffering off: nginx: proxy_buffering off;";
    let began = Instant::now();
    let said = say(&mut socket, &json!({"op": "auth", "token": "none"})).await;
    let mut findings = vec![match said {
        Ok(_) if began.elapsed() <= FRAME_SLOW => {
            Finding::ok("proxy frames", format!("the first came after {} ms", began.elapsed().as_millis()))
        }
        Ok(_) => {
            let found = format!("the first came after {} ms", began.elapsed().as_millis());
            Finding::warning("proxy frames", found, remedy)
        }
        Err(error) => Finding::failure("proxy frames", format!("{error:#}"), remedy),
    }];
    findings.push(match closed(&mut socket).await {
        Some(4401) => Finding::ok("proxy close codes", "4401 arrives as 4401"),
        Some(code) => Finding::failure("proxy close codes", format!("4401 arrives as {code}"), CLOSE_REMEDY),
        None => Finding::failure("proxy close codes", "4401 does not arrive (1006 to a browser)", CLOSE_REMEDY),
    });
    findings
}

const CLOSE_REMEDY: &str = "have the proxy pass the socket on as it is, without reading WebSocket frames";

async fn large(client: &Client) -> Finding {
    const CHECK: &str = "proxy large frame";
    let passed = async {
        let Upgrade::Open(mut socket) = client.upgrade(&[]).await? else { anyhow::bail!("no second socket is opened") };
        let answer = say(&mut socket, &json!({"op": "auth", "token": "x".repeat(LARGE_BYTES)})).await?;
        ensure!(answer["ev"] == "error", "answered by {}", answer["ev"]);
        anyhow::Ok(())
    };
    match passed.await {
        Ok(()) => Finding::ok(CHECK, "60 KiB pass"),
        Err(error) => Finding::failure(
            CHECK,
            format!("60 KiB do not pass: {error:#}"),
            "raise the proxy's limit of a frame or body to 64 KiB and more",
        ),
    }
}

/// Signs in, stays idle, and says whether that was borne.
async fn stay(client: &Client, user: &str, password: &PathBuf, idle: Duration) -> anyhow::Result<Finding> {
    const CHECK: &str = "proxy idle";
    let password =
        std::fs::read_to_string(password).with_context(|| format!("{} cannot be read", password.display()))?;
    let credentials = json!({"name": user, "password": password.trim_end_matches(['\r', '\n'])});
    let answer = client.ask("POST", "/login", &[], Some(&credentials)).await?;
    ensure!(answer.status == StatusCode::OK, "POST /login is answered {}", answer.status);
    let tokens = answer.json().context("POST /login is answered by no JSON")?;
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap_or_default());
    let stayed = sit(client, &bearer, idle).await;
    // Leaves no sign-in behind.
    let _ = client.ask("POST", "/logout", &[("authorization", &bearer)], Some(&json!({}))).await;
    let remedy = "be more patient than SESSION_PING_MS: nginx: proxy_read_timeout 75s; HAProxy: timeout tunnel 75s";
    Ok(match stayed? {
        (pings, None) => Finding::ok(CHECK, format!("open after {} s, {pings} pings", idle.as_secs())),
        (pings, Some(after)) => {
            let found = format!("cut off after {} s, {pings} pings", after.as_secs());
            Finding::failure(CHECK, found, remedy)
        }
    })
}

/// How many pings came, and when the socket was cut off, if it was.
async fn sit(client: &Client, bearer: &str, idle: Duration) -> anyhow::Result<(u32, Option<Duration>)> {
    let socket = client.upgrade(&[("authorization", bearer)]).await?;
    let Upgrade::Open(mut socket) = socket else { anyhow::bail!("the signed-in socket is refused") };
    let (began, mut pings) = (Instant::now(), 0);
    loop {
        match timeout_at(began + idle, socket.next()).await {
            Ok(Some(Ok(Message::Ping(_)))) => pings += 1,
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Ok((pings, Some(began.elapsed()))),
            Ok(Some(Ok(_))) => {}
            Err(_) => break,
        }
    }
    let answered = say(&mut socket, &json!({"op": "ping", "ref": 1})).await.is_ok();
    Ok((pings, (!answered).then(|| began.elapsed())))
}

/// Sends a frame and waits for the next one.
async fn say(socket: &mut Socket, command: &Value) -> anyhow::Result<Value> {
    let exchange = async {
        socket.send(Message::text(command.to_string())).await?;
        loop {
            match socket.next().await.context("the socket ended")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => anyhow::bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    };
    timeout(FRAME_MAX, exchange).await.with_context(|| format!("no frame within {FRAME_MAX:?}"))?
}

/// The close code; none where the socket ended without one.
async fn closed(socket: &mut Socket) -> Option<u16> {
    let closing = async {
        loop {
            match socket.next().await? {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    timeout(FRAME_MAX, closing).await.ok()?
}
