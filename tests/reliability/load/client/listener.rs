//! Listens to channels, notes what it sees, and comes back to where it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use burble::model::{Ends, Position};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::history::{Channel, Event, Refusal};
use super::link::{Ended, Frame, Link};
use super::{Line, Phase};

/// How long a listener to whom nothing happens waits before it looks again.
const IDLE: Duration = Duration::from_secs(1);

/// Where a listener is in one channel.
#[derive(Default)]
struct Place {
    /// Where to resume; none for a first join that is live only.
    since: Option<Position>,
    joined: bool,
    catching_up: bool,
    /// It was taken out.
    out: bool,
}

/// A join that is not yet answered: all of one frame.
type Asked = Vec<(Channel, Option<Position>)>;

pub(crate) struct Listener {
    line: Line,
    names: Arc<[String]>,
    places: BTreeMap<Channel, Place>,
    /// A pause after each message, for a listener that is slow.
    slow: Option<Duration>,
    phase: watch::Receiver<Phase>,
    /// By `ref`, in this session.
    asked: HashMap<u32, Asked>,
    /// When to ask again for what was refused for now.
    again: Option<Instant>,
    sessions: usize,
}

impl Listener {
    /// To these channels: `live`, or from their beginning.
    pub(crate) fn new(
        line: Line,
        names: &Arc<[String]>,
        channels: impl Iterator<Item = Channel>,
        (live, slow): (bool, Option<Duration>),
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let place = || Place { since: (!live).then_some(Position::BEGINNING), ..Place::default() };
        let places: BTreeMap<_, _> = channels.map(|channel| (channel, place())).collect();
        // One that never gets in is to be noticed.
        let mut recorded = line.history.lock();
        recorded.clients[line.client].seen.extend(places.keys().map(|&channel| (channel, Vec::new())));
        drop(recorded);
        let names = Arc::clone(names);
        Self { line, names, places, slow, phase, asked: HashMap::new(), again: None, sessions: 0 }
    }

    /// Until it has seen all that there is at the end.
    pub(crate) async fn run(mut self) {
        loop {
            let mut link = self.line.connect().await;
            self.sessions += 1;
            self.asked.clear();
            let ended = self.serve(&mut link).await;
            self.lost();
            match ended {
                Ok(()) => return link.close().await,
                Err(ended) => {
                    drop(link);
                    self.line.recover(ended).await;
                }
            }
        }
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.join(link).await?;
        let mut farewell = None;
        loop {
            if farewell.is_none() && self.has_seen_all() {
                // Whatever is still on its way comes before the answer.
                farewell = Some(link.ping().await?);
            }
            if self.again.is_some_and(|again| again <= Instant::now()) {
                self.join(link).await?;
            }
            let wake = self.again.unwrap_or_else(|| Instant::now() + IDLE);
            let frame = tokio::select! {
                frame = link.next(wake) => frame?,
                _ = self.phase.changed() => None,
            };
            match frame {
                Some(frame) if frame.ev == "expiring" => self.line.renew(link).await?,
                Some(frame) if farewell.is_some() && frame.reference == farewell => return Ok(()),
                Some(frame) => self.note(&frame).await,
                None => {}
            }
        }
    }

    /// Asks for all channels that it is to hear and does not; every other time with many joins in one frame.
    async fn join(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.again = None;
        let missing = self.places.iter().filter(|(_, place)| !place.joined && !place.out);
        let missing: Asked = missing.map(|(&channel, place)| (channel, place.since)).collect();
        let known = missing.iter().all(|(_, since)| since.is_some());
        if known && !missing.is_empty() && self.sessions.is_multiple_of(2) {
            let since: BTreeMap<_, _> = missing.iter().map(|&(channel, since)| (&self.names[channel], since)).collect();
            let reference = link.ask(json!({"op": "resume", "since": since})).await?;
            self.asked.insert(reference, missing);
            return Ok(());
        }
        for (channel, since) in missing {
            let mut command = json!({"op": "join", "channel": self.names[channel]});
            if let Some(since) = since {
                command["since"] = json!(since);
            }
            let reference = link.ask(command).await?;
            self.asked.insert(reference, vec![(channel, since)]);
        }
        Ok(())
    }

