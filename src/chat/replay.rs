//! Pages of the log for those who catch up: read once for all who ask at a time, and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::turns::{Turn, Turns};
use crate::broker::{Broker, PAGE_ENTRIES, Page};
use crate::config::Limit;
use crate::error::Result;
use crate::hub::Frame;
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, Ends, Position};
use crate::protocol::{self, GapReason};

/// The bytes of pages that are kept; beyond it the least used goes.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// About how many pages that is.
const CACHE_PAGES: usize = 2_048;
/// The first pause after the log could not be read; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What follows a cursor in the log.
pub struct CatchUp {
    page: Arc<FramePage>,
    from: usize,
    /// What is to be announced before anything else.
    pub gap: Option<GapReason>,
}

impl CatchUp {
    /// The frames, ascending.
    pub fn frames(&self) -> &[Frame] {
        &self.page.frames[self.from..]
    }

    /// The ends of the log when it was read.
    pub fn ends(&self) -> Ends {
        self.page.ends
    }

    /// When that was, or a little before.
    pub fn read_at(&self) -> Instant {
        self.page.read_at
    }
}

/// A page, encoded.
struct FramePage {
    frames: Vec<Frame>,
    ends: Ends,
    before: Option<Position>,
    expired: Option<u64>,
    read_at: Instant,
}

impl FramePage {
    /// Where the frame of this position is.
    fn find(&self, position: Position) -> Option<usize> {
        self.frames.binary_search_by_key(&position, |frame| frame.position).ok()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// A page that many share: the epoch, and which of its pages.
    Aligned(ChannelId, u64, u64, u64),
    /// What follows one position.
    After(ChannelId, u64, Position),
}

type Flight = Shared<BoxFuture<'static, Option<Arc<FramePage>>>>;

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<FramePage>> for Bytes {
    fn weight(&self, _: &Key, page: &Arc<FramePage>) -> u64 {
        page.frames.iter().map(|frame| frame.text.len() as u64 + 64).sum::<u64>().max(1)
    }
}

/// Reads pages; clones share what is under way.
#[derive(Clone)]
pub struct Replay {
    shared: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    metrics: Metrics,
    tasks: TaskTracker,
    turns: Turns,
    flights: Mutex<HashMap<Key, Flight>>,
    /// What a page holds stays true, so it serves whoever needs a frame of it; one that was not full has grown since.
    kept: Cache<Key, Arc<FramePage>, Bytes>,
}

impl Replay {
    /// `at_a_time` is how many sessions have a turn.
    pub(super) fn new(broker: Broker, at_a_time: Limit, metrics: Metrics, tasks: TaskTracker) -> Self {
        let kept = Cache::with_weighter(CACHE_PAGES, CACHE_BYTES_MAX, Bytes);
        let turns = Turns::new(at_a_time, metrics.clone(), tasks.clone());
        Self { shared: Arc::new(Inner { broker, metrics, tasks, turns, flights: Mutex::default(), kept }) }
    }

    /// A turn of a session, for all that it reads.
    pub fn turn(&self) -> Turn {
        self.shared.turns.turn()
    }

