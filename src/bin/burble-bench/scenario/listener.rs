//! A session that listens: it times what comes, and holds the server to its promises.

use crate::answer::{Accepted, answer, parse};
use crate::failure::Failure;
use crate::latency::Recorder;
use crate::order::{Clock, Order};
use crate::session::Session;
use crate::wire::{Position, Scan};

/// A joined session and what it has heard.
pub(super) struct Listener {
    pub(super) session: Session,
    scan: Scan,
    order: Order,
    heard: u32,
}

/// What a frame was.
pub(super) enum Heard {
    Message,
    Accepted(Accepted),
    Other,
}

impl Listener {
    /// Listens to a channel with `senders` that take turns; the next position follows `last`, where it is known.
    pub(super) fn new(session: Session, senders: u32, last: Option<Position>) -> Self {
        Self { session, scan: Scan::default(), order: Order::new(senders, last), heard: 0 }
    }

    /// How many messages it has heard since it was made or `restart`ed.
    pub(super) fn heard(&self) -> u32 {
        self.heard
    }

    /// Counts anew; the positions go on.
    pub(super) fn restart(&mut self) {
        self.heard = 0;
        self.order.restart();
    }

    /// Takes one frame; records how long after its due time a message came.
    pub(super) fn take(&mut self, frame: &str, clock: Clock, latency: &mut Recorder) -> Result<Heard, Failure> {
        let Some(delivery) = self.scan.delivery(frame) else {
            let accepted = answer("send", &parse(frame)?)?;
            return Ok(accepted.map_or(Heard::Other, Heard::Accepted));
        };
        latency.record_ns(clock.now_ns().saturating_sub(delivery.stamp.due_ns));
        self.heard += 1;
        self.order.accept(delivery.position, delivery.stamp).map_err(|kind| Failure::new(kind, frame))?;
        Ok(Heard::Message)
    }
}
