//! The few HTTP calls that come before the socket: one request a connection, JSON both ways. No general client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// How long a request may take. Signing up many users at once queues for the server's password hashing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The server under load.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As in the `Host` header.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
}

impl Target {
    /// Takes `http://host:port` and looks the host up.
    pub(crate) async fn resolve(url: &str) -> Result<Self> {
        let host = host_of(url).with_context(|| format!("\"{url}\" is not of the form http://host:port"))?;
        let looked_up = if host.contains(':') { host.clone() } else { format!("{host}:80") };
        let mut addresses = lookup_host(&looked_up).await.with_context(|| format!("{host} is not known"))?;
        let address = addresses.next().with_context(|| format!("{host} has no address"))?;
        Ok(Self { host, address })
    }

    /// Sends one request with a JSON body.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Result<Answer> {
        self.request("POST", path, token, &body.to_string()).await
    }

    /// Sends one request without a body.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, None, "").await
    }

    async fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Result<Answer> {
        let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.host,
            body.len()
        );
        timeout(REQUEST_TIMEOUT, self.exchange(&request))
            .await
            .with_context(|| format!("{method} {path} got no answer within {REQUEST_TIMEOUT:?}"))?
            .with_context(|| format!("{method} {path} at http://{} failed", self.host))
    }

    async fn exchange(&self, request: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
        Answer::read(std::str::from_utf8(&bytes).context("the answer is no UTF-8")?)
    }
}

fn host_of(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://")?.trim_end_matches('/');
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    plain.then(|| host.to_owned())
}

/// A status and a JSON body (null where there is none).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// From `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Answer {
    fn read(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").context("the answer is cut short")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
        let header = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
        };
        if header("transfer-encoding").is_some() {
            bail!("the answer is chunked, which this client does not read");
        }
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body)? };
        Ok(Self { status, body, retry_after })
    }

    /// The error code, where the body tells one.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let text = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n\r\n{\"error\":{\"code\":\"rate_limited\"}}";
        let answer = Answer::read(text).expect("an answer");
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(3)));
        assert!(Answer::read("HTTP/1.1 204 No Content\r\n\r\n").expect("an answer").body.is_null());
        assert!(Answer::read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0").is_err());
        assert!(Answer::read("").is_err());
    }

    #[test]
    fn only_plain_urls_are_taken() {
        assert_eq!(host_of("http://127.0.0.1:8080/"), Some("127.0.0.1:8080".into()));
        for wrong in ["https://a:1", "127.0.0.1:8080", "http://", "http://a/b"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }
}
