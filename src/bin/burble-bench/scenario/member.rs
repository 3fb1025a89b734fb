//! A member of a room: it listens, and one in each room also sends when it is told to.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::ChannelName;
use super::listener::{Heard, Listener};
use super::outstanding::Outstanding;
use super::plan::Due;
use crate::failure::{Failure, Tally};
use crate::latency::Recorder;
use crate::order::{Clock, Stamp};

/// What all members know of the rate that is being tried out.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) clock: Clock,
    /// Bytes of a text.
    pub(super) size: u32,
    /// What is not there by then is missing.
    pub(super) time_max: Duration,
    pub(super) cid_prefix: Option<String>,
    pub(super) tally: Tally,
}

/// A session in a room.
pub(super) struct Member {
    listener: Listener,
    channel: ChannelName,
    pub(super) room: u32,
    pub(super) sends: bool,
    outstanding: Outstanding,
    sent: u32,
}

impl Member {
    /// A joined session.
    pub(super) fn new(listener: Listener, channel: ChannelName, room: u32, sends: bool) -> Self {
        Self { listener, channel, room, sends, outstanding: Outstanding::default(), sent: 0 }
    }

    /// Hears (and, with `due`, sends) so many messages. Gives itself back if nothing is left owing.
    pub(super) async fn take_part(
        mut self,
        step: Step,
        messages: u32,
        due: Option<mpsc::Receiver<Due>>,
        mut delivery: Recorder,
        mut ack: Recorder,
    ) -> Option<Self> {
        self.listener.restart();
        self.sent = 0;
        match self.exchange(&step, messages, due, &mut delivery, &mut ack).await {
            Ok(()) => Some(self),
            Err(failure) => {
                step.tally.add(failure);
                let missing = messages.saturating_sub(self.listener.heard());
                let failure = Failure::new("delivery: missing", format!("one member lacks {missing}"));
                step.tally.add_many(failure, u64::from(missing));
                None
            }
        }
    }

    async fn exchange(
        &mut self,
        step: &Step,
        messages: u32,
        mut due: Option<mpsc::Receiver<Due>>,
        delivery: &mut Recorder,
        ack: &mut Recorder,
    ) -> Result<(), Failure> {
        let mut time_is_up = pin!(sleep(step.time_max));
        let to_send = if due.is_some() { messages } else { 0 };
        while self.listener.heard() < messages || self.sent < to_send || self.outstanding.len() > 0 {
            tokio::select! {
                Some(first) = next_due(&mut due) => self.send(step, first, &mut due).await?,
                frame = self.listener.session.next() => self.take(&frame?, step, delivery, ack)?,
                () = &mut time_is_up => {
                    return Err(Failure::new("delivery: timeout", format!("not all after {:?}", step.time_max)));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &str, step: &Step, delivery: &mut Recorder, ack: &mut Recorder) -> Result<(), Failure> {
        match self.listener.take(frame, step.clock, delivery) {
            Ok(Heard::Accepted(accepted)) => self.outstanding.answered(accepted, step.clock, ack),
            Err(failure) if failure.is_of_order() => {
                step.tally.add(failure);
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Sends what is due, in one write.
    async fn send(&mut self, step: &Step, first: Due, due: &mut Option<mpsc::Receiver<Due>>) -> Result<(), Failure> {
        let mut next = Some(first);
        while let Some(Due { ns: due_ns, .. }) = next {
            let text = Stamp { index: self.sent, due_ns }.text(step.size);
            let cid = step.cid_prefix.as_ref().map(|prefix| format!("{prefix}-{}", self.sent));
            let reference = self.listener.session.feed_send(&self.channel, &text, cid.as_deref()).await?;
            self.outstanding.add(reference, due_ns);
            self.sent += 1;
            next = due.as_mut().and_then(|due| due.try_recv().ok());
        }
        self.listener.session.flush().await
    }
}

/// Nothing, ever, for one that does not send.
async fn next_due(due: &mut Option<mpsc::Receiver<Due>>) -> Option<Due> {
    match due {
        Some(due) => due.recv().await,
        None => pending().await,
    }
}
