//! The edge: connections in, HTTP requests routed, sockets upgraded. Knows no rules of the chat.

mod accounts;
mod address;
mod admission;
mod channels;
mod client;
mod contracts;
mod edge;
#[cfg(test)]
mod openapi;
mod ops;
mod request;
mod request_id;
mod routes;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use admission::Admission;
pub use edge::{Listener, serve};
pub use ops::{Ops, routes as ops_routes};
pub use routes::routes;

use crate::chat::Chat;
use crate::config::Origins;
use crate::metrics::Metrics;
use crate::session::Sessions;

/// What the handlers of the public listener rest on; clones share it.
#[derive(Clone)]
pub struct Api {
    /// The rules.
    pub chat: Chat,
    /// The sessions.
    pub sessions: Sessions,
    /// The origins of browser pages that are allowed beside the server's own.
    pub origins: Arc<Origins>,
    /// Who gets in.
    pub admission: Admission,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// The figures.
    pub metrics: Metrics,
    /// Cancelled when the node is leaving.
    pub stop: CancellationToken,
}
