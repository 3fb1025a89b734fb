//! What each listener saw of each channel, step by step, and then against the log.

use std::collections::{BTreeSet, HashSet};

use burble::model::{Ends, Position};

use super::super::history::{Channel, Client, Event, GapReason, Micros, Seen};
use super::{Case, Kind, Loss, Standing};

/// One listener in one channel, on the way through what it saw.
#[derive(Default)]
struct Walk {
    joined: bool,
    /// The last it has, or was at when it joined.
    cursor: Option<Position>,
    /// It joined at `0-0`: whatever is retained first may come first.
    from_beginning: bool,
    /// Since the last message.
    gap: Option<GapReason>,
    /// After a join with `since`, until `caught_up`: the head that the `ok` told.
    head: Option<Option<Position>>,
    seen: HashSet<Position>,
    /// It is owed everything behind the first up to the second; the last one is open at its end.
    owed: Vec<(Option<Position>, Option<Position>)>,
}

impl Case<'_> {
    pub(super) fn judge_listeners(&mut self) {
        let recorded = self.recorded;
        let mut vanished = BTreeSet::new();
        for (client, record) in recorded.clients.iter().enumerate() {
            for (&channel, seen) in &record.seen {
                let mut walk = Walk::default();
                for seen in seen {
                    if seen.event == Event::Left && self.removed_at(client, channel).is_none() {
                        self.report_seen(Kind::Refused, client, channel, "it was taken out for no reason");
                    }
                    if let Some((kind, sentence)) = self.step(&mut walk, channel, seen) {
                        self.report_seen(kind, client, channel, &sentence);
                    }
                }
                self.judge_removal(client, channel, seen);
                self.judge_end(&mut walk, client, channel);
                vanished.extend(walk.seen.iter().map(|&position| (channel, position)));
            }
        }
        for (channel, position) in vanished.difference(&self.acknowledged.clone()) {
            if self.rules.loss == Loss::Forbidden && self.standing(*channel, *position) == Standing::Gone {
                let sentence = format!("{position} of {} was delivered and is not in the log", self.channel(*channel));
                self.report(Kind::Vanished, sentence);
            }
        }
    }

    fn report_seen(&mut self, kind: Kind, client: Client, channel: Channel, sentence: &str) {
        self.report(kind, format!("{} in {}: {sentence}", self.client(client), self.channel(channel)));
    }

    fn step(&self, walk: &mut Walk, channel: Channel, seen: &Seen) -> Option<(Kind, String)> {
        match seen.event {
            Event::Joined { since, ends } => {
                walk.join(since, ends);
                None
            }
            Event::Lost => {
                (walk.joined, walk.head) = (false, None);
                None
            }
            Event::Left => {
                walk.leave();
                None
            }
            event if !walk.joined => Some((Kind::AfterLeft, format!("{event:?} came while it was not joined"))),
            Event::CaughtUp(id) => walk.caught_up(id),
            Event::Gap(reason) => {
                walk.gap = Some(reason);
                self.wrong_gap(reason)
            }
            Event::Message { position, .. } => self.message(walk, channel, position),
        }
    }

    fn wrong_gap(&self, reason: GapReason) -> Option<(Kind, String)> {
        let wrong = match reason {
            GapReason::Trimmed => self.rules.retention.is_none(),
            GapReason::RolledBack => self.rules.loss == Loss::Forbidden,
            GapReason::EpochChanged => false,
        };
        wrong.then(|| (Kind::WrongGap, format!("a gap ({reason:?}) where nothing may be missing")))
    }

    fn message(&self, walk: &mut Walk, channel: Channel, position: Position) -> Option<(Kind, String)> {
        let (cursor, gap, any) = (walk.cursor, walk.gap.take(), std::mem::take(&mut walk.from_beginning));
        if !walk.seen.insert(position) {
            return Some((Kind::Doubled, format!("{position} came twice")));
        }
        walk.cursor = cursor.max(Some(position));
        let before = cursor?;
        if position <= before {
            return Some((Kind::Reordered, format!("{position} came after {before}")));
        }
        let told_of_loss = matches!(gap, Some(GapReason::RolledBack | GapReason::EpochChanged));
        let loses = !any && self.standing(channel, before) == Standing::Gone;
        if loses && !told_of_loss && self.standing(channel, position) != Standing::Gone {
            return Some((Kind::SilentLoss, format!("{before} was lost, and {position} came without a word of it")));
        }
        if gap == Some(GapReason::EpochChanged) && position.epoch == before.epoch {
            return Some((Kind::WrongGap, format!("the epoch was said to change between {before} and {position}")));
        }
        if !position.follows(before) && gap.is_none() && !any {
            walk.excuse(before, position);
            return Some((Kind::Jumped, format!("after {before} came {position}, without a gap")));
        }
        None
    }

    /// Nothing that was first sent after the removal's answer.
    fn judge_removal(&mut self, client: Client, channel: Channel, seen: &[Seen]) {
        let Some(removed_at) = self.removed_at(client, channel) else { return };
        for seen in seen {
            let Event::Message { position, content } = seen.event else { continue };
            let Some(&number) = self.messages.get(&(channel, content)) else { continue };
            let sent_at = self.recorded.messages[number].attempts.first().map(|attempt| attempt.at);
            if sent_at > Some(removed_at) {
                let sentence = format!("{position} was sent after its user was removed");
                self.report_seen(Kind::AfterRemoval, client, channel, &sentence);
            }
        }
    }

    pub(super) fn removed_at(&self, client: Client, channel: Channel) -> Option<Micros> {
        let user = &self.recorded.clients[client].user;
        let mut removals = self.recorded.removals.iter();
        removals.find(|removal| removal.channel == channel && removal.user == *user).map(|removal| removal.at)
    }

    /// Up to the head if it is still in the channel, and without a hole in what it is owed.
    fn judge_end(&mut self, walk: &mut Walk, client: Client, channel: Channel) {
        let logs = self.logs;
        let log = &logs[channel];
        let stays = (walk.owed.is_empty() || walk.is_open()) && self.removed_at(client, channel).is_none();
        if stays && walk.owed.is_empty() {
            self.report_seen(Kind::Behind, client, channel, "it never got in");
        } else if stays && walk.cursor < log.head() {
            let (cursor, head) = (walk.cursor, log.head());
            self.report_seen(Kind::Behind, client, channel, &format!("at the end it has {cursor:?}, the log {head:?}"));
        } else if stays && walk.head.is_some() {
            self.report_seen(Kind::NeverCaughtUp, client, channel, "it was never told that it is caught up");
        }
        let lost = walk
            .cursor
            .is_some_and(|cursor| walk.seen.contains(&cursor) && self.standing(channel, cursor) == Standing::Gone);
        let told = matches!(walk.gap, Some(GapReason::RolledBack | GapReason::EpochChanged));
        if stays && lost && !told && self.rules.loss != Loss::Forbidden {
            let sentence = format!("{:?} was lost, and nothing told it so", walk.cursor);
            self.report_seen(Kind::SilentLoss, client, channel, &sentence);
        }
        walk.leave();
        for &(after, until) in &walk.owed {
            let owed = log.entries.iter().map(|entry| Some(entry.0)).filter(|&at| at > after && at <= until).flatten();
            for position in owed.filter(|position| !walk.seen.contains(position)) {
                self.report_seen(Kind::Missed, client, channel, &format!("{position} was never seen"));
            }
        }
    }
}

