//! The second listener, for those who run the node: is it alive, is it ready, how is it doing.

use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply, path};

use super::request::{json, recover};
use crate::broker::Broker;
use crate::error::Error;
use crate::store::Store;
use crate::telemetry::Exporter;

/// What the probes ask; clones share it.
#[derive(Clone)]
pub struct Ops {
    /// The log.
    pub broker: Broker,
    /// The database.
    pub store: Store,
    /// The figures.
    pub exporter: Exporter,
    /// Cancelled when the node is leaving.
    pub stop: CancellationToken,
}

/// Of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// An entry through each feed was seen back.
    feeds: bool,
    /// The database answers.
    database: bool,
    /// The node is leaving.
    draining: bool,
}

/// The routes of the second listener.
pub fn routes(ops: Ops) -> BoxedFilter<(Response,)> {
    let alive = path!("livez").and(warp::get()).map(|| json(StatusCode::OK, &serde_json::json!({ "alive": true })));
    let probed = ops.clone();
    let ready = path!("readyz").and(warp::get()).then(move || readiness(probed.clone()));
    let metrics = path!("metrics").and(warp::get()).then(move || figures(ops.clone()));
    alive.or(ready).unify().or(metrics).unify().recover(recover).unify().boxed()
}

async fn readiness(ops: Ops) -> Response {
    let (feeds, database) = tokio::join!(ops.broker.probe(), ops.store.ping());
    let (feeds, database, draining) = (feeds.is_ok(), database.is_ok(), ops.stop.is_cancelled());
    let ready = feeds && database && !draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json(status, &Readiness { ready, feeds, database, draining });
    if !ready {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

async fn figures(ops: Ops) -> Response {
    match ops.exporter.render().await {
        Ok(text) => {
            let mut answer = text.into_response();
            let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, text);
            answer
        }
        Err(error) => Error::Internal(error).into_response(),
    }
}
