//! A session that is away, and its way back: everything missed, once and in order, then `caught_up`.

use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ChannelName;
use crate::answer::{answer, parse};
use crate::failure::Failure;
use crate::latency::Recorder;
use crate::order::Order;
use crate::session::{READ_BUFFER_LARGE, Session};
use crate::stage::Stage;
use crate::wire::{Position, Scan};

/// How long one session may take to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// A session that is not there, and where it was.
pub(super) struct Away {
    pub(super) number: u32,
    pub(super) channel: ChannelName,
    /// Nothing, where the log was empty.
    pub(super) since: Option<Position>,
}

impl Away {
    /// Opens a session as soon as it is its turn, and returns it when it has caught up.
    pub(super) async fn come_back(
        self,
        stage: &Stage,
        missed: u32,
        opening: &Semaphore,
        mut connect: Recorder,
    ) -> Result<Session, Failure> {
        let permit = opening.acquire().await.expect("it is never closed");
        let start = Instant::now();
        let mut session = stage.open(self.number, READ_BUFFER_LARGE).await?;
        connect.record(start.elapsed());
        drop(permit);
        let late = |_| Failure::new("resume: timeout", format!("not caught up within {CATCH_UP_MAX:?}"));
        timeout(CATCH_UP_MAX, self.catch_up(&mut session, missed)).await.map_err(late)??;
        Ok(session)
    }

    async fn catch_up(&self, session: &mut Session, missed: u32) -> Result<(), Failure> {
        let reference = session.join_since(&self.channel, self.since.unwrap_or(Position::BEGINNING)).await?;
        let (mut scan, mut order) = (Scan::default(), Order::new(1, self.since));
        let (mut answered, mut heard, mut last) = (false, 0, self.since);
        loop {
            let text = session.next().await?;
            if let Some(delivery) = scan.delivery(&text) {
                let broken = |kind| Failure::new(kind, format!("since {:?}: {text}", self.since));
                order.accept(delivery.position, delivery.stamp).map_err(broken)?;
                heard += 1;
                last = Some(delivery.position);
                continue;
            }
            let frame = parse(&text)?;
            if let Some(accepted) = answer("resume", &frame)? {
                answered = accepted.reference == reference;
            }
            if frame.ev == "caught_up" {
                let id = frame.id.and_then(|id| id.parse().ok());
                let right = answered && heard == missed && id == last && frame.channel == Some(&*self.channel);
                let wrong =
                    || Failure::new("order: caught_up too early or wrong", format!("{heard} of {missed}: {text}"));
                return right.then_some(()).ok_or_else(wrong);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    use super::*;
    use crate::http::Target;
    use crate::order::Stamp;
    use crate::session::READ_BUFFER_SMALL;

    fn message(seq: u64, index: u32) -> String {
        let text = Stamp { index, due_ns: 0 }.text(0);
        format!(r#"{{"ev":"message","channel":"tea","id":"1-{seq}","from":"a","at":1,"text":"{text}"}}"#)
    }

    fn caught_up(seq: u64) -> String {
        format!(r#"{{"ev":"caught_up","channel":"tea","id":"1-{seq}"}}"#)
    }

    /// Greets one client, answers its first command, then says the lines whatever comes.
    async fn say(listener: TcpListener, lines: Vec<String>) {
        let (stream, _) = listener.accept().await.expect("a client");
        #[expect(clippy::result_large_err, reason = "the callback's form is not ours")]
        let protocol = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("burble.v1"));
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, protocol).await.expect("an upgrade");
        socket.send(Message::text(r#"{"ev":"welcome"}"#)).await.expect("sent");
        socket.next().await.expect("a command").expect("a frame");
        let ok = r#"{"ev":"ok","ref":10000000,"first":"1-0","last":"1-6"}"#.to_owned();
        for line in std::iter::once(ok).chain(lines) {
            socket.feed(Message::text(line)).await.expect("fed");
        }
        socket.flush().await.expect("sent");
        // Until the client has heard enough.
        while let Some(Ok(_)) = socket.next().await {}
    }

    /// Comes back after 1-4, having missed two messages.
    async fn come_back(lines: Vec<String>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = Target { host: address.to_string(), address };
        let away = Away { number: 0, channel: "tea".into(), since: Some(Position { epoch: 1, seq: 4 }) };
        let returning = async {
            let mut session = Session::open(&target, "token", READ_BUFFER_SMALL).await?;
            away.catch_up(&mut session, 2).await
        };
        let (result, ()) = tokio::join!(returning, say(listener, lines));
        result.map_err(|failure| failure.kind)
    }

    #[tokio::test]
    async fn a_session_has_caught_up_when_it_has_everything_it_missed() {
        assert_eq!(come_back(vec![message(5, 0), message(6, 1), caught_up(6)]).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_lost_or_doubled_is_noticed() {
        let early = vec![message(5, 0), caught_up(5)];
        assert_eq!(come_back(early).await, Err("order: caught_up too early or wrong".into()));
        assert_eq!(come_back(vec![message(6, 1)]).await, Err("order: hole in seq".into()));
        let twice = vec![message(5, 0), message(5, 0)];
        assert_eq!(come_back(twice).await, Err("order: position twice".into()));
    }
}