    async fn note(&mut self, frame: &Frame) {
        match frame.ev.as_str() {
            "ok" | "error" => self.note_answer(frame),
            "message" | "caught_up" | "gap" | "left" => {
                let channel = self.names.iter().position(|name| *name == frame.channel);
                if let Some(channel) = channel {
                    self.note_event(channel, frame);
                }
                if let Some(pause) = self.slow.filter(|_| frame.ev == "message") {
                    sleep(pause).await;
                }
            }
            _ => {}
        }
    }

    fn note_answer(&mut self, frame: &Frame) {
        let Some(asked) = frame.reference.and_then(|reference| self.asked.remove(&reference)) else { return };
        for (channel, since) in asked {
            let name = &self.names[channel];
            let joined = frame.joined.get(name).map(|&retained| Ends::from(retained));
            let refused = frame.refused.get(name).map(String::as_str);
            match (joined, refused) {
                (Some(ends), _) => self.joined(channel, since, ends),
                (None, Some(code)) => self.refused(channel, code),
                (None, None) if frame.ev == "ok" => self.joined(channel, since, frame.ends()),
                (None, None) => self.refused(channel, &frame.code),
            }
        }
    }

    fn joined(&mut self, channel: Channel, since: Option<Position>, ends: Ends) {
        self.saw(channel, Event::Joined { since, ends });
        if let Some(place) = self.places.get_mut(&channel) {
            place.joined = true;
            place.catching_up = since.is_some();
            place.since = since.or(ends.last).or(Some(Position::BEGINNING));
        }
    }

    fn refused(&mut self, channel: Channel, code: &str) {
        if Refusal::of(code) == Refusal::ForGood {
            self.out(channel);
        } else {
            self.again = Some(Instant::now() + self.line.back_off.next());
        }
    }

    fn out(&mut self, channel: Channel) {
        self.saw(channel, Event::Left);
        if let Some(place) = self.places.get_mut(&channel) {
            (place.joined, place.out) = (false, true);
        }
    }

    fn note_event(&mut self, channel: Channel, frame: &Frame) {
        match (frame.ev.as_str(), frame.id) {
            ("message", Some(position)) => {
                let now = self.line.history.now();
                let mut recorded = self.line.history.lock();
                let content = recorded.contents.number(&frame.from, &frame.cid, &frame.text);
                recorded.saw(self.line.client, channel, now, Event::Message { position, content });
                drop(recorded);
                if let Some(place) = self.places.get_mut(&channel) {
                    place.since = Some(position);
                }
            }
            ("caught_up", id) => {
                self.saw(channel, Event::CaughtUp(id));
                if let Some(place) = self.places.get_mut(&channel) {
                    place.catching_up = false;
                }
            }
            ("left", _) => self.out(channel),
            _ => {
                if let Some(reason) = frame.gap_reason() {
                    self.saw(channel, Event::Gap(reason));
                }
            }
        }
    }

    fn saw(&self, channel: Channel, event: Event) {
        let now = self.line.history.now();
        self.line.history.lock().saw(self.line.client, channel, now, event);
    }

    /// The connection is over, for every channel that was joined on it.
    fn lost(&mut self) {
        let joined: Vec<_> =
            self.places.iter().filter(|(_, place)| place.joined).map(|(&channel, _)| channel).collect();
        for channel in joined {
            self.saw(channel, Event::Lost);
            if let Some(place) = self.places.get_mut(&channel) {
                place.joined = false;
            }
        }
    }

    fn has_seen_all(&mut self) -> bool {
        let Phase::Closing(heads) = &*self.phase.borrow_and_update() else { return false };
        self.places
            .iter()
            .all(|(&channel, place)| place.out || (place.joined && !place.catching_up && place.since >= heads[channel]))
    }
}
