//! One live socket, seen from the client. It keeps no more than a real client would have to.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::answer::{Accepted, answer, parse};
use crate::failure::Failure;
use crate::http::Target;
use crate::wire::{self, Position};

/// How long one step may take before it counts as failed.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest frame that is taken: the contract's 64 KiB, and room for a page of history around it.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Commands that wait for a flush, in bytes. It is grown on use only.
const WRITE_BUFFER: usize = 16 * 1024;

/// The read buffer of a session that hears little. It is what thousands of them cost.
pub(crate) const READ_BUFFER_SMALL: usize = 1024;
/// The read buffer of a session that hears much: a batch of messages in one read.
pub(crate) const READ_BUFFER_LARGE: usize = 16 * 1024;

/// An open session, welcomed by the server.
pub(crate) struct Session {
    socket: WebSocketStream<TcpStream>,
    next_ref: u32,
}

impl Session {
    /// Connects, upgrades with the token in the header, and waits for `welcome`.
    pub(crate) async fn open(target: &Target, token: &str, read_buffer: usize) -> Result<Self, Failure> {
        within("connect", async {
            let stream = TcpStream::connect(target.address).await.map_err(|error| io_failure(&error))?;
            stream.set_nodelay(true).map_err(|error| io_failure(&error))?;
            let config = WebSocketConfig::default()
                .read_buffer_size(read_buffer)
                .write_buffer_size(WRITE_BUFFER)
                .max_message_size(Some(FRAME_BYTES_MAX))
                .max_frame_size(Some(FRAME_BYTES_MAX));
            let (socket, _) = client_async_with_config(upgrade(target, token)?, stream, Some(config))
                .await
                .map_err(|error| socket_failure("connect", &error))?;
            let mut session = Self { socket, next_ref: wire::REF_FIRST };
            session.welcome().await?;
            Ok(session)
        })
        .await
    }

    async fn welcome(&mut self) -> Result<(), Failure> {
        let text = self.next().await?;
        match parse(&text)?.ev {
            "welcome" => Ok(()),
            other => Err(Failure::new("connect: no welcome", format!("{other} came first"))),
        }
    }

    /// Joins and waits for the answer, live only.
    pub(crate) async fn join(&mut self, channel: &str) -> Result<Accepted, Failure> {
        let reference = self.take_ref();
        self.ask("join", reference, wire::join(reference, channel, None)).await
    }

    /// Asks to join and catch up; the answer and what was missed are to be read with `next`.
    pub(crate) async fn join_since(&mut self, channel: &str, since: Position) -> Result<u32, Failure> {
        let reference = self.take_ref();
        self.write(wire::join(reference, channel, Some(since))).await?;
        Ok(reference)
    }

    /// Sends a message and waits for the answer; what else comes meanwhile is read past.
    pub(crate) async fn send(&mut self, channel: &str, text: &str, cid: Option<&str>) -> Result<Accepted, Failure> {
        let reference = self.take_ref();
        self.ask("send", reference, wire::send(reference, channel, text, cid)).await
    }

    /// Leaves and waits for the answer.
    pub(crate) async fn leave(&mut self, channel: &str) -> Result<Accepted, Failure> {
        let reference = self.take_ref();
        self.ask("leave", reference, wire::leave(reference, channel)).await
    }

    /// Puts a `join` into the write buffer without waiting for its answer; `flush` sends what is there.
    pub(crate) async fn feed_join(&mut self, channel: &str) -> Result<(), Failure> {
        let command = wire::join(self.take_ref(), channel, None);
        self.socket.feed(Message::text(command)).await.map_err(|error| socket_failure("join", &error))
    }

    /// Asks for a page of history; the answer as it came.
    pub(crate) async fn history(
        &mut self,
        channel: &str,
        before: Option<Position>,
        limit: u32,
    ) -> Result<Utf8Bytes, Failure> {
        let reference = self.take_ref();
        within("history", async {
            self.write(wire::history(reference, channel, before, limit)).await?;
            loop {
                let text = self.next().await?;
                if answer("history", &parse(&text)?)?.is_some_and(|accepted| accepted.reference == reference) {
                    return Ok(text);
                }
            }
        })
        .await
    }