impl Walk {
    /// A `since` goes on with what it is owed; without one it is owed what is new.
    fn join(&mut self, since: Option<Position>, ends: Ends) {
        if since.is_none() || self.owed.is_empty() || !self.is_open() {
            self.leave();
            self.owed.push((since.or(ends.last), None));
        }
        self.joined = true;
        self.cursor = since.or(ends.last);
        self.from_beginning = since == Some(Position::BEGINNING) || self.cursor.is_none();
        self.head = since.map(|_| ends.last);
        self.gap = None;
    }

    fn caught_up(&mut self, id: Option<Position>) -> Option<(Kind, String)> {
        let head = self.head.take().flatten();
        // Of an empty log nothing is sent, and a client ahead of its log has more than that.
        let at = self.cursor.filter(|cursor| *cursor != Position::BEGINNING);
        (id < head || at < id).then(|| (Kind::EarlyCaughtUp, format!("caught up to {id:?} of {head:?}, having {at:?}")))
    }

    fn is_open(&self) -> bool {
        self.owed.last().is_some_and(|owed| owed.1.is_none())
    }

    /// Ends what it is owed with what it has.
    fn leave(&mut self) {
        self.joined = false;
        let cursor = self.cursor;
        if let Some(owed) = self.owed.last_mut().filter(|owed| owed.1.is_none()) {
            owed.1 = cursor.or(owed.0);
        }
    }

    /// What was jumped over was told of already.
    fn excuse(&mut self, before: Position, position: Position) {
        if let Some(owed) = self.owed.last_mut() {
            owed.1 = Some(before);
        }
        self.owed.push((Some(position), None));
    }
}
