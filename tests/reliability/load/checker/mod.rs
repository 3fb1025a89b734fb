//! Whether the promise held, over everything that was seen and acknowledged. Pure: it reads a record and the final logs.

mod answers;
mod figures;
mod listening;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burble::model::Position;

pub(crate) use self::figures::{Figures, Spread, spread_of};
use super::history::{Channel, Client, Content, Event, MessageNo, Recorded};

/// Violations of one kind that are told in full; the rest is counted. A broken run can have one for every message.
const TOLD_PER_KIND: usize = 20;

/// Whether the fault of this run may have taken acknowledged messages away: a Redis that lost what it had in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Loss {
    #[default]
    Forbidden,
    /// Of what nobody was told is written: it may have been seen on a server that did not stay.
    Unacknowledged,
    /// Listeners are to be told of it all the same.
    Allowed,
}

/// What this run may do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) loss: Loss,
    /// How many messages a log keeps at least; `None` where nothing is to be trimmed.
    pub(crate) retention: Option<usize>,
}

/// How the promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Acknowledged, and nowhere in the log.
    Lost,
    /// Acknowledged under a position where the log does not have it.
    FalseOk,
    /// Said not to be written, and written.
    FalseRefusal,
    /// A listener has it, the log has not.
    Vanished,
    /// One position for two contents.
    TwoContents,
    /// The log is not ascending or not dense.
    LogOrder,
    /// In the log, and sent by nobody.
    Foreign,
    /// In the log twice.
    DoubledInLog,
    /// Of all answers to one `cid`, not exactly one lacks `dup`, or they name different positions.
    Dup,
    /// Two messages of one session stand in the wrong order.
    WriterOrder,
    /// Refused for good without a reason.
    Refused,
    /// No final answer until the end.
    Unanswered,
    AnsweredTwice,
    AnsweredNothing,
    AnsweredOutOfTurn,
    /// A listener got it twice.
    Doubled,
    Reordered,
    /// Something was left out without a `gap`.
    Jumped,
    /// A `gap` of a kind that this run gives no reason for.
    WrongGap,
    /// `caught_up` came before all that it speaks of.
    EarlyCaughtUp,
    /// It joined with `since`, and was never told `caught_up`.
    NeverCaughtUp,
    /// In the log, in the midst of what a listener saw, and not seen.
    Missed,
    /// It had not seen the head at the end.
    Behind,
    AfterLeft,
    AfterRemoval,
    /// It had what was lost, and was not told so.
    SilentLoss,
    /// The final log could not be read.
    Unreadable,
}

/// A broken promise, and a sentence that names channel, positions and client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) sentence: String,
}

/// A channel's log as history tells it at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Ascending.
    pub(crate) entries: Vec<(Position, Content)>,
}

impl Log {
    pub(crate) fn head(&self) -> Option<Position> {
        self.entries.last().map(|entry| entry.0)
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    pub(crate) violations: Vec<Violation>,
}

/// Where a position that somebody knows stands at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Here,
    /// Retention took it, as it may.
    Trimmed,
    Gone,
}

/// What all rules look at.
struct Case<'a> {
    recorded: &'a Recorded,
    logs: &'a [Log],
    rules: Rules,
    /// Every position that anybody knows, and the first content that was told of it.
    contents: Vec<HashMap<Position, Content>>,
    /// For each channel, where the log has a content.
    places: Vec<HashMap<Content, Vec<Position>>>,
    messages: HashMap<(Channel, Content), MessageNo>,
    acknowledged: BTreeSet<(Channel, Position)>,
    found: BTreeMap<Kind, Vec<String>>,
}

/// Judges a run. `logs` has one for each channel, in their order.
pub(crate) fn check(recorded: &Recorded, logs: &[Log], rules: Rules) -> Outcome {
    assert_eq!(recorded.channels.len(), logs.len(), "each channel has a log");
    let mut case = Case::new(recorded, logs, rules);
    case.judge_logs();
    case.judge_order();
    case.judge_messages();
    case.judge_writer_order();
    case.judge_answers();
    case.judge_listeners();
    let figures = case.figures();
    Outcome { figures, violations: case.violations() }
}

