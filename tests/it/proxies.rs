//! Every reverse proxy of deploy/, with the files that operators copy: two nodes behind it, real clients over TLS before it.

use std::time::Duration;

use burble::config::Settings;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::crowd::Crowd;
use crate::support::proxy::{HANDSHAKES, KINDS, Kind, Proxy, SIGN_INS, SOCKETS, Site, shipped};
use crate::support::tls::{Door, HOST};
use crate::support::user::PASSWORD;
use crate::support::{Answer, Request, Session, TestUser, eventually, items};

/// Where the visitors come from; the nodes believe no claim of theirs.
const VISITOR: [u8; 4] = [127, 0, 0, 5];
const FORGED: &str = "198.51.100.77";

#[test]
fn every_proxy_is_three_times_as_patient_as_the_ping() {
    let settings = Settings::from_vars([("AUTH_SECRET", "a key of thirty-two bytes or more")]).expect("defaults");
    for kind in &KINDS {
        for words in kind.patience {
            let seconds = seconds_behind(kind, words);
            assert!(seconds * 1_000 >= 3 * settings.session.ping_ms, "{}: {words}{seconds}s", kind.name);
        }
    }
}

/// Of `proxy_read_timeout 75s;` the 75. Where there are several lines, the last one is that of the socket.
fn seconds_behind(kind: &Kind, words: &str) -> u64 {
    let text: String = kind.files.iter().map(|file| shipped(file)).collect();
    let value = text.lines().filter_map(|line| line.trim().strip_prefix(words)).next_back();
    let value = value.unwrap_or_else(|| panic!("{:?} has no line with {words}", kind.files));
    value.trim_end_matches(['s', ';']).parse().expect("whole seconds")
}

#[tokio::test]
async fn every_proxy_passes_on_what_it_should_and_nothing_else() {
    let site = Site::start(&[]).await;
    for proxy in &site.proxies {
        println!("{}", proxy.kind.name);
        let door = site.door(proxy, VISITOR).await;
        believes_no_claim(&door, "127.0.0.5").await;
        keeps_what_is_for_operators(&door).await;
        leads_to_tls(proxy).await;
        let ann = TestUser::sign_up(door.address, proxy.kind.name).await;
        let mut session = session_with_a_query(&ann).await;
        assert_ne!(ann.session().await.welcome["node"], session.welcome["node"], "the one with fewer connections");
        carries_large_frames(&mut session).await;
        session.close().await;
        writes_down_none_of(proxy, &[&ann.access, &ann.refresh, PASSWORD, "?name="]).await;
    }
}

async fn believes_no_claim(door: &Door, address: &str) {
    let all_claims: [&[(&str, &str)]; 5] = [
        &[("X-Forwarded-For", FORGED)],
        &[("X-Forwarded-For", FORGED), ("x-forwarded-for", "127.0.0.1")],
        &[("X-Forwarded-For", "198.51.100.77, 127.0.0.1")],
        &[("X-Real-IP", FORGED), ("Forwarded", "for=198.51.100.77"), ("True-Client-IP", FORGED)],
        // Asks the proxy to drop its own header as one that concerns this connection alone.
        &[("Connection", "close, X-Forwarded-For"), ("X-Forwarded-For", FORGED)],
    ];
    for claims in all_claims {
        let asked =
            claims.iter().fold(Request::new("GET", "/address"), |asked, (name, value)| asked.header(name, value));
        assert_eq!(asked.send(door.address).await.expect(200), json!({"address": address}), "{claims:?}");
    }
}

async fn keeps_what_is_for_operators(door: &Door) {
    for path in ["/metrics", "/livez", "/readyz"] {
        let answer = Request::new("GET", path).elsewhere().send(door.address).await;
        // Burble's own would be JSON.
        assert_eq!((answer.status, answer.code().as_str()), (404, ""), "{path} {}", answer.text());
    }
}

async fn leads_to_tls(proxy: &Proxy) {
    let plain = Request::new("GET", "/me").elsewhere().send(proxy.plain).await;
    assert!([301, 308].contains(&plain.status), "{plain:?}");
    assert!(plain.header("Location").is_some_and(|to| to.starts_with("https://")), "{plain:?}");
}

async fn session_with_a_query(user: &TestUser) -> Session {
    let request = user.request("GET", &format!("/ws?name={}", user.name));
    let mut session = user.upgrade(request).await.expect("let in");
    session.welcome = session.next_of("welcome").await;
    session
}

/// 60 KiB to the node, and 64 KiB from it.
async fn carries_large_frames(session: &mut Session) {
    let name = session.name.clone();
    session.create_channel(&name).await;
    session.ok(json!({"op": "ping", "filler": "x".repeat(60 * 1024)})).await;
    for _ in 0..8 {
        session.send(&name, &"x".repeat(8 * 1024)).await;
    }
    let page = session.ok(json!({"op": "history", "channel": name})).await;
    assert_eq!(items(&page["events"]).len(), 8);
}

