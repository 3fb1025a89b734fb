//! What a run amounts to, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::history::{Answer, Channel, Client, Event, GapReason, Micros, Refusal};
use super::writing::oks;
use super::{Case, Kind, Standing};

/// The longest latency told apart: ten minutes, in microseconds. No run waits longer for its end.
const LATENCY_MAX: Micros = 600_000_000;

/// A distribution of latencies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

/// The figures of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
    /// Messages that listeners received, all listeners together.
    pub(crate) delivered: u64,
    /// Sends beyond the first of each message.
    pub(crate) repeated: usize,
    /// Sends that were answered `outcome_unknown` or not at all.
    pub(crate) open: usize,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) reconnects: usize,
    /// Tokens that were replaced on a live session, before they ran out.
    pub(crate) renewed: usize,
    pub(crate) gaps: BTreeMap<GapReason, usize>,
    /// Acknowledged positions that the log no longer has.
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) reordered: usize,
    /// Of any client, between two signs of life of the server.
    pub(crate) longest_silence: Duration,
    /// From each mark until every client that stayed had something done or delivered that was first sent after it;
    /// `None` where one never had.
    pub(crate) recovered: Vec<(String, Option<Duration>)>,
    pub(crate) send_to_ok: Spread,
    pub(crate) send_to_delivery: Spread,
}

impl Case<'_> {
    pub(super) fn figures(&self) -> Figures {
        let messages = &self.recorded.messages;
        let attempts = || messages.iter().flat_map(|message| &message.attempts);
        let open = |answer| matches!(answer, None | Some((_, Answer::Refused(Refusal::Open))));
        let lost = self.acknowledged.iter().filter(|(channel, at)| self.standing(*channel, *at) == Standing::Gone);
        let sessions = self.recorded.clients.iter().map(|client| client.sessions.len().saturating_sub(1));
        let silence = self.recorded.clients.iter().map(|client| client.silence.longest).max();
        let (deliveries, gaps) = self.deliveries();
        Figures {
            sent: messages.len(),
            acknowledged: messages.iter().filter(|message| oks(message).next().is_some()).count(),
            delivered: deliveries.len(),
            repeated: messages.iter().map(|message| message.attempts.len().saturating_sub(1)).sum(),
            open: attempts().filter(|attempt| open(attempt.answer)).count(),
            errors: self.recorded.codes.clone(),
            reconnects: sessions.sum(),
            renewed: self.recorded.renewed,
            gaps,
            lost: lost.count(),
            doubled: self.count(Kind::Doubled) + self.count(Kind::DoubledInLog),
            reordered: self.count(Kind::Reordered) + self.count(Kind::WriterOrder) + self.count(Kind::LogOrder),
            longest_silence: Duration::from_micros(silence.unwrap_or_default()),
            recovered: self.recovered(),
            send_to_ok: spread(&self.confirmations()),
            send_to_delivery: spread(&deliveries),
        }
    }

    fn confirmations(&self) -> Histogram<u64> {
        let mut histogram = histogram();
        for message in &self.recorded.messages {
            if let (Some(first), Some((at, ..))) = (message.attempts.first(), oks(message).next()) {
                histogram.saturating_record(at.saturating_sub(first.at));
            }
        }
        histogram
    }

    fn deliveries(&self) -> (Histogram<u64>, BTreeMap<GapReason, usize>) {
        let (mut histogram, mut gaps) = (histogram(), BTreeMap::new());
        for (channel, seen) in self.recorded.clients.iter().flat_map(|client| &client.seen) {
            for seen in seen {
                match seen.event {
                    Event::Message { content, .. } => {
                        let sent_at = self.first_sent_at(*channel, content).unwrap_or(seen.at);
                        histogram.saturating_record(seen.at.saturating_sub(sent_at));
                    }
                    Event::Gap(reason) => *gaps.entry(reason).or_default() += 1,
                    _ => {}
                }
            }
        }
        (histogram, gaps)
    }

    fn first_sent_at(&self, channel: Channel, content: super::Content) -> Option<Micros> {
        let number = *self.messages.get(&(channel, content))?;
        self.recorded.messages[number].attempts.first().map(|attempt| attempt.at)
    }

    fn recovered(&self) -> Vec<(String, Option<Duration>)> {
        let marks = self.recorded.marks.iter();
        marks.map(|(name, at)| (name.clone(), self.recovered_from(*at).map(Duration::from_micros))).collect()
    }

    /// How long the last client took to be served with something that was first sent after the moment.
    fn recovered_from(&self, mark: Micros) -> Option<Micros> {
        let mut waited: BTreeMap<Client, Option<Micros>> = BTreeMap::new();
        for message in &self.recorded.messages {
            let after = message.attempts.first().is_some_and(|attempt| attempt.at > mark);
            let done = oks(message).next().filter(|_| after).map(|ok| ok.0.saturating_sub(mark));
            earlier(waited.entry(message.writer).or_default(), done);
        }
        let mut longest = Some(0);
        for (client, record) in self.recorded.clients.iter().enumerate() {
            for (&channel, seen) in &record.seen {
                if self.removed_at(client, channel).is_some() {
                    continue;
                }
                let served = seen.iter().find(|seen| match seen.event {
                    Event::Message { content, .. } => self.first_sent_at(channel, content) > Some(mark),
                    _ => false,
                });
                longest = later(longest, served.map(|seen| seen.at.saturating_sub(mark)));
            }
        }
        waited.into_values().fold(longest, later)
    }
}

fn earlier(known: &mut Option<Micros>, other: Option<Micros>) {
    *known = [*known, other].into_iter().flatten().min();
}

/// The later of two; never, if one is never.
fn later(one: Option<Micros>, other: Option<Micros>) -> Option<Micros> {
    Some(one?.max(other?))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order")
}

/// How these latencies are distributed.
pub(crate) fn spread_of(latencies: impl Iterator<Item = Micros>) -> Spread {
    let mut histogram = histogram();
    latencies.for_each(|latency| histogram.saturating_record(latency));
    spread(&histogram)
}

fn spread(histogram: &Histogram<u64>) -> Spread {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Spread { count: histogram.len(), p50: at(0.5), p99: at(0.99), max: Duration::from_micros(histogram.max()) }
}
