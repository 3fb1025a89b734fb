//! What a client may ask to know how it is seen: its own address, and nobody else's.

use http::StatusCode;
use warp::reply::Response;

use super::Api;
use super::request::{Call, json};
use crate::error::Result;

/// The address that limits go by, of IPv6 the /64; a proxy that is set up wrongly spoils it.
pub(super) async fn seen(_: Api, call: Call) -> Result<Response> {
    Ok(json(StatusCode::OK, &serde_json::json!({ "address": call.client.0 })))
}