async fn writes_down_none_of(proxy: &Proxy, secrets: &[&str]) {
    let logs = eventually("the session is written down", async || {
        let logs = proxy.logs();
        ["/ws", "handshakes@file"].iter().any(|mark| logs.contains(mark)).then_some(logs)
    })
    .await;
    for secret in secrets {
        assert!(!logs.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_address_has_its_share_and_what_is_beyond_it_is_refused() {
    // Where the proxy has no limits, Burble's own has to do.
    let site = Site::start(&[("LIMIT_SIGN_IN_FAILURES_PER_ADDRESS", "40")]).await;
    for (number, proxy) in (0..).zip(&site.proxies) {
        println!("{}", proxy.kind.name);
        let door = site.door(proxy, [127, 0, 1, number]).await;
        let guess =
            Request::new("POST", "/login").elsewhere().json(&json!({"name": "nobody", "password": "wrong horse"}));
        let guesses = answered_before_refusal(&guess, &door, SIGN_INS).await;
        assert_eq!(guesses < 40, proxy.kind.has_limits, "{guesses} guesses were free");
        if proxy.kind.has_limits {
            let handshake = Request::new("GET", "/ws").elsewhere().bearer("none").upgrade();
            answered_before_refusal(&handshake, &door, HANDSHAKES).await;
            let door = site.door(proxy, [127, 0, 2, number]).await;
            has_so_many_sockets(&TestUser::sign_up(door.address, proxy.kind.name).await).await;
        }
    }
}

/// How often it is answered 401 before it is answered 429.
async fn answered_before_refusal(request: &Request, door: &Door, at_least: usize) -> usize {
    for count in 0..60 {
        let answer = request.clone().send(door.address).await;
        if answer.status == 429 {
            assert!(answer.header("Retry-After").is_some(), "{answer:?}");
            assert!(count >= at_least, "only {count} were free");
            return count;
        }
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    panic!("nothing is refused")
}

async fn has_so_many_sockets(user: &TestUser) {
    let open = async || user.upgrade(user.request("GET", "/ws")).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(eventually("the sign-up has gone", async || open().await.ok()).await);
    }
    let refused: Answer = open().await.err().expect("no place");
    assert_eq!(refused.status, 429, "{}", refused.text());
    sockets.pop().expect("one").close().await;
    eventually("there is a place again", async || open().await.ok()).await;
}

#[tokio::test]
async fn a_reload_takes_new_certificates_and_keeps_the_sockets() {
    let site = Site::start(&[]).await;
    let mut sessions = Vec::new();
    for proxy in &site.proxies {
        let door = site.door(proxy, VISITOR).await;
        let session = TestUser::sign_up(door.address, proxy.kind.name).await.session().await;
        sessions.push((door, session, site.authority.shown_at(proxy.address).await));
    }
    site.renew_certificates();
    for (proxy, (_door, session, before)) in site.proxies.iter().zip(&mut sessions) {
        println!("{}", proxy.kind.name);
        proxy.reload(site.certificates.path());
        eventually("the new certificate is shown", async || {
            (site.authority.shown_at(proxy.address).await != *before).then_some(())
        })
        .await;
        session.expect_silence().await;
    }
}

/// Debian's HAProxy bears a silence of 50 s, nginx one of 60 s; Traefik gives a request 60 s in all.
const USUALLY_BORNE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_session_may_be_silent_for_longer_than_proxies_usually_bear() {
    // Not even a ping keeps these alive.
    let site = Site::start(&[("SESSION_PING_MS", "3600000"), ("SESSION_SILENCE_MS", "7200000")]).await;
    let mut sessions = Vec::new();
    for proxy in &site.proxies {
        let door = site.door(proxy, VISITOR).await;
        let user = TestUser::sign_up(door.address, proxy.kind.name).await;
        sessions.push((user.session().await, door));
    }
    sleep(USUALLY_BORNE + Duration::from_secs(5)).await;
    for (session, _door) in &mut sessions {
        session.expect_silence().await;
    }
}

#[tokio::test]
async fn a_rolling_restart_costs_nobody_a_message() {
    let mut site = Site::start(&[]).await;
    let mut crowd = Crowd::gather(&site).await;
    crowd.writes_on().await;
    site.one.stop().await;
    site.one = site.one.again().await;
    serves_from(&site, "one").await;
    crowd.writes_on().await;
    site.two.stop().await;
    site.two = site.two.again().await;
    serves_from(&site, "two").await;
    crowd.writes_on().await;
    for (proxy, returns) in crowd.end().await {
        assert!(returns >= 2, "both listeners behind {proxy} had to come back: {returns}");
    }
}

/// Waits until every proxy sends somebody to this node.
async fn serves_from(site: &Site, node: &str) {
    for proxy in &site.proxies {
        let door = site.door(proxy, HOST).await;
        let user = TestUser { address: door.address, ..site.visitor.clone() };
        eventually(proxy.kind.name, async || {
            let session = user.try_session().await.ok()?;
            (session.welcome["node"] == node).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_node_costs_nobody_a_message() {
    let mut site = Site::start(&[]).await;
    let mut crowd = Crowd::gather(&site).await;
    crowd.writes_on().await;
    site.two.kill().await;
    crowd.writes_on().await;
    for (proxy, returns) in crowd.end().await {
        assert!(returns >= 1, "one of the listeners behind {proxy} was on the node that was killed");
    }
}

#[tokio::test]
async fn a_node_that_hangs_gets_nobody_new_where_the_proxy_checks() {
    let site = Site::start(&[]).await;
    site.two.signal("STOP");
    for proxy in site.proxies.iter().filter(|proxy| proxy.kind.has_checks) {
        let door = site.door(proxy, HOST).await;
        let user = TestUser { address: door.address, ..site.visitor.clone() };
        // Each that stays open is a reason to choose the other node.
        let mut sessions = Vec::new();
        eventually(proxy.kind.name, async || {
            sessions.push(timeout(Duration::from_secs(1), user.try_session()).await.ok()?.ok()?);
            (sessions.len() == 4).then_some(())
        })
        .await;
    }
    site.two.signal("CONT");
}
