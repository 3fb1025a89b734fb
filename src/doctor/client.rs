//! A client of the public door: HTTP and WebSocket, with TLS or without, a connection for each request.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_native_certs::load_native_certs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::protocol::SUBPROTOCOL;

/// How long connecting, and an answer, may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What is read of an answer; the largest of ours, the contract, has 100 KiB.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Plain or encrypted.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// The public door.
pub(super) struct Client {
    host: String,
    port: u16,
    authority: String,
    prefix: String,
    tls: Option<TlsConnector>,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Why a socket did not open.
pub(super) enum NotOpen {
    Refused(StatusCode),
    /// Nothing came.
    Unanswered,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotOpen {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Client {
    /// Takes `http`, `https`, `ws` and `wss`, each with a host.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?;
        ensure!(!authority.as_str().contains('@'), "no name or password belongs into the URL");
        let encrypted = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => bail!("{url} begins with none of http:// https:// ws:// wss://"),
        };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 }),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls: encrypted.then(connector).transpose()?,
        })
    }

    /// As a browser names the pages that come from there.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.authority)
    }

    /// One request, with a JSON body where there is one.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.prefix));
        request = request.header("Host", &self.authority).header("Connection", "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        limited(async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await?)).await?;
            let mut exchange = pin!(async {
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
                let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes();
                anyhow::Ok(Answer { status, body })
            });
            // The connection may end with the answer read and not yet taken.
            tokio::select! {
                biased;
                answer = &mut exchange => return answer,
                _ = connection => {}
            }
            exchange.await
        })
        .await
    }

    /// Asks for a socket.
    pub(super) async fn upgrade(&self, headers: &[(&str, &str)]) -> Result<Socket, NotOpen> {
        let request = self.upgrade_request(headers)?;
        let stream = limited(self.connect()).await?;
        match timeout(ANSWER_MAX, tokio_tungstenite::client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(WsError::Http(answer))) => Err(NotOpen::Refused(answer.status())),
            Ok(Err(error)) => Err(NotOpen::Failed(error.into())),
            Err(_) => Err(NotOpen::Unanswered),
        }
    }

    fn upgrade_request(&self, headers: &[(&str, &str)]) -> anyhow::Result<Request<()>> {
        let mut request = format!("ws://{}{}/ws", self.authority, self.prefix).into_client_request()?;
        let own = [("sec-websocket-protocol", SUBPROTOCOL)];
        let added: HeaderMap = headers
            .iter()
            .chain(&own)
            .map(|(name, value)| Ok((name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?)))
            .collect::<anyhow::Result<_>>()?;
        request.headers_mut().extend(added);
        Ok(request)
    }

    /// Ours, on the way there.
    pub(super) async fn own_address(&self) -> anyhow::Result<IpAddr> {
        limited(async { Ok(self.reach().await?.local_addr()?.ip().to_canonical()) }).await
    }

    async fn reach(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        stream.with_context(|| format!("{}:{} cannot be reached", self.host, self.port))
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let stream = self.reach().await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone())?;
        Ok(Box::new(tls.connect(name, stream).await.context("TLS does not come about")?))
    }
}

async fn limited<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(ANSWER_MAX, asking).await.map_err(|_| anyhow!("no answer within {ANSWER_MAX:?}"))?
}

/// Trusts whom the system trusts; `SSL_CERT_FILE` names others.
fn connector() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(load_native_certs().certs);
    ensure!(added > 0, "the system trusts no certificate at all; install ca-certificates");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
