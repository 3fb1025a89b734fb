//! What a client may ask to know how it is seen: its own address, and nobody else's.

use http::StatusCode;
use warp::reply::Response;

use super::Api;
use super::request::{Call, json};
use crate::error::Result;
use crate::protocol::http::Address;

/// The address that limits go by, of IPv6 the /64; a proxy that is set up wrongly spoils it.
pub(super) async fn seen(_: Api, call: Call) -> Result<Response> {
    Ok(json(StatusCode::OK, &Address { address: call.client.0 }))
}

#[cfg(test)]
pub(super) mod document {
    use super::super::openapi::*;
    use super::*;

    pub(in crate::http) fn operations() -> Vec<Operation> {
        let summary = "The caller's own address, as the server sees it";
        vec![
            Operation::open(Method::GET, "/address", "address", summary)
                .detail(
                    "What limits and logs go by: behind a reverse proxy, whether it says the right thing. `burble doctor` \
                     asks.",
                )
                .gives::<Address>(200, "The address."),
        ]
    }
}