impl<'a> Case<'a> {
    fn new(recorded: &'a Recorded, logs: &'a [Log], rules: Rules) -> Self {
        let mut places = vec![HashMap::<Content, Vec<Position>>::new(); logs.len()];
        for (places, log) in places.iter_mut().zip(logs) {
            for &(position, content) in &log.entries {
                places.entry(content).or_default().push(position);
            }
        }
        let messages = (0..).zip(&recorded.messages);
        let messages = messages.map(|(number, message)| ((message.channel, message.content), number)).collect();
        let contents = vec![HashMap::new(); logs.len()];
        let acknowledged = BTreeSet::new();
        Self { recorded, logs, rules, contents, places, messages, acknowledged, found: BTreeMap::new() }
    }

    fn report(&mut self, kind: Kind, sentence: String) {
        self.found.entry(kind).or_default().push(sentence);
    }

    fn count(&self, kind: Kind) -> usize {
        self.found.get(&kind).map_or(0, Vec::len)
    }

    fn channel(&self, channel: Channel) -> &'a str {
        &self.recorded.channels[channel]
    }

    fn client(&self, client: Client) -> String {
        format!("client {client} ({})", self.recorded.clients[client].user)
    }

    fn standing(&self, channel: Channel, position: Position) -> Standing {
        let entries = &self.logs[channel].entries;
        if entries.binary_search_by_key(&position, |entry| entry.0).is_ok() {
            return Standing::Here;
        }
        let full = self.rules.retention.is_some_and(|kept| entries.len() >= kept);
        let before = entries.first().is_some_and(|first| position < first.0);
        if full && before { Standing::Trimmed } else { Standing::Gone }
    }

    /// Each log for itself: ascending, dense within an epoch, every content once and sent by somebody.
    fn judge_logs(&mut self) {
        let logs = self.logs;
        for (channel, log) in logs.iter().enumerate() {
            let name = self.channel(channel);
            for pair in log.entries.windows(2) {
                let (before, after) = (pair[0].0, pair[1].0);
                let begun_anew = after.epoch > before.epoch && after.seq == 0;
                if !after.follows(before) && !begun_anew {
                    self.report(Kind::LogOrder, format!("in the log of {name}, {after} stands behind {before}"));
                }
            }
            for &(position, content) in &log.entries {
                if !self.messages.contains_key(&(channel, content)) {
                    self.report(Kind::Foreign, format!("in the log of {name}, nobody sent what stands at {position}"));
                }
            }
            let twice = self.places[channel].values().filter(|places| places.len() > 1);
            let twice: Vec<_> =
                twice.map(|places| format!("the log of {name} has one message at {places:?}")).collect();
            twice.into_iter().for_each(|sentence| self.report(Kind::DoubledInLog, sentence));
        }
    }

    /// One position is one content, for everybody, ever.
    fn judge_order(&mut self) {
        let (recorded, logs) = (self.recorded, self.logs);
        for (channel, log) in logs.iter().enumerate() {
            for &(position, content) in &log.entries {
                self.stands_for(channel, position, content, || "the log".to_owned());
            }
        }
        for message in &recorded.messages {
            for (_, id, _) in writing::oks(message) {
                self.acknowledged.insert((message.channel, id));
                self.stands_for(message.channel, id, message.content, || format!("writer {}", message.writer));
            }
        }
        for (client, record) in recorded.clients.iter().enumerate() {
            for (&channel, seen) in &record.seen {
                for seen in seen {
                    if let Event::Message { position, content } = seen.event {
                        self.stands_for(channel, position, content, || format!("listener {client}"));
                    }
                }
            }
        }
    }

    fn stands_for(&mut self, channel: Channel, position: Position, content: Content, who: impl Fn() -> String) {
        let known = *self.contents[channel].entry(position).or_insert(content);
        if known != content {
            let sentence = format!("{position} of {} stands for another message to {}", self.channel(channel), who());
            self.report(Kind::TwoContents, sentence);
        }
    }

    fn violations(self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (kind, sentences) in self.found {
            let more = sentences.len().saturating_sub(TOLD_PER_KIND);
            let told = sentences.into_iter().take(TOLD_PER_KIND);
            violations.extend(told.map(|sentence| Violation { kind, sentence }));
            if more > 0 {
                violations.push(Violation { kind, sentence: format!("and {more} more of this kind") });
            }
        }
        violations
    }
}
