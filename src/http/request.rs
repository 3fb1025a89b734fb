//! What every handler gets of a request, and how it answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use tokio::time::timeout;
use tracing::warn;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use super::Api;
use super::admission::Body;
use super::client::Client;
use super::edge::Admitted;
use crate::error::{Error, Result};
use crate::model::{Anchor, Caller, PageLimit};
use crate::protocol::FRAME_BYTES_MAX;
use crate::protocol::http::ErrorBody;

/// What of a too large body is read on, so that the client gets to see the answer.
const EXCESS_BYTES_MAX: usize = 1024 * 1024;

/// A request whose path is known.
pub(super) struct Call {
    pub(super) headers: HeaderMap,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Result<Bytes>,
    pub(super) client: Client,
    pub(super) admitted: Option<Admitted>,
    pub(super) on_upgrade: Option<OnUpgrade>,
}

/// Takes a request as it is; refuses nothing.
pub(super) fn call(api: &Api) -> impl Filter<Extract = (Call,), Error = Rejection> + Clone + use<> {
    let (admission, patience) = (api.admission.clone(), api.body_timeout);
    let query = warp::query::<HashMap<String, String>>().or(warp::any().map(HashMap::new)).unify();
    warp::header::headers_cloned()
        .and(query)
        .and(warp::ext::get::<Client>())
        .and(warp::ext::optional::<Admitted>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(move |headers, query, client, admitted, on_upgrade, body| {
            let held = admission.body();
            async move {
                let body = timeout(patience, read(body, held)).await;
                let body = body.unwrap_or_else(|_| Err(Error::BadRequest("the body took too long".into())));
                Call { headers, query, body, client, admitted, on_upgrade }
            }
        })
}

async fn read<B: Buf>(body: impl Stream<Item = std::result::Result<B, warp::Error>>, mut read: Body) -> Result<Bytes> {
    let mut body = std::pin::pin!(body);
    let mut excess = 0;
    while let Some(part) = body.next().await {
        let mut part = part.map_err(|_| Error::BadRequest("the body broke off".into()))?;
        if excess > 0 || read.len() + part.remaining() > FRAME_BYTES_MAX {
            excess += part.remaining();
            if excess > EXCESS_BYTES_MAX {
                break;
            }
            continue;
        }
        while part.has_remaining() {
            let chunk = part.chunk();
            read.extend(chunk)?;
            let taken = chunk.len();
            part.advance(taken);
        }
    }
    if excess > 0 {
        return Err(Error::TooLarge(format!("a body has at most {FRAME_BYTES_MAX} bytes")));
    }
    Ok(read.freeze())
}

impl Call {
    /// Who is asking; counts as a command of theirs.
    pub(super) async fn caller(&self, api: &Api) -> Result<Caller> {
        let token = bearer(&self.headers)?.ok_or(Error::Unauthenticated)?;
        let caller = api.chat.authenticate(token).await?;
        api.chat.count_request(&caller)?;
        Ok(caller)
    }

    /// The body.
    pub(super) fn body(self) -> Result<Bytes> {
        self.body
    }

    pub(super) fn limit(&self) -> Result<PageLimit> {
        match self.query.get("limit") {
            None => Ok(PageLimit::default()),
            Some(limit) => limit.parse::<u64>().ok().map_or_else(
                || Err(Error::BadRequest("limit is a whole number, 1 to 200".into())),
                PageLimit::try_from,
            ),
        }
    }

    pub(super) fn anchor(&self) -> Result<Anchor> {
        let position = |name| self.query.get(name).map(|text| text.parse()).transpose();
        Anchor::one_of(position("before")?, position("after")?, position("around")?)
    }
}

/// The token of the one `Authorization` header; `None` where there is no such header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut found = headers.get_all(header::AUTHORIZATION).iter();
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let value = value.to_str().map_err(|_| Error::Unauthenticated)?;
            let (scheme, token) = value.split_once(' ').ok_or(Error::Unauthenticated)?;
            if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(Error::Unauthenticated) }
        }
        (Some(_), Some(_)) => Err(Error::Unauthenticated),
    }
}

/// An answer with a body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

/// An answer without a body.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

impl Reply for Error {
    fn into_response(self) -> Response {
        if let Some(cause) = self.cause() {
            warn!(code = self.code(), cause = format!("{cause:#}"), "A request failed");
        }
        let mut answer = json(self.status(), &ErrorBody::from(&self));
        if let Some(after) = self.retry_after() {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// The value of `Retry-After`: whole seconds, at least one.
pub(super) fn seconds(after: Duration) -> u64 {
    u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

/// The answer of a handler.
pub(super) fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(Reply::into_response)
}

/// What filters raise becomes the same body as what handlers refuse.
pub(super) async fn recover(rejection: Rejection) -> std::result::Result<Response, Infallible> {
    if !rejection.is_not_found() && rejection.find::<warp::reject::MethodNotAllowed>().is_none() {
        warn!(?rejection, "A request was refused by a filter");
    }
    Ok(Error::NotFound.into_response())
}