    /// What follows the cursor, read in a turn, which goes on. Waits for both however long it takes; drop it to give up.
    ///
    /// `first` is what the log began with a moment ago, for those who want all of it: a page that begins with it is as
    /// good as one that is read anew. `generation` is the one of the room, named before anything was read: pages of
    /// another say nothing about it.
    pub async fn after(
        &self,
        channel: Arc<Channel>,
        generation: u64,
        cursor: Position,
        first: Option<Position>,
        turn: &Turn,
    ) -> CatchUp {
        let mut pause = PAUSE_MIN;
        loop {
            turn.wait().await;
            // Pages that are here already would be written one after the other, while deliveries wait for the thread.
            yield_now().await;
            if let Some(caught_up) = self.try_after(&channel, generation, cursor, first).await {
                return caught_up;
            }
            // Who cannot go on is in nobody's way.
            turn.pass_on();
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_after(
        &self,
        channel: &Arc<Channel>,
        generation: u64,
        cursor: Position,
        first: Option<Position>,
    ) -> Option<CatchUp> {
        let next =
            if cursor == Position::BEGINNING { first.filter(|first| *first != cursor) } else { Some(cursor.next()) };
        if let Some(next) = next {
            let key = Key::Aligned(channel.id, generation, next.epoch, next.seq / PAGE_ENTRIES);
            let kept = self.shared.kept.get(&key).filter(|page| page.find(next).is_some());
            let page = match kept {
                Some(page) => {
                    self.shared.metrics.page_hits_total.increment(1);
                    page
                }
                None => self.page(channel, key).await?,
            };
            match page.find(next).filter(|_| next > cursor) {
                Some(from) => return Some(CatchUp { page, from, gap: None }),
                None if page.ends.last == Some(cursor) => {
                    let from = page.frames.len();
                    return Some(CatchUp { page, from, gap: None });
                }
                None => {}
            }
        }
        let page = self.page(channel, Key::After(channel.id, generation, cursor)).await?;
        let next = page.frames.first().map(|frame| frame.position);
        let gap = gap(cursor, page.before, next, page.expired, channel.epoch_floor);
        Some(CatchUp { page, from: 0, gap })
    }

    async fn page(&self, channel: &Arc<Channel>, key: Key) -> Option<Arc<FramePage>> {
        let flight = {
            let mut flights = self.shared.flights.lock().expect("nothing panics while it holds the flights");
            match flights.get(&key) {
                Some(flight) => {
                    self.shared.metrics.page_hits_total.increment(1);
                    flight.clone()
                }
                None => {
                    let flight = self.take_off(channel.clone(), key);
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// Reads a page in a task of its own, so that it ends even if all who wait for it have gone.
    fn take_off(&self, channel: Arc<Channel>, key: Key) -> Flight {
        let replay = self.clone();
        let read = async move {
            let page = replay.read(&channel, key).await;
            replay.shared.flights.lock().expect("nothing panics while it holds the flights").remove(&key);
            match page {
                Ok(page) => {
                    let page = Arc::new(page);
                    if !page.frames.is_empty() && matches!(key, Key::Aligned(..)) {
                        replay.shared.kept.insert(key, page.clone());
                    }
                    Some(page)
                }
                Err(error) => {
                    warn!(code = error.code(), cause = error.cause().map(|c| format!("{c:#}")), "No page of the log");
                    None
                }
            }
        };
        self.shared.tasks.spawn(read).map(|page| page.ok().flatten()).boxed().shared()
    }

    async fn read(&self, channel: &Channel, key: Key) -> Result<FramePage> {
        self.shared.metrics.page_reads_total.increment(1);
        let (broker, read_at) = (&self.shared.broker, Instant::now());
        let Page { entries, ends, before, expired } = match key {
            Key::Aligned(id, _, epoch, number) => broker.aligned_page(id, epoch, number).await?,
            Key::After(id, _, position) => broker.page_after(id, position).await?,
        };
        let frames = entries.iter().map(|entry| Frame {
            position: entry.position,
            at: entry.at,
            text: protocol::message(&channel.name, entry),
        });
        Ok(FramePage { frames: frames.collect(), ends, before, expired, read_at })
    }
}

/// What a reader whose last position was `cursor` has to be told before it goes on with `next`.
///
/// `before` is the newest entry that is not above the cursor. An empty log has either expired: what it held up to its
/// last epoch is older than what is retained. Or it counts as one whose head lies before the first position of its floor.
fn gap(
    cursor: Position,
    before: Option<Position>,
    next: Option<Position>,
    expired: Option<u64>,
    floor: u64,
) -> Option<GapReason> {
    if cursor == Position::BEGINNING {
        return None;
    }
    match (before, next) {
        (_, Some(next)) if next.follows(cursor) => None,
        (_, Some(next)) if next.epoch == cursor.epoch => Some(GapReason::Trimmed),
        (Some(before), Some(_)) if before.epoch == cursor.epoch && before != cursor => Some(GapReason::RolledBack),
        (_, Some(_)) => Some(GapReason::EpochChanged),
        (Some(before), None) if before == cursor => None,
        (Some(_), None) => Some(GapReason::RolledBack),
        (None, None) if expired == Some(cursor.epoch) => Some(GapReason::Trimmed),
        (None, None) if cursor.epoch >= expired.unwrap_or(floor) => Some(GapReason::RolledBack),
        (None, None) => Some(GapReason::EpochChanged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_gets_the_gap_that_the_contract_names() {
        let at = |epoch, seq| Some(Position { epoch, seq });
        let gap = |cursor: Option<Position>, before, next| gap(cursor.unwrap(), before, next, None, 10);
        assert_eq!(gap(Some(Position::BEGINNING), None, at(10, 5)), None);
        assert_eq!(gap(at(10, 4), at(10, 4), at(10, 5)), None, "the next one follows");
        assert_eq!(gap(at(10, 4), None, at(10, 5)), None, "the next one follows, though the cursor's own is gone");
        assert_eq!(gap(at(10, 3), None, at(10, 5)), Some(GapReason::Trimmed));
        assert_eq!(gap(at(10, 4), at(10, 4), at(20, 0)), Some(GapReason::EpochChanged));
        assert_eq!(gap(at(10, 9), at(10, 4), at(20, 0)), Some(GapReason::RolledBack), "beyond the head of its epoch");
        assert_eq!(gap(at(15, 9), at(10, 4), at(20, 0)), Some(GapReason::EpochChanged), "an epoch nobody knows");
        assert_eq!(gap(at(9, 9), None, at(10, 0)), Some(GapReason::EpochChanged));
        assert_eq!(gap(at(10, 4), at(10, 4), None), None, "at the head");
        assert_eq!(gap(at(10, 5), at(10, 4), None), Some(GapReason::RolledBack));
        assert_eq!(gap(at(11, 0), at(10, 4), None), Some(GapReason::RolledBack), "a later epoch");
        assert_eq!(gap(at(10, 0), None, None), Some(GapReason::RolledBack));
        assert_eq!(gap(at(9, 0), None, None), Some(GapReason::EpochChanged), "an earlier channel of the name");
        let expired = |cursor: Option<Position>| super::gap(cursor.unwrap(), None, None, Some(20), 10);
        assert_eq!(expired(at(20, 7)), Some(GapReason::Trimmed), "older than what is retained");
        assert_eq!(expired(at(15, 0)), Some(GapReason::EpochChanged));
        assert_eq!(expired(at(21, 0)), Some(GapReason::RolledBack), "begun after the one that expired, and lost");
        assert_eq!(expired(Some(Position::BEGINNING)), None);
    }
}
