//! Reading the log: its ends, pages of it, and what became of a position.

use redis::{Script, Value};
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::{Broker, Options, value};
use crate::error::{Error, Result};
use crate::model::{Anchor, ChannelId, Ends, Entry, PageLimit, Position};

/// How many entries are read at a time for those who catch up: a page stays under about 2 MiB.
pub const PAGE_ENTRIES: u64 = 128;

/// A part of a log, as it was at one moment.
#[derive(Debug, Default)]
pub struct Page {
    /// The entries, ascending.
    pub entries: Vec<Entry>,
    /// The ends of the whole log.
    pub ends: Ends,
    /// Of a read after a position: the newest entry that is not above it.
    pub before: Option<Position>,
    /// Of a log that nobody wrote to for so long that it has expired as a whole: its last epoch.
    pub expired: Option<u64>,
}

/// What to read.
struct Part {
    low: String,
    high: String,
    count: u64,
    descending: bool,
    at: Option<Position>,
}

/// Reads logs over a connection of its own, so that large replies do not hold up appends.
#[derive(Clone)]
pub(super) struct Reader {
    /// One for each feed.
    pub(super) links: Vec<Link>,
    pub(super) options: Options,
}

impl Broker {
    /// The ends of a channel's log.
    ///
    /// # Errors
    /// `unavailable`, as all that reads the log.
    pub async fn ends(&self, channel: ChannelId) -> Result<Ends> {
        let part = Part { low: "-".into(), high: "+".into(), count: 0, descending: false, at: None };
        Ok(self.read(channel, &part).await?.ends)
    }

    /// The entries of one epoch from `number * PAGE_ENTRIES` on, at most [`PAGE_ENTRIES`]: the same for all who ask.
    pub async fn aligned_page(&self, channel: ChannelId, epoch: u64, number: u64) -> Result<Page> {
        let first = number.saturating_mul(PAGE_ENTRIES);
        let part = Part {
            low: Position { epoch, seq: first }.to_string(),
            high: Position { epoch, seq: first.saturating_add(PAGE_ENTRIES - 1) }.to_string(),
            count: PAGE_ENTRIES,
            descending: false,
            at: None,
        };
        self.read(channel, &part).await
    }

    /// The entries after a position, whatever epoch they are of, and what there is of the position itself.
    pub async fn page_after(&self, channel: ChannelId, position: Position) -> Result<Page> {
        let part = Part {
            low: behind(position),
            high: "+".into(),
            count: PAGE_ENTRIES,
            descending: false,
            at: Some(position),
        };
        self.read(channel, &part).await
    }

    /// A page of history and whether there is more in the direction asked.
    pub async fn history(&self, channel: ChannelId, anchor: Anchor, limit: PageLimit) -> Result<(Page, bool)> {
        match anchor {
            Anchor::Latest => self.side(channel, "-".into(), "+".into(), limit.get(), true).await,
            Anchor::Before(position) => self.side(channel, "-".into(), below(position), limit.get(), true).await,
            Anchor::After(position) => self.side(channel, behind(position), "+".into(), limit.get(), false).await,
            Anchor::Around(position) => self.around(channel, position, limit.get()).await,
        }
    }

    async fn side(
        &self,
        channel: ChannelId,
        low: String,
        high: String,
        limit: usize,
        descending: bool,
    ) -> Result<(Page, bool)> {
        // One more than asked tells whether there is more.
        let part = Part { low, high, count: limit as u64 + 1, descending, at: None };
        let mut page = self.read(channel, &part).await?;
        let more = page.entries.len() > limit;
        page.entries.truncate(limit);
        if descending {
            page.entries.reverse();
        }
        Ok((page, more))
    }

