//! Sends at a steady rate, whatever becomes of it, and each message until it has a final answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::history::{Answer, MessageNo, Refusal};
use super::link::{Ended, Frame, Link};
use super::{BACK_OFF_MAX, BackOff, Line, Phase};

/// How far a writer falls behind its rate before it lets go of what it did not send. An outage is not followed by a flood.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// How long a writer that has nothing to do sleeps, unless something happens.
const IDLE: Duration = Duration::from_secs(1);
/// Messages to one channel before the next one's turn: a server may write those of one channel together, and has to keep
/// the order where the channel changes.
const RUN: u64 = 4;

/// How a writer writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two new messages.
    pub(crate) every: Duration,
    /// Unconfirmed messages at a time.
    pub(crate) in_flight: usize,
    /// Every so manieth message is sent once more after it was acknowledged; none with 0.
    pub(crate) repeat_every: u64,
}

struct Unconfirmed {
    command: Value,
    /// When to send it; none while it is under way.
    due: Option<Instant>,
    /// It is the repetition of one that was acknowledged.
    acknowledged: bool,
    back_off: BackOff,
}

pub(crate) struct Writer {
    line: Line,
    channels: Arc<[String]>,
    pace: Pace,
    phase: watch::Receiver<Phase>,
    acknowledged: watch::Sender<u64>,
    unconfirmed: BTreeMap<MessageNo, Unconfirmed>,
    /// By `ref`, in this session: the message and which attempt at it.
    under_way: HashMap<u32, (MessageNo, usize)>,
    written: u64,
    due: Instant,
}

impl Writer {
    pub(crate) fn new(
        line: Line,
        channels: &Arc<[String]>,
        pace: Pace,
        phase: watch::Receiver<Phase>,
        acknowledged: watch::Sender<u64>,
    ) -> Self {
        let (unconfirmed, under_way) = (BTreeMap::new(), HashMap::new());
        let (channels, due) = (Arc::clone(channels), Instant::now());
        Self { line, channels, pace, phase, acknowledged, unconfirmed, under_way, written: 0, due }
    }

    /// Until the load is over and everything is answered.
    pub(crate) async fn run(mut self) {
        loop {
            let mut link = self.line.connect().await;
            self.under_way.clear();
            let now = Instant::now();
            self.unconfirmed.values_mut().for_each(|message| message.due = Some(now));
            match self.serve(&mut link).await {
                Ok(()) => return link.close().await,
                Err(ended) => {
                    drop(link);
                    self.line.recover(ended).await;
                }
            }
        }
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), Ended> {
        loop {
            let running = matches!(*self.phase.borrow_and_update(), Phase::Running);
            let over = matches!(*self.phase.borrow(), Phase::Draining | Phase::Closing(_));
            if over && self.unconfirmed.is_empty() {
                return Ok(());
            }
            if running {
                self.begin();
            }
            self.send(link).await?;
            let wake = self.wake(running);
            let frame = tokio::select! {
                frame = link.next(wake) => frame?,
                _ = self.phase.changed() => None,
            };
            match frame {
                Some(frame) if frame.ev == "expiring" => self.line.renew(link).await?,
                Some(frame) => self.note(&frame),
                None => {}
            }
        }
    }

    /// Takes up the messages that are due.
    fn begin(&mut self) {
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
        while self.due <= now && self.unconfirmed.len() < self.pace.in_flight {
            self.due += self.pace.every;
            let text = format!("{}-{}", self.line.client, self.written);
            let turn = usize::try_from(self.written / RUN).unwrap_or(0);
            let channel = (self.line.client + turn) % self.channels.len();
            self.written += 1;
            let mut recorded = self.line.history.lock();
            let content = recorded.contents.number(&self.line.account.name, &text, &text);
            let message = recorded.message(self.line.client, channel, content);
            let command = json!({"op": "send", "channel": self.channels[channel], "text": text, "cid": text});
            let unconfirmed =
                Unconfirmed { command, due: Some(now), acknowledged: false, back_off: BackOff::default() };
            self.unconfirmed.insert(message, unconfirmed);
        }
    }

    /// Sends what is to be sent, the oldest first.
    async fn send(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = Instant::now();
        for (&number, message) in &mut self.unconfirmed {
            if message.due.is_some_and(|due| due <= now) {
                message.due = None;
                let at = self.line.history.now();
                let attempt = self.line.history.lock().attempt(number, at);
                let reference = link.ask(message.command.clone()).await?;
                self.under_way.insert(reference, (number, attempt));
            }
        }
        Ok(())
    }

    fn wake(&self, running: bool) -> Instant {
        let free = running && self.unconfirmed.len() < self.pace.in_flight;
        let repeats = self.unconfirmed.values().filter_map(|message| message.due);
        repeats.chain(free.then_some(self.due)).min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn note(&mut self, frame: &Frame) {
        let Some((number, attempt)) = frame.reference.and_then(|reference| self.under_way.remove(&reference)) else {
            return;
        };
        let answer = match frame.id {
            Some(id) if frame.ev == "ok" => Answer::Ok { id, dup: frame.dup },
            _ => Answer::Refused(Refusal::of(&frame.code)),
        };
        let now = self.line.history.now();
        self.line.history.lock().answered(number, attempt, now, answer);
        let Some(message) = self.unconfirmed.get_mut(&number) else { return };
        match answer {
            Answer::Ok { .. } if message.acknowledged => drop(self.unconfirmed.remove(&number)),
            Answer::Ok { .. } => {
                self.acknowledged.send_modify(|count| *count += 1);
                if self.pace.repeat_every > 0 && (number as u64).is_multiple_of(self.pace.repeat_every) {
                    message.acknowledged = true;
                    message.due = Some(Instant::now());
                } else {
                    self.unconfirmed.remove(&number);
                }
            }
            Answer::Refused(Refusal::ForGood) => drop(self.unconfirmed.remove(&number)),
            Answer::Refused(_) => {
                let asked = frame.retry_after_ms.map_or(BACK_OFF_MAX, Duration::from_millis);
                message.due = Some(Instant::now() + asked + message.back_off.next());
            }
        }
    }
}
