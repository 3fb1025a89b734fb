//! A session that sends a number of messages and keeps some of them in flight.

use std::iter::StepBy;
use std::ops::Range;

use super::ChannelName;
use super::outstanding::Outstanding;
use crate::answer::{answer, parse};
use crate::failure::Failure;
use crate::latency::Recorder;
use crate::order::{Clock, Stamp};
use crate::session::{Session, within};

/// What it sends, and how.
pub(super) struct Sender {
    pub(super) session: Session,
    pub(super) channel: ChannelName,
    pub(super) clock: Clock,
    /// The indices of its messages.
    pub(super) indices: StepBy<Range<u32>>,
    pub(super) in_flight_max: u32,
    /// Bytes of a text.
    pub(super) size: u32,
    /// With the index, the `cid` of a message.
    pub(super) cid_prefix: Option<String>,
}

impl Sender {
    /// Sends everything; returns when all of it is answered.
    pub(super) async fn send_all(mut self, mut latency: Recorder) -> Result<(), Failure> {
        let mut outstanding = Outstanding::default();
        loop {
            self.fill(&mut outstanding).await?;
            if outstanding.len() == 0 {
                return Ok(());
            }
            // One wait, and with it whatever else is already here.
            let mut frame = Some(within("send", self.session.next()).await);
            while let Some(text) = frame {
                if let Some(accepted) = answer("send", &parse(&text?)?)? {
                    outstanding.answered(accepted, self.clock, &mut latency)?;
                }
                frame = self.session.next_ready();
            }
        }
    }

    async fn fill(&mut self, outstanding: &mut Outstanding) -> Result<(), Failure> {
        let before = outstanding.len();
        while outstanding.len() < self.in_flight_max as usize
            && let Some(index) = self.indices.next()
        {
            let due_ns = self.clock.now_ns();
            let text = Stamp { index, due_ns }.text(self.size);
            let cid = self.cid_prefix.as_ref().map(|prefix| format!("{prefix}-{index}"));
            let reference = self.session.feed_send(&self.channel, &text, cid.as_deref()).await?;
            outstanding.add(reference, due_ns);
        }
        if outstanding.len() > before { self.session.flush().await } else { Ok(()) }
    }
}
