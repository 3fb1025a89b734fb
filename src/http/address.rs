//! What a client may ask to know how it is seen: its own address, and nobody else's.

use http::StatusCode;
use warp::reply::Response;

use super::Api;
use super::request::{Call, json};
use crate::error::Result;

/// The address that limits and logs go by, which a proxy that is set up wrongly spoils.
pub(super) async fn seen(api: Api, call: Call) -> Result<Response> {
    Ok(json(StatusCode::OK, &serde_json::json!({ "address": call.address(&api.proxies) })))
}
