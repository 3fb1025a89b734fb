//! One connection of the yardstick: a canned answer over HTTP, or a socket until it is closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::frames::{self, Command, Incoming};
use super::rooms::{Outbox, Room, Rooms};
use crate::cli::Mode;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// One read of a socket; on the stack, so that an idle connection holds no buffer.
const READ_BYTES: usize = 4096;
/// Whatever is asked for over HTTP, this will do.
const CANNED: &str = "{\"access_token\":\"token\",\"refresh_token\":\"token\"}";

/// Serves a connection to its end; errors end it.
pub(super) async fn serve(mut stream: TcpStream, rooms: Arc<Rooms>, mode: Mode) -> io::Result<()> {
    let Some(key) = request(&mut stream).await? else {
        let length = CANNED.len();
        let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{CANNED}");
        return stream.write_all(answer.as_bytes()).await;
    };
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: burble.v1\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let member = Member { outbox: Arc::default(), rooms: Vec::new() };
    member.outbox.push(frames::welcome());
    Connection { stream, member, partial: Vec::new(), ready: Vec::new() }.run(&rooms, mode).await
}

/// Reads a whole request; the key, if it asks for an upgrade.
async fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut bytes = Vec::with_capacity(1024);
    while bytes.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let header = |name| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
        };
        if let Some(key) = header("sec-websocket-key") {
            return Ok(Some(key.to_owned()));
        }
        if header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0) <= body.len() {
            return Ok(None);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A member of rooms; leaving is its drop.
struct Member {
    outbox: Arc<Outbox>,
    rooms: Vec<Arc<Room>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        for room in &self.rooms {
            room.leave(&self.outbox);
        }
    }
}

struct Connection {
    stream: TcpStream,
    member: Member,
    /// The beginning of a frame whose end is not here yet.
    partial: Vec<u8>,
    /// Taken from the outbox to be written.
    ready: Vec<Bytes>,
}

enum Due {
    /// Something is to be written.
    Write,
    /// Something was read, and carried out.
    Read,
    /// The other side said goodbye, or something that it never says.
    End,
}

impl Connection {
    async fn run(mut self, rooms: &Rooms, mode: Mode) -> io::Result<()> {
        loop {
            match poll_fn(|cx| self.poll_due(cx, rooms)).await? {
                Due::Write => self.write(mode).await?,
                Due::Read => {}
                Due::End => break,
            }
        }
        self.stream.write_all(&frames::CLOSE).await?;
        self.stream.shutdown().await
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, rooms: &Rooms) -> Poll<io::Result<Due>> {
        if let Poll::Ready(go_on) = self.member.outbox.poll_take(cx, &mut self.ready) {
            return Poll::Ready(Ok(if go_on { Due::Write } else { Due::End }));
        }
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.member.outbox.forget_waker();
        let read = buffer.filled_mut();
        let go_on = !read.is_empty() && self.read(read, rooms);
        Poll::Ready(Ok(if go_on { Due::Read } else { Due::End }))
    }

    /// Carries out what is all there. False: that was the end.
    fn read(&mut self, bytes: &mut [u8], rooms: &Rooms) -> bool {
        if self.partial.is_empty() {
            let Some(done) = self.member.obey(bytes, rooms) else {
                return false;
            };
            self.partial.extend_from_slice(&bytes[done..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let Some(done) = self.member.obey(&mut self.partial, rooms) else {
                return false;
            };
            self.partial.drain(..done);
        }
        true
    }

    async fn write(&mut self, mode: Mode) -> io::Result<()> {
        if mode == Mode::Single || self.ready.len() == 1 {
            for frame in self.ready.drain(..) {
                self.stream.write_all(&frame).await?;
            }
            return Ok(());
        }
        let all = self.ready.concat();
        self.ready.clear();
        self.stream.write_all(&all).await
    }
}

impl Member {
    /// Carries out every whole frame; how many bytes they took, or nothing for the end.
    fn obey(&mut self, bytes: &mut [u8], rooms: &Rooms) -> Option<usize> {
        let mut done = 0;
        loop {
            let (incoming, length) = frames::incoming(&mut bytes[done..]);
            match incoming {
                Incoming::Text(payload) => self.carry_out(Command::cut(payload)?, rooms),
                Incoming::Partial => return Some(done),
                Incoming::Close | Incoming::Foreign => return None,
            }
            done += length;
        }
    }

    fn carry_out(&mut self, command: Command<'_>, rooms: &Rooms) {
        let answer = match command {
            Command::Join { reference, channel } => {
                let room = rooms.room(channel);
                room.enter(&self.outbox);
                self.rooms.push(room);
                frames::joined(reference)
            }
            Command::Leave { reference, channel } => {
                let room = rooms.room(channel);
                room.leave(&self.outbox);
                self.rooms.retain(|joined| !Arc::ptr_eq(joined, &room));
                frames::left(reference)
            }
            Command::Send { reference, channel, text } => {
                frames::sent(reference, rooms.room(channel).send(channel, text))
            }
        };
        self.outbox.push(answer);
    }
}
