//! The public contract for programs to read: two documents, served to all as they lie in `docs/`.

use http::header::{self, HeaderValue};
use warp::Reply;
use warp::reply::Response;

/// All of HTTP, as OpenAPI.
const OPENAPI: &str = include_str!("../../docs/openapi.json");
/// The socket, as AsyncAPI.
const ASYNCAPI: &str = include_str!("../../docs/asyncapi.json");

pub(super) fn openapi() -> Response {
    document(OPENAPI)
}

pub(super) fn asyncapi() -> Response {
    document(ASYNCAPI)
}

fn document(text: &'static str) -> Response {
    let mut answer = text.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
