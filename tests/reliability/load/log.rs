//! The final logs, read back through pages of history.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use burble::model::Position;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::checker::Log;
use super::client::account::Account;
use super::history::History;

/// Between two tries to read a page that could not be read.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The largest page that the contract knows.
const PAGE: usize = 200;

#[derive(Deserialize)]
struct Page {
    events: Vec<Logged>,
    more: bool,
}

#[derive(Deserialize)]
struct Logged {
    id: Position,
    from: String,
    #[serde(default)]
    cid: String,
    #[serde(default)]
    text: String,
}

/// Who reads, and where, and until when a server may take to answer.
pub(super) struct Reader {
    pub(super) account: Arc<Account>,
    pub(super) addresses: Arc<[SocketAddr]>,
    pub(super) history: History,
    pub(super) deadline: Instant,
}

impl Reader {
    /// The whole log of a channel; none where it could not be read in time.
    pub(super) async fn read(&self, channel: &str) -> Option<Log> {
        let (mut log, mut after) = (Log::default(), Position::BEGINNING);
        loop {
            let page = self.page(&format!("/channels/{channel}/messages?after={after}&limit={PAGE}")).await?;
            let mut recorded = self.history.lock();
            let content = |event: &Logged| recorded.contents.number(&event.from, &event.cid, &event.text);
            let entries: Vec<_> =
                page.events.iter().map(|event| event.id).zip(page.events.iter().map(content)).collect();
            log.entries.extend(entries);
            match log.head() {
                Some(head) if page.more && head > after => after = head,
                _ => return Some(log),
            }
        }
    }

    async fn page(&self, path: &str) -> Option<Page> {
        for turn in 0.. {
            let address = self.addresses[turn % self.addresses.len()];
            let answer = self.account.ask(address, "GET", path, None).await;
            let page = answer.filter(|answer| answer.status == 200);
            if let Some(page) = page.and_then(|answer| serde_json::from_slice(&answer.body).ok()) {
                return Some(page);
            }
            if Instant::now() > self.deadline {
                return None;
            }
            sleep(RETRY_EVERY).await;
        }
        None
    }
}