    /// The position in the middle, where both sides have enough; what one side lacks the other may fill.
    async fn around(&self, channel: ChannelId, position: Position, limit: usize) -> Result<(Page, bool)> {
        let (older, newer) = tokio::try_join!(
            self.side(channel, "-".into(), below(position), limit, true),
            self.side(channel, position.to_string(), "+".into(), limit, false),
        )?;
        let ((mut page, more_before), (newer, more_after)) = (older, newer);
        let (before, after) = (page.entries.len(), newer.entries.len());
        let take_before = (limit / 2).max(limit.saturating_sub(after)).min(before);
        let take_after = (limit - take_before).min(after);
        page.entries.drain(..before - take_before);
        page.entries.extend(newer.entries.into_iter().take(take_after));
        page.ends = newer.ends;
        Ok((page, more_before || more_after || take_before < before || take_after < after))
    }

    /// Reads, and waits until this node has handled what its feed held at that moment: so nobody is given what was
    /// logged after a removal that the node has not heard of yet.
    async fn read(&self, channel: ChannelId, part: &Part) -> Result<Page> {
        let deadline = Instant::now() + self.shared.reader.options.append_timeout;
        let permit = timeout_at(deadline, self.shared.page_reads.acquire()).await;
        let _permit = permit.map_err(|_| Error::Unavailable(anyhow::anyhow!("too many reads are under way")))?;
        let (seq, page) = self.shared.reader.read(self, channel, part, deadline).await?;
        self.shared.heard[self.shared.keys.feed_of(channel).0].reached(seq, deadline).await?;
        Ok(page)
    }
}

impl Reader {
    /// Reading changes nothing, so a connection that breaks under it is no reason to give up before the deadline. Nor
    /// is one that turns out to lead to a server which is behind this node: another is primary by now.
    async fn read(&self, broker: &Broker, channel: ChannelId, part: &Part, deadline: Instant) -> Result<(u64, Page)> {
        let unavailable = |why: String| Error::Unavailable(anyhow::anyhow!(why));
        let keys = &broker.shared.keys;
        let feed = keys.feed_of(channel);
        let link = &self.links[feed.0];
        let mut call = broker.shared.read_script.prepare_invoke();
        call.key(keys.log(channel)).key(keys.state(feed)).key(keys.epochs(keys.shard_of(channel)));
        call.arg(&part.low).arg(&part.high).arg(part.count).arg(u8::from(part.descending));
        call.arg(part.at.map_or_else(String::new, |position| position.to_string())).arg(channel.to_string());
        loop {
            let handled = broker.shared.heard[feed.0].number();
            let open = link.open(deadline).await.ok_or_else(|| unavailable("Redis cannot be reached".into()))?;
            let reply: Result<Value, _> = call.invoke_async(&mut open.connection.clone()).await;
            match reply.and_then(|reply| parse(&reply)) {
                Ok((seq, _)) if seq < handled => link.suspect(),
                Ok(page) => return Ok(page),
                Err(error) if link.failed(&open, &error) => {}
                Err(error) => return Err(unavailable(error.to_string())),
            }
        }
    }
}

/// The lowest id behind a position. Redis refuses an open end where there is nothing behind it.
fn behind(position: Position) -> String {
    const LAST: Position = Position { epoch: u64::MAX, seq: u64::MAX };
    if position == LAST { LAST.to_string() } else { format!("({position}") }
}

/// The highest id below a position; of the very first one, which no entry has, the id itself.
fn below(position: Position) -> String {
    if position == Position::BEGINNING { position.to_string() } else { format!("({position}") }
}

fn parse(reply: &Value) -> Result<(u64, Page), redis::RedisError> {
    let [seq, first, last, before, entries, epoch] = value::list(reply)? else {
        return Err(value::unexpected("a page"));
    };
    let entries = value::list(entries)?.iter().map(value::entry).collect::<Result<_, _>>()?;
    let ends = Ends { first: value::position(first)?, last: value::position(last)? };
    let expired = if value::text(epoch)?.is_empty() { None } else { Some(value::number(epoch)?) };
    Ok((value::number(seq)?, Page { entries, ends, before: value::position(before)?, expired }))
}

/// The script behind every read.
pub(super) fn script() -> Script {
    Script::new(include_str!("read.lua"))
}
