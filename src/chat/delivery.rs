//! From the feeds to the rings: what this node hears, in order, changes what it remembers and wakes who listens.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Chat;
use crate::broker::{Delivery, FeedEvent, Notice};
use crate::hub::{Frame, Touched};
use crate::model::{Change, Position};
use crate::protocol::{self, Event, LeftReason};

/// Carries out what the feeds say. Never waits.
pub struct Deliverer {
    chat: Chat,
    touched: Touched,
    doubts: Arc<Notify>,
}

impl Deliverer {
    /// `doubts` is notified when something has to be read anew.
    pub fn new(chat: Chat, doubts: Arc<Notify>) -> Self {
        Self { chat, touched: Touched::default(), doubts }
    }

    /// Carries out one delivery.
    pub fn deliver(&mut self, delivery: Delivery) {
        let shared = &self.chat.shared;
        match delivery {
            Delivery::Event(FeedEvent::Message(channel, entry)) => {
                shared.hub.deliver(channel, entry.position, &mut self.touched, |channel| Frame {
                    position: entry.position,
                    at: entry.at,
                    text: protocol::message(&channel.name, &entry),
                });
            }
            Delivery::Event(FeedEvent::Notice(notice, last)) => self.hear(notice, last),
            Delivery::Missed(feed) => {
                shared.metrics.feed_refills_total.increment(1);
                shared.caches.forget_all();
                shared.hub.doubt(|channel| shared.broker.feed_of(channel) == feed);
                self.doubts.notify_one();
            }
            Delivery::BatchEnd => shared.hub.wake(&mut self.touched),
        }
    }

    fn hear(&mut self, notice: Notice, last: Option<Position>) {
        let shared = &self.chat.shared;
        let last = last.unwrap_or(Position::BEGINNING);
        match notice {
            Notice::Typing { channel, from, session } => shared.hub.typing(channel, session, |channel| {
                protocol::encode(&Event::Typing { channel: &channel.name, from: &from })
            }),
            Notice::Change(change) => self.apply(change, last),
            Notice::Canary { .. } => {}
        }
    }

    fn apply(&self, change: Change, last: Position) {
        let shared = &self.chat.shared;
        match change {
            Change::Removed { channel, user, membership } => {
                shared.caches.forget_membership(channel, user);
                shared.hub.end(channel, Some((user, membership)), last, LeftReason::Removed);
            }
            Change::Role { channel, user } => shared.caches.forget_membership(channel, user),
            Change::Changed { name, .. } => shared.caches.forget_channel(&name),
            Change::Deleted { channel, name } => {
                shared.caches.forget_channel(&name);
                shared.hub.end(channel, None, last, LeftReason::Deleted);
            }
            Change::Revoked { sign_ins, .. } => self.chat.apply_revoked(&sign_ins),
        }
    }
}
