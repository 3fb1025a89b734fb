//! What this node has heard of a feed, in its order: the reader brings everything, and the answer to an append what this
//! node wrote itself, a little earlier.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::keys::Feed;
use super::notice::{FeedEntry, FeedEvent};
use crate::error::{Error, Result};
use crate::model::Position;

/// What is handed over, in the order of the feed.
#[derive(Debug)]
pub enum Delivery {
    /// Something happened.
    Event(FeedEvent),
    /// Entries of this feed may have been missed: whatever is known from it is to be read anew.
    Missed(Feed),
    /// All that was waiting has been handed over.
    BatchEnd,
}

type Deliver = Box<dyn FnMut(Delivery) + Send>;

/// How far this node has come in one feed; clones share it.
#[derive(Clone)]
pub(super) struct Heard {
    feed: Feed,
    shared: Arc<Shared>,
}

struct Shared {
    /// The number of the last item that was handed over; 0 while it is not known where this node stands.
    number: watch::Sender<u64>,
    /// There is something that the reader alone brings, and it is to look.
    wanted: Notify,
    place: Mutex<Place>,
}

struct Place {
    /// Who it is handed to.
    deliver: Option<Deliver>,
    /// Of the last entry that was handed over, and of the last item in it.
    id: Position,
    number: u64,
}

impl Heard {
    pub(super) fn new(feed: Feed) -> Self {
        let nowhere = Place { deliver: None, id: Position::BEGINNING, number: 0 };
        let shared = Shared { number: watch::Sender::new(0), wanted: Notify::new(), place: Mutex::new(nowhere) };
        Self { feed, shared: Arc::new(shared) }
    }

    /// Waits until everything up to this number of the feed has been handed over.
    ///
    /// # Errors
    /// `unavailable` where that takes longer than the deadline.
    pub(super) async fn reached(&self, number: u64, deadline: Instant) -> Result<()> {
        let mut reached = self.shared.number.subscribe();
        if *reached.borrow() < number {
            self.want();
        }
        match timeout_at(deadline, reached.wait_for(|reached| *reached >= number)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Unavailable(anyhow::anyhow!("this node is behind in feed {}", self.feed.0))),
        }
    }

    /// Has the reader look: there is something that it alone brings.
    pub(super) fn want(&self) {
        self.shared.wanted.notify_one();
    }

    /// Waits until the reader is to look. Cancel-safe.
    pub(super) async fn wanted(&self) {
        self.shared.wanted.notified().await;
    }

    /// The number of the last item that was handed over; 0 while it is not known where this node stands.
    pub(super) fn number(&self) -> u64 {
        *self.shared.number.borrow()
    }

    /// The entry that was handed over last.
    pub(super) fn last_id(&self) -> Position {
        self.place().id
    }

    /// Hands over to this from now on; or to nobody.
    pub(super) fn tell(&self, deliver: Option<Deliver>) {
        self.place().deliver = deliver;
    }

    /// Nothing is certain until [`Heard::is_at`] or [`Heard::goes_on`]: so nobody is told that the node has come far enough.
    pub(super) fn is_lost(&self) {
        let _place = self.place();
        self.shared.number.send_replace(0);
    }

    /// Goes on behind the entry that was handed over last.
    pub(super) fn goes_on(&self) {
        let place = self.place();
        self.shared.number.send_replace(place.number);
    }

    /// Begins behind this entry and number, whatever was before; where something was, it may have been missed.
    pub(super) fn is_at(&self, id: Position, number: u64) {
        let mut place = self.place();
        (place.id, place.number) = (id, number);
        place.say(Delivery::Missed(self.feed));
        place.say(Delivery::BatchEnd);
        self.shared.number.send_replace(number);
    }

    /// Whether the entry of this id and last number was handed over already.
    pub(super) fn has(&self, id: Position, last_number: u64) -> bool {
        self.place().has(id, last_number)
    }

    /// Hands over what was read, and tells how many items of it were new: an answer may just have brought some.
    pub(super) fn hear(&self, entries: Vec<FeedEntry>) -> usize {
        let mut place = self.place();
        let mut items = 0;
        for entry in entries {
            if place.has(entry.id, entry.last_number()) {
                continue;
            }
            if entry.number != place.number + 1 {
                let (feed, expected, found) = (self.feed.0, place.number + 1, entry.number);
                tracing::warn!(feed, expected, found, "A part of the feed was missed");
                place.say(Delivery::Missed(self.feed));
            }
            items += entry.events.len();
            place.enter(entry);
        }
        self.end_batch(&mut place);
        items
    }

    /// Hands over what this node wrote itself, where it is what comes next, and tells whether it was; else the reader brings
    /// it, with what comes before it.
    pub(super) fn hear_own(&self, entry: FeedEntry) -> bool {
        let mut place = self.place();
        let is_next = self.number() > 0 && entry.number == place.number + 1;
        if is_next {
            place.enter(entry);
            self.end_batch(&mut place);
        } else if entry.number > place.number {
            self.want();
        }
        is_next
    }

    fn end_batch(&self, place: &mut Place) {
        place.say(Delivery::BatchEnd);
        // Only now: who waits for this number finds everything up to it carried out.
        self.shared.number.send_replace(place.number);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.shared.place.lock().expect("nothing panics while it is told of a feed")
    }
}

