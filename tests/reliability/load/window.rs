//! How a load fares in a part of a run, while it goes on.

use std::collections::HashMap;

use super::checker::{Spread, spread_of};
use super::history::{Channel, Content, Event, History, Micros};

impl History {
    /// From the first send to each delivery, of the messages that were first sent in this time.
    pub(crate) fn deliveries(&self, from: Micros, to: Micros) -> Spread {
        let recorded = self.lock();
        let sent: HashMap<(Channel, Content), Micros> = recorded
            .messages
            .iter()
            .filter_map(|message| Some(((message.channel, message.content), message.attempts.first()?.at)))
            .filter(|(_, at)| (from..to).contains(at))
            .collect();
        let seen = recorded.clients.iter().flat_map(|client| &client.seen);
        spread_of(seen.flat_map(|(channel, seen)| seen.iter().map(move |seen| (*channel, seen))).filter_map(
            |(channel, seen)| match seen.event {
                Event::Message { content, .. } => Some(seen.at.saturating_sub(*sent.get(&(channel, content))?)),
                _ => None,
            },
        ))
    }
}
