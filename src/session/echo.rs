//! A socket that gives back every message, for conformance suites: they judge the socket that sessions have. Not in the
//! server unless the feature `conformance` is.

use std::convert::Infallible;
use std::sync::Arc;

use super::socket::{End, Socket};
use super::{Sessions, Upgraded};
use crate::protocol::CloseCode;

/// The suites send messages of up to 16 MiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Sessions {
    /// Gives an upgraded connection a task that echoes it. What comes with it is kept as long as the connection.
    pub fn echo<K: Send + 'static>(&self, upgrade: impl Future<Output = (Option<Upgraded>, K)> + Send + 'static) {
        let sessions = self.clone();
        self.tasks.spawn(async move {
            let (Some(upgraded), _kept) = upgrade.await else { return };
            let mut socket = sessions.socket(upgraded, MESSAGE_BYTES_MAX, Arc::default()).await;
            let ended = tokio::select! {
                Err(ended) = echo(&mut socket) => ended,
                () = sessions.stop.cancelled() => End::Close(CloseCode::Restart),
            };
            socket.close(ended, |_| {}).await;
        });
    }
}

async fn echo(socket: &mut Socket) -> Result<Infallible, End> {
    loop {
        let message = socket.receive().await?;
        if message.is_text() || message.is_binary() {
            socket.write_message(message).await?;
            socket.flush().await?;
        }
    }
}