impl Place {
    /// After a change of primary a number may be lower than one before, or an id, but never both.
    fn has(&self, id: Position, last_number: u64) -> bool {
        id <= self.id && last_number <= self.number
    }

    fn enter(&mut self, entry: FeedEntry) {
        (self.id, self.number) = (entry.id, entry.last_number());
        for event in entry.events.into_iter().flatten() {
            self.say(Delivery::Event(event));
        }
    }

    fn say(&mut self, delivery: Delivery) {
        if let Some(deliver) = &mut self.deliver {
            deliver(delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Notice;

    fn event(number: u64) -> FeedEvent {
        FeedEvent::Notice(Notice::Canary { node: String::new(), number }, None)
    }

    /// An entry of so many items, which tell their numbers.
    fn entry(ms: u64, number: u64, items: u64) -> FeedEntry {
        let events = (number..number + items).map(|number| Some(event(number))).collect();
        FeedEntry { id: Position { epoch: ms, seq: 0 }, number, at: 0, events }
    }

    /// At entry 10, item 100; what is told of it, as numbers, 0 for a hole.
    fn heard() -> (Heard, std::sync::mpsc::Receiver<u64>) {
        let heard = Heard::new(Feed(0));
        heard.is_at(Position { epoch: 10, seq: 0 }, 100);
        let (tell, told) = std::sync::mpsc::sync_channel(16);
        heard.tell(Some(Box::new(move |delivery| match delivery {
            Delivery::Event(FeedEvent::Notice(Notice::Canary { number, .. }, _)) => tell.send(number).unwrap(),
            Delivery::Missed(_) => tell.send(0).unwrap(),
            _ => {}
        })));
        (heard, told)
    }

    fn all(told: &std::sync::mpsc::Receiver<u64>) -> Vec<u64> {
        told.try_iter().collect()
    }

    #[test]
    fn what_a_node_wrote_is_heard_once_whoever_brings_it_first() {
        let (heard, told) = heard();
        assert!(heard.hear_own(entry(11, 101, 2)));
        heard.hear(vec![entry(11, 101, 2), entry(12, 103, 1)]);
        assert!(!heard.hear_own(entry(12, 103, 1)), "the reader was faster");
        assert_eq!((all(&told), heard.number()), (vec![101, 102, 103], 103));
        assert!(heard.has(Position { epoch: 12, seq: 0 }, 103) && !heard.has(Position { epoch: 13, seq: 0 }, 104));
    }

    #[tokio::test]
    async fn what_others_wrote_before_comes_first() {
        let (heard, told) = heard();
        assert!(!heard.hear_own(entry(12, 102, 1)), "the reader has not brought 101 yet");
        heard.wanted().await;
        heard.hear(vec![entry(11, 101, 1), entry(12, 102, 1)]);
        assert!(heard.hear_own(entry(13, 103, 1)));
        assert_eq!(all(&told), [101, 102, 103]);
    }

    #[test]
    fn a_hole_is_told_and_numbers_or_ids_that_go_back_are_one() {
        let (heard, told) = heard();
        heard.hear(vec![entry(12, 102, 1)]);
        assert_eq!(all(&told), [0, 102]);
        heard.hear(vec![entry(13, 50, 1)]);
        assert_eq!(all(&told), [0, 50], "another Redis, whose numbers are lower");
        heard.hear(vec![entry(9, 9_000, 1)]);
        assert_eq!(all(&told), [0, 9_000], "another Redis, whose clock is behind");
    }

    #[test]
    fn nothing_is_heard_by_an_answer_while_it_is_not_known_where_the_node_stands() {
        let (heard, told) = heard();
        heard.is_lost();
        assert!(!heard.hear_own(entry(11, 101, 1)));
        assert_eq!((all(&told), heard.number()), (vec![], 0));
        heard.goes_on();
        heard.hear(vec![entry(11, 101, 1)]);
        assert_eq!((all(&told), heard.number()), (vec![101], 101));
        heard.is_lost();
        heard.is_at(Position { epoch: 20, seq: 0 }, 500);
        assert!(heard.hear_own(entry(21, 501, 1)));
        assert_eq!(all(&told), [0, 501], "what was before may have been missed");
    }

    #[tokio::test]
    async fn who_waits_for_a_number_has_the_reader_look() {
        let (heard, _told) = heard();
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let reached = async { heard.reached(101, deadline).await.unwrap() };
        let look = async {
            heard.wanted().await;
            heard.hear(vec![entry(11, 101, 1)]);
        };
        tokio::join!(reached, look);
        heard.reached(100, deadline).await.unwrap();
    }
}
