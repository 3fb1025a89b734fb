//! Our own accept loop around warp: what its server leaves open, connections, timeouts and stopping, is settled here.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
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
use tracing::{debug, warn};
use warp::filters::BoxedFilter;
use warp::reply::Response as Reply;

use crate::config::{Limit, Origins};
use crate::metrics::{Metrics, status_class};

/// How long a client may take for the headers of a request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request's headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// The pause after the system gave no connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection beyond the limit is answered with.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
    Content-Length: 93\r\nConnection: close\r\n\r\n\
    {\"error\":{\"code\":\"unavailable\",\"message\":\"this node has as many connections as it may; later\"}}";

/// The peer of a connection, for handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A place among the connections; given back when the last clone goes, be it the session's.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// One of the node's listeners.
pub struct Listener {
    /// Where connections come in.
    pub socket: TcpListener,
    /// What answers them.
    pub routes: BoxedFilter<(Reply,)>,
    /// How many connections there may be.
    pub connections: Limit,
    /// Whose pages may read the answers.
    pub origins: Arc<Origins>,
    /// The figures.
    pub metrics: Metrics,
    /// Tracks every connection.
    pub tasks: TaskTracker,
    /// Ends accepting, and connections that are between requests.
    pub stop: CancellationToken,
}

/// Accepts until stopped.
pub async fn serve(listener: Listener) {
    let admission = listener.connections.max().map(|max| Arc::new(Semaphore::new(max)));
    let Listener { socket, routes, origins, metrics, tasks, stop, .. } = listener;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admitted = match &admission {
            None => Admitted { _permit: None },
            Some(admission) => match admission.clone().try_acquire_owned() {
                Ok(permit) => Admitted { _permit: Some(Arc::new(permit)) },
                Err(_) => {
                    metrics.refused_total.with(["connections"]).increment(1);
                    tasks.spawn(turn_away(stream));
                    continue;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "The connection is gone already");
            continue;
        }
        let service = Service {
            routes: TowerToHyperService::new(warp::service(routes.clone())),
            origins: origins.clone(),
            metrics: metrics.clone(),
            peer: Peer(peer),
            admitted,
        };
        tasks.spawn(connection(stream, service, stop.clone()));
    }
}

async fn connection<R>(stream: TcpStream, service: Service<R>, stop: CancellationToken)
where
    Service<R>:
        hyper::service::Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send + 'static>,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(HEADERS_BYTES_MAX);
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
async fn turn_away(mut stream: TcpStream) {
    let say = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), say).await;
}

/// What happens to every request around its route.
struct Service<R> {
    routes: R,
    origins: Arc<Origins>,
    metrics: Metrics,
    peer: Peer,
    admitted: Admitted,
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
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.admitted.clone());
        let answer = self.routes.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            if let Some(origin) = origin {
                answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
            }
            let class = status_class(answer.status());
            metrics.http_request_seconds.with([route, class]).record(began.elapsed());
            Ok(answer)
        })
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
