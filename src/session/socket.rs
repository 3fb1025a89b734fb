//! The socket of a session: frames in, frames out, and an end that the peer gets to read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::chat::Turn;
use crate::hub::Wake;
use crate::protocol::CloseCode;

/// The read buffer of every connection. The library fills it at once, so its size is what an idle session costs; a larger
/// frame takes as many reads as it has parts of this size.
const READ_BUFFER: usize = 1024;
/// What is gathered before it is written: larger means fewer calls, and more memory after a burst.
const WRITE_BUFFER: usize = 16 * 1024;
/// Never reached: what does not fit the socket is waited for, so that one frame at most comes on top of what is gathered;
/// and the largest, a page of history, has less than 13 MiB. A frame beyond it would end the connection.
const WRITE_BUFFER_MAX: usize = 32 * 1024 * 1024;
/// What is read at a time of what nobody wants any more.
const REST_BUFFER: usize = 8 * 1024;
/// How long the peer has to read the last frame.
const LINGER: Duration = Duration::from_secs(2);

/// Why a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The server closes it.
    Close(CloseCode),
    /// The peer closed it, with a code where there was one.
    Closed(Option<u16>),
    /// The connection broke.
    Gone,
}

/// What the peer sent.
pub(super) enum Incoming {
    /// A command.
    Text(Utf8Bytes),
    /// A sign of life.
    Alive,
    /// The end.
    End(End),
}

/// A connection after the upgrade, with what was read of it already.
pub struct Upgraded {
    /// The connection.
    pub stream: TcpStream,
    /// What came in the same packet as the request.
    pub read: Bytes,
}

pub(super) struct Socket {
    ws: WebSocketStream<Wire>,
    wake: Arc<Wake>,
    silence: Duration,
    /// Cut off: the time for stopping is over.
    cut: CancellationToken,
    /// The last sign of life of the peer.
    pub(super) seen_at: Instant,
    /// The turn to be given what was missed. It is passed on where the peer has to be waited for.
    pub(super) turn: Option<Arc<Turn>>,
    dirty: bool,
}

impl Socket {
    /// A socket whose frames and messages have at most `message_bytes_max` bytes. `wake` and `cut` end what waits for
    /// a peer that does not read; so does a `silence` of that length.
    pub(super) async fn new(
        upgraded: Upgraded,
        message_bytes_max: usize,
        wake: Arc<Wake>,
        silence: Duration,
        cut: CancellationToken,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER_MAX)
            .max_frame_size(Some(message_bytes_max))
            .max_message_size(Some(message_bytes_max));
        let wire = Wire { stream: upgraded.stream, wrote_at: Instant::now() };
        let ws = WebSocketStream::from_partially_read(wire, upgraded.read.to_vec(), Role::Server, Some(config)).await;
        Self { ws, wake, silence, cut, seen_at: Instant::now(), turn: None, dirty: false }
    }

    /// What the peer sent next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Incoming {
        match self.receive().await {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(_)) => Incoming::End(End::Close(CloseCode::ProtocolError)),
            Ok(_) => Incoming::Alive,
            Err(end) => Incoming::End(end),
        }
    }

    /// The next message, of whatever kind. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<Message, End> {
        let next = self.ws.next().await;
        self.seen_at = Instant::now();
        match next {
            Some(Ok(Message::Close(frame))) => Err(End::Closed(frame.map(|frame| frame.code.into()))),
            Some(Ok(message)) => Ok(message),
            Some(Err(Error::Capacity(_))) => Err(End::Close(CloseCode::FrameTooLarge)),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Err(End::Gone),
            Some(Err(Error::Protocol(_))) => Err(End::Close(CloseCode::BadFrame)),
            Some(Err(Error::Utf8(_))) => Err(End::Close(CloseCode::NotUtf8)),
            Some(Err(_)) | None => Err(End::Gone),
        }
    }

    /// What has arrived already, if anything.
    pub(super) fn next_now(&mut self) -> Option<Incoming> {
        self.next().now_or_never()
    }

    /// Puts a frame into the write buffer; waits where the peer does not read.
    pub(super) async fn write(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.write_message(Message::Text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.write_message(Message::Ping(Bytes::new())).await
    }

    /// Hands the write buffer to the network.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        self.patiently(|ws, cx| ws.poll_flush_unpin(cx)).await
    }

    pub(super) async fn write_message(&mut self, message: Message) -> Result<(), End> {
        self.patiently(|ws, cx| ws.poll_ready_unpin(cx)).await?;
        self.dirty = true;
        self.ws.start_send_unpin(message).map_err(|_| End::Gone)
    }

    /// Waits as long as the peer reads at all, however slowly; a revocation and the end of the node go first.
    async fn patiently(
        &mut self,
        mut poll: impl FnMut(&mut WebSocketStream<Wire>, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Result<(), End> {
        match poll_fn(|cx| poll(&mut self.ws, cx)).now_or_never() {
            Some(done) => done.map_err(|_| End::Gone),
            // Boxed: what waiting needs is no part of a session that has not to.
            None => Box::pin(self.wait_for_peer(poll)).await,
        }
    }

    async fn wait_for_peer(
        &mut self,
        mut poll: impl FnMut(&mut WebSocketStream<Wire>, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Result<(), End> {
        if let Some(turn) = &self.turn {
            turn.pass_on();
        }
        let wake = self.wake.clone();
        let result = loop {
            let deadline = self.ws.get_ref().wrote_at + self.silence;
            tokio::select! {
                biased;
                () = wake.revoked() => break Err(End::Close(CloseCode::Revoked)),
                () = self.cut.cancelled() => break Err(End::Close(CloseCode::Restart)),
                done = poll_fn(|cx| poll(&mut self.ws, cx)) => break done.map_err(|_| End::Gone),
                () = sleep_until(deadline) => {
                    if self.ws.get_ref().wrote_at + self.silence <= Instant::now() {
                        break Err(End::Close(CloseCode::Silent));
                    }
                }
            }
        };
        // The peer has read; and what was marked meanwhile is looked at.
        self.seen_at = Instant::now();
        wake.poke();
        result
    }

    /// Says goodbye, and waits until the peer has read it: some proxies lose the code otherwise. What the peer sends
    /// meanwhile is `rest`'s to count.
    pub(super) async fn close(mut self, end: End, rest: impl Fn(usize)) {
        let goodbye = async {
            if let End::Close(code) = end {
                let frame = CloseFrame { code: code.number().into(), reason: code.reason().into() };
                self.ws.send(Message::Close(Some(frame))).await?;
            } else {
                self.ws.flush().await?;
            }
            while let Some(Ok(message)) = self.ws.next().await {
                rest(message.len());
            }
            // After an error of the protocol the library reads no further: the peer still has to be heard out, or the
            // kernel resets the connection and the code is lost.
            let wire = self.ws.get_mut();
            tokio::io::AsyncWriteExt::shutdown(&mut wire.stream).await?;
            let mut buffer = vec![0; REST_BUFFER];
            loop {
                match tokio::io::AsyncReadExt::read(&mut wire.stream, &mut buffer).await? {
                    0 => return Ok::<_, Error>(()),
                    bytes => rest(bytes),
                }
            }
        };
        let _ = timeout(LINGER, goodbye).await;
    }
}

/// A TCP connection that knows when the peer last made room.
struct Wire {
    stream: TcpStream,
    wrote_at: Instant,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = written {
            self.wrote_at = Instant::now();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
