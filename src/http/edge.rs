//! Our own accept loop around warp: what its server leaves open, connections, timeouts and stopping, is settled here.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error_span, warn};
use warp::Reply as _;
use warp::filters::BoxedFilter;
use warp::reply::Response as Reply;

use super::admission::{AddressPlace, Admission, Place, network};
use super::client::Client;
use super::request::seconds;
use super::request_id::{self, REQUEST_ID};
use crate::config::{Origins, TrustedProxies};
use crate::error::Error;
use crate::metrics::{Metrics, status_class};
use crate::protocol::http::ErrorBody;

/// The most bytes of a request's headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// What the kernel keeps for a client beyond what is on its way to it.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 32 * 1024;
/// The pause after the system gave no connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The connections that are told at a time why they are turned away; further ones are closed without a word.
const TOLD_MAX: usize = 256;
/// How long a client has to read that.
const TOLD_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection's place; given back when the last clone goes, be it the session's.
#[derive(Clone)]
pub(super) struct Admitted {
    _connection: Arc<Place>,
    address: Option<Arc<AddressPlace>>,
}

/// One of the node's listeners.
pub struct Listener {
    /// Where connections come in.
    pub socket: TcpListener,
    /// What answers them.
    pub routes: BoxedFilter<(Reply,)>,
    /// Who gets in.
    pub admission: Admission,
    /// How long a client may take for the headers of a request.
    pub headers_timeout: Duration,
    /// Whose pages may read the answers.
    pub origins: Arc<Origins>,
    /// The proxies that are believed about the client's address.
    pub proxies: Arc<TrustedProxies>,
    /// The figures.
    pub metrics: Metrics,
    /// Tracks every connection.
    pub tasks: TaskTracker,
    /// Ends accepting, and connections that are between requests.
    pub stop: CancellationToken,
}

/// Accepts until stopped.
pub async fn serve(listener: Listener) {
    let told = Arc::new(Semaphore::new(TOLD_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = listener.stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match listener.admit(peer.ip()) {
            Ok(admitted) => listener.spawn(stream, peer.ip(), admitted),
            Err(refusal) => {
                if let Ok(permit) = told.clone().try_acquire_owned() {
                    listener.tasks.spawn(turn_away(stream, refusal, permit));
                }
            }
        }
    }
}

impl Listener {
    /// The place of a new connection. One of a trusted proxy carries requests of many clients: each of those takes a
    /// place of its client's address.
    fn admit(&self, peer: IpAddr) -> Result<Admitted, Error> {
        let address = if self.proxies.contain(peer) { None } else { Some(self.admission.address(network(peer))?) };
        let connection = Arc::new(self.admission.connection()?);
        Ok(Admitted { _connection: connection, address: address.map(Arc::new) })
    }

    fn spawn(&self, stream: TcpStream, peer: IpAddr, admitted: Admitted) {
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_little(&stream)) {
            return debug!(%error, "The connection is gone already");
        }
        let service = Service {
            routes: TowerToHyperService::new(warp::service(self.routes.clone())),
            origins: self.origins.clone(),
            proxies: self.proxies.clone(),
            admission: self.admission.clone(),
            metrics: self.metrics.clone(),
            peer,
            admitted,
        };
        self.tasks.spawn(connection(stream, service, self.headers_timeout, self.stop.clone()));
    }
}

/// Has the kernel take only so much ahead of what the network takes: else each client that reads slowly has megabytes
/// of it.
fn keep_little(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    Ok(())
}

async fn connection<R>(stream: TcpStream, service: Service<R>, headers_timeout: Duration, stop: CancellationToken)
where
    Service<R>:
        hyper::service::Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send + 'static>,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(headers_timeout).max_buf_size(HEADERS_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "A connection ended badly");
    }
}

/// Says why before it hangs up; a client that does not read that in time is not waited for.
async fn turn_away(mut stream: TcpStream, refusal: Error, _told: OwnedSemaphorePermit) {
    let say = async {
        stream.write_all(answer_by_hand(&refusal).as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(TOLD_TIMEOUT, say).await;
}

/// The refusal of a connection of which nothing was read.
fn answer_by_hand(refusal: &Error) -> String {
    let body = serde_json::to_string(&ErrorBody::from(refusal)).expect("texts make JSON");
    let seconds = refusal.retry_after().map_or(1, seconds);
    format!(
        "HTTP/1.1 {}\r\nContent-Type: application/json\r\nRetry-After: {seconds}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        refusal.status(),
        body.len()
    )
}

/// What happens to every request around its route.
struct Service<R> {
    routes: R,
    origins: Arc<Origins>,
    proxies: Arc<TrustedProxies>,
    admission: Admission,
    metrics: Metrics,
    peer: IpAddr,
    admitted: Admitted,
}

impl<R> Service<R> {
    /// The place of a request, which is its connection's, or one of the client that a proxy speaks for.
    fn admit(&self, Client(network): Client) -> Result<Admitted, Error> {
        let mut admitted = self.admitted.clone();
        if admitted.address.is_none() {
            admitted.address = Some(Arc::new(self.admission.address(network)?));
        }
        Ok(admitted)
    }
}

impl<R> hyper::service::Service<Request<Incoming>> for Service<R>
where
    R: hyper::service::Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send + 'static>,
{
    type Response = Reply;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let began = Instant::now();
        let origin = allowed_origin(request.headers(), &self.origins);
        let route = template(request.uri().path());
        let metrics = self.metrics.clone();
        if let (Some(origin), true) = (&origin, is_preflight(&request)) {
            let answer = preflight(origin);
            return Box::pin(async move { Ok(answer) });
        }
        let client = Client::of(self.peer, request.headers(), &self.proxies);
        let id = request_id::of(request.headers(), self.proxies.contain(self.peer));
        // As loud as the loudest line within, so that each has the id, whatever level is set.
        let span = error_span!("request", id = id.to_str().unwrap_or_default(), method = %request.method(), route);
        let answer = self.admit(client).map(|admitted| {
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(admitted.clone());
            (self.routes.call(request), admitted)
        });
        let answering = async move {
            let mut answer = match answer {
                Ok((answer, _admitted)) => answer.await?,
                Err(refusal) => refusal.into_response(),
            };
            if let Some(origin) = origin {
                answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
            }
            answer.headers_mut().insert(REQUEST_ID, id);
            let class = status_class(answer.status());
            metrics.http_request_seconds.with([route, class]).record(began.elapsed());
            Ok(answer)
        };
        Box::pin(answering.instrument(span))
    }
}

fn allowed_origin(headers: &HeaderMap, origins: &Origins) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origins.allow(origin.to_str().ok()?).then(|| origin.clone())
}

fn is_preflight(request: &Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(origin: &HeaderValue) -> Reply {
    let mut answer = Response::new(Default::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
        (header::VARY, "Origin"),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer
}

/// The route's name in the metrics: as in the documentation, without what stands in its places.
fn template(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["signup"] => "/signup",
        ["login"] => "/login",
        ["refresh"] => "/refresh",
        ["logout"] => "/logout",
        ["me"] => "/me",
        ["me", "password"] => "/me/password",
        ["address"] => "/address",
        ["ws"] => "/ws",
        ["openapi.json"] => "/openapi.json",
        ["asyncapi.json"] => "/asyncapi.json",
        ["channels"] => "/channels",
        ["channels", _] => "/channels/{name}",
        ["channels", _, "members"] => "/channels/{name}/members",
        ["channels", _, "members", _] => "/channels/{name}/members/{user}",
        ["channels", _, "messages"] => "/channels/{name}/messages",
        _ => "other",
    }
}