    /// Puts a message into the write buffer without waiting for its answer; `flush` sends what is there.
    pub(crate) async fn feed_send(&mut self, channel: &str, text: &str, cid: Option<&str>) -> Result<u32, Failure> {
        let reference = self.take_ref();
        let command = wire::send(reference, channel, text, cid);
        self.socket.feed(Message::text(command)).await.map_err(|error| socket_failure("send", &error))?;
        Ok(reference)
    }

    /// Sends what was fed.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.socket.flush().await.map_err(|error| socket_failure("send", &error))
    }

    /// The next frame, whenever it comes. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes, Failure> {
        loop {
            if let Some(text) = text_of(self.socket.next().await)? {
                return Ok(text);
            }
        }
    }

    /// The next frame, if it is already here.
    pub(crate) fn next_ready(&mut self) -> Option<Result<Utf8Bytes, Failure>> {
        self.next().now_or_never()
    }

    /// Says goodbye and waits until the server has said it too and closed the connection.
    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        within("close", async {
            self.socket.close(None).await.map_err(|error| socket_failure("close", &error))?;
            while let Some(frame) = self.socket.next().await {
                frame.map_err(|error| socket_failure("close", &error))?;
            }
            Ok(())
        })
        .await
    }

    async fn ask(&mut self, step: &str, reference: u32, command: String) -> Result<Accepted, Failure> {
        within(step, async {
            self.write(command).await?;
            loop {
                let text = self.next().await?;
                if let Some(accepted) = answer(step, &parse(&text)?)?
                    && accepted.reference == reference
                {
                    return Ok(accepted);
                }
            }
        })
        .await
    }

    async fn write(&mut self, command: String) -> Result<(), Failure> {
        self.socket.send(Message::text(command)).await.map_err(|error| socket_failure("write", &error))
    }

    fn take_ref(&mut self) -> u32 {
        let reference = self.next_ref;
        // Eight digits, always; no session has 90 million commands under way.
        self.next_ref = if reference == 99_999_999 { wire::REF_FIRST } else { reference + 1 };
        reference
    }
}

/// Gives a step its time, and names it where that did not do.
pub(crate) async fn within<T>(step: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(STEP_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(format!("{step}: timeout"), format!("nothing within {STEP_TIMEOUT:?}"))),
    }
}

fn upgrade(target: &Target, token: &str) -> Result<Request, Failure> {
    Request::builder()
        .uri(format!("ws://{}/ws", target.host))
        .header("Host", &target.host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", "burble.v1")
        .header("Authorization", format!("Bearer {token}"))
        .body(())
        .map_err(|error| Failure::new("connect: bad request", error))
}

fn text_of(frame: Option<Result<Message, WsError>>) -> Result<Option<Utf8Bytes>, Failure> {
    match frame {
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(Some(close)))) => {
            Err(Failure::new(format!("closed: {}", u16::from(close.code)), close.reason))
        }
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(socket_failure("read", &error)),
        None => Err(Failure::new("closed", "the server ended the connection")),
    }
}

fn io_failure(error: &std::io::Error) -> Failure {
    Failure::new(format!("connect: {}", error.kind()), error)
}

fn socket_failure(step: &str, error: &WsError) -> Failure {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Failure::new(format!("{step}: status {}", response.status().as_u16()), body)
        }
        WsError::Io(error) => Failure::new(format!("{step}: {}", error.kind()), error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => Failure::new(format!("{step}: closed"), error),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Failure::new(format!("{step}: reset"), error),
        WsError::Protocol(_) => Failure::new(format!("{step}: bad frame"), error),
        _ => Failure::new(format!("{step}: socket error"), error),
    }
}
