//! From a request to a socket: checks the headers, then hands the bare connection to a session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::reply::Response;

use super::Api;
use super::admission::Entering;
use super::edge::Admitted;
use super::request::{Call, bearer};
use crate::config::Origins;
use crate::error::{Error, Result};
use crate::protocol::SUBPROTOCOL;
use crate::session::{Guest, Upgraded};

/// To a session.
pub(super) async fn upgrade(api: Api, mut call: Call) -> Result<Response> {
    let began = Instant::now();
    let switching = handshake(&api, &call.headers)?;
    let name = call.query.remove("name");
    let token = bearer(&call.headers)?;
    // Given back with `welcome`: strangers have places of their own, so that they cannot take those of members.
    let (guest, entering) = match token {
        None => {
            let (place, displaced) = api.admission.stranger();
            (Guest::Stranger { name, displaced }, Entering::Stranger(place))
        }
        Some(token) => {
            let place = api.admission.upgrade()?;
            let caller = api.chat.authenticate(token).await?;
            if name.is_some_and(|name| name != caller.name.as_str()) {
                return Err(Error::Forbidden("name is not the name of the signed-in user".into()));
            }
            (Guest::Member(api.sessions.enter(caller)?), Entering::Member(place))
        }
    };
    api.sessions.spawn(connection(call)?, guest, entering, began);
    Ok(switching)
}

/// To a socket that gives back what it gets.
#[cfg(feature = "conformance")]
pub(super) async fn echo(api: Api, call: Call) -> Result<Response> {
    let switching = handshake(&api, &call.headers)?;
    api.sessions.echo(connection(call)?);
    Ok(switching)
}

/// Whether there may be a socket, whoever asks; the answer, where there may.
fn handshake(api: &Api, headers: &HeaderMap) -> Result<Response> {
    let accept = accept_key(headers)?;
    if let Err(error) = check_origin(headers, &api.origins) {
        api.metrics.refused_total.with(["origin"]).increment(1);
        return Err(error);
    }
    let chosen = choose_subprotocol(headers)?;
    if api.stop.is_cancelled() {
        return Err(Error::Unavailable(anyhow::anyhow!("the node is stopping")));
    }
    Ok(switching(&accept, chosen))
}

/// The connection once it is upgraded, and its place among all.
fn connection(mut call: Call) -> Result<impl Future<Output = (Option<Upgraded>, Option<Admitted>)> + Send + 'static> {
    let on_upgrade = call.on_upgrade.take().ok_or_else(not_an_upgrade)?;
    let admitted = call.admitted.take();
    Ok(async move { (bare(on_upgrade).await, admitted) })
}

/// The bare connection, and what was read of it already.
async fn bare(on_upgrade: OnUpgrade) -> Option<Upgraded> {
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    Some(Upgraded { stream: parts.io.into_inner(), read: parts.read_buf })
}

fn switching(accept: &str, subprotocol: Option<&'static str>) -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(accept).expect("base64 makes a header"));
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    answer
}

/// The answer to the client's key, where the request is the upgrade of RFC 6455.
fn accept_key(headers: &HeaderMap) -> Result<String> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(not_an_upgrade)?;
    let is_key = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
    let is_upgrade = has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if is_key && is_upgrade { Ok(derive_accept_key(key.as_bytes())) } else { Err(not_an_upgrade()) }
}

fn not_an_upgrade() -> Error {
    Error::BadRequest("this is a WebSocket: send an upgrade, version 13, with a key of 16 bytes".into())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// A client that offers none is served; one that offers some must offer ours.
fn choose_subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>> {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let ours = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == SUBPROTOCOL);
    if ours { Ok(Some(SUBPROTOCOL)) } else { Err(Error::UnsupportedProtocol) }
}

/// A browser tells whose page is asking: it must be ours, or one on the list. Other clients send none.
fn check_origin(headers: &HeaderMap, allowed: &Origins) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next().map(|origin| origin.to_str()), origins.next()) {
        (None, _) => Ok(()),
        (Some(Ok(origin)), None) if allowed.allow(origin) || is_own(headers, origin) => Ok(()),
        _ => Err(Error::OriginDenied),
    }
}

/// Whether the origin is the host that was asked, on the same port.
fn is_own(headers: &HeaderMap, origin: &str) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let (authority, port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    bare(authority) == bare(host)
}

#[cfg(test)]
pub(super) mod document {
    use super::super::openapi::*;

    pub(in crate::http) fn operations() -> Vec<Operation> {
        vec![
            Operation::open(Method::GET, "/ws", "openSocket", "Open a WebSocket")
                .detail("With a token, signed in at once; without one, the first frame is `auth`.")
                .or_not()
                .with([SESSION_NAME, ORIGIN, SUBPROTOCOL_OFFERED])
                .ends(101, "Switched to `burble.v1`, which `/asyncapi.json` describes.")
                .refuses([BAD_UPGRADE, UNAUTHENTICATED, FOREIGN_UPGRADE, TOO_MANY_SESSIONS, INTERNAL]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_host_and_port_is_our_own() {
        let own = |host: &str, origin: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
            is_own(&headers, origin)
        };
        assert!(own("chat.example", "https://chat.example"));
        assert!(own("chat.example:443", "https://chat.example"));
        assert!(own("127.0.0.1:8080", "http://127.0.0.1:8080"));
        for foreign in [
            "null",
            "",
            "https://chat.example.evil",
            "http://127.0.0.1",
            "http://127.0.0.1:8081",
            "ws://127.0.0.1:8080",
        ] {
            assert!(!own("127.0.0.1:8080", foreign), "{foreign}");
        }
    }
}
