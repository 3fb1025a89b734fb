//! The public contract for programs to read: two documents, served to all as they lie in `docs/`.

use http::header::{self, HeaderValue};
use warp::Reply;
use warp::reply::Response;

use super::Api;
use super::request::Call;
use crate::error::Result;

/// All of HTTP, as OpenAPI.
const OPENAPI: &str = include_str!("../../docs/openapi.json");
/// The socket, as AsyncAPI.
const ASYNCAPI: &str = include_str!("../../docs/asyncapi.json");

pub(super) async fn openapi(_: Api, _: Call) -> Result<Response> {
    Ok(served(OPENAPI))
}

pub(super) async fn asyncapi(_: Api, _: Call) -> Result<Response> {
    Ok(served(ASYNCAPI))
}

fn served(text: &'static str) -> Response {
    let mut answer = text.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
pub(super) mod document {
    use super::super::openapi::*;

    pub(in crate::http) fn operations() -> Vec<Operation> {
        type Document = serde_json::Map<String, serde_json::Value>;
        vec![
            Operation::open(Method::GET, "/openapi.json", "openapi", "This document")
                .gives::<Document>(200, "OpenAPI 3.1."),
            Operation::open(Method::GET, "/asyncapi.json", "asyncapi", "The same for the socket")
                .gives::<Document>(200, "AsyncAPI 3.0."),
        ]
    }
}
