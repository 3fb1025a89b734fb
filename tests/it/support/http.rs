//! HTTP by hand: what a well-behaved client would never send must be sendable too.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, contract, within};

/// A request, and a connection of its own for it.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunked: bool,
    /// The answer is judged by the contract.
    judged: bool,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { method: method.into(), path: path.into(), headers: Vec::new(), body: None, chunked: false, judged: true }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    /// A body as it is, announced as JSON.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("Content-Type", "application/json")
    }

    /// The body goes without its length, in chunks of 1,000 bytes.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Not to the public listener of a node itself: a reverse proxy may answer; or of what the contract does not speak.
    pub(crate) fn elsewhere(mut self) -> Self {
        self.judged = false;
        self
    }

    /// Asks for a WebSocket.
    pub(crate) fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    pub(crate) async fn send(self, address: SocketAddr) -> Answer {
        let what = format!("{} {} is answered", self.method, self.path);
        self.try_send(address).await.unwrap_or_else(|cause| panic!("not so, but {cause}: {what}"))
    }

    /// The same where nobody may listen any more.
    pub(crate) async fn try_send(self, address: SocketAddr) -> io::Result<Answer> {
        let request = self.clone();
        let exchange = async {
            let (mut answer, mut stream) = self.exchange(address).await?;
            answer.read_body(&mut stream).await?;
            request.judge(&answer);
            Ok(answer)
        };
        within(PATIENCE, "the request is answered or refused", exchange).await
    }

    /// The stream behind a `101`, with what followed in the answer's body; else the whole answer, or one of status 0
    /// where there was none.
    pub(crate) async fn switch(self, address: SocketAddr) -> Result<(Answer, TcpStream), Answer> {
        let request = self.clone();
        let exchange = async {
            let (mut answer, mut stream) = self.exchange(address).await.map_err(Answer::none)?;
            if answer.status == 101 {
                request.judge(&answer);
                return Ok((answer, stream));
            }
            answer.read_body(&mut stream).await.map_err(Answer::none)?;
            request.judge(&answer);
            Err(answer)
        };
        within(PATIENCE, "the upgrade is answered", exchange).await
    }

    fn judge(&self, answer: &Answer) {
        // A node puts it on every answer; what comes without it was said by a reverse proxy.
        if self.judged && answer.header("X-Request-Id").is_some() {
            contract::check_answer(&self.method, &self.path, self.body.as_deref(), answer);
        }
    }

    async fn exchange(self, address: SocketAddr) -> io::Result<(Answer, TcpStream)> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // A server that refuses a body before it has read it may close: what it answered is what counts.
        let _ = stream.write_all(&self.bytes(address)).await;
        let answer = Answer::read_head(&mut stream).await?;
        Ok((answer, stream))
    }

    fn bytes(self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name == "Connection") {
            head.push_str("Connection: close\r\n");
        }
        let body = self.body.unwrap_or_default();
        let _ = match self.chunked {
            true => write!(head, "Transfer-Encoding: chunked\r\n\r\n"),
            false => write!(head, "Content-Length: {}\r\n\r\n", body.len()),
        };
        let mut bytes = head.into_bytes();
        match self.chunked {
            true => bytes.extend(in_chunks(&body)),
            false => bytes.extend(body),
        }
        bytes
    }
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(1_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {} {}", self.status, self.text()))
    }

    /// The body, once the status is the one expected and the content what it says.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if status == 204 {
            assert!(self.body.is_empty(), "{}", self.text());
            return Value::Null;
        }
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        self.json()
    }

    /// A refusal to the letter: status, code, a sentence, and how long to wait where waiting helps.
    pub(crate) fn refused(self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        let body = self.json();
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        let seconds = self.header("Retry-After").map(|seconds| seconds.parse::<u32>().expect("whole seconds"));
        assert_eq!(seconds.is_some(), matches!(status, 429 | 503), "Retry-After goes with 429 and 503");
    }

    /// The code of a refusal; empty where there is none.
    pub(crate) fn code(&self) -> String {
        let body = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn none(cause: io::Error) -> Self {
        Self { status: 0, headers: Vec::new(), body: cause.to_string().into_bytes() }
    }

    async fn read_head(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("the head is ASCII");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        let headers = headers.collect();
        Ok(Self { status: status.expect("a status line"), headers, body: bytes[end + 4..].to_vec() })
    }

    /// A body that is cut short is an error, as every client must take it.
    async fn read_body(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let length = self.header("Content-Length").map(|length| length.parse::<usize>().expect("a number"));
        while length.is_none_or(|length| self.body.len() < length) {
            if stream.read_buf(&mut self.body).await? == 0 {
                break;
            }
        }
        if self.header("Transfer-Encoding").is_some() {
            self.body = unchunked(&self.body).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if length.is_some_and(|length| self.body.len() < length) {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 4 + size..)?;
    }
}
