//! When each message of an open load is due, and who sends it. The load does not wait for the server.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::order::Clock;
use crate::progress::Progress;

/// A message that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) ns: u64,
    /// The number of its channel.
    pub(super) channel: u32,
}

/// Which channel each message goes to; they are due at even distances.
pub(super) struct Plan {
    rate: u32,
    channels: Vec<u32>,
    /// A channel belongs to the queue with its number, modulo how many there are.
    queues: u32,
}

impl Plan {
    /// The same for the same seed.
    pub(super) fn new(rate: u32, seconds: u32, channels: u32, queues: u32, seed: u64) -> Self {
        let messages = u64::from(rate) * u64::from(seconds);
        let pick = |number| u32::try_from(mixed(seed ^ number) % u64::from(channels)).expect("below a u32");
        Self { rate, channels: (0..messages).map(pick).collect(), queues }
    }

    /// How many messages each queue is for.
    pub(super) fn in_queue(&self) -> Vec<u32> {
        let mut in_queue = vec![0; self.queues as usize];
        self.channels.iter().for_each(|channel| in_queue[(channel % self.queues) as usize] += 1);
        in_queue
    }

    /// Queues that hold all of their messages, so that the pacer never waits.
    pub(super) fn queues(&self) -> (Vec<mpsc::Sender<Due>>, Vec<Option<mpsc::Receiver<Due>>>) {
        let queue = |messages: u32| mpsc::channel(messages.max(1) as usize);
        self.in_queue().into_iter().map(queue).map(|(sender, receiver)| (sender, Some(receiver))).unzip()
    }

    /// Hands each message out when it is due. Blocks: the runtime's timer counts in milliseconds.
    pub(super) fn pace(&self, clock: Clock, queues: &[mpsc::Sender<Due>], mut late: impl FnMut(u64)) {
        let progress = Progress::new(&format!("{} messages/s", self.rate), self.channels.len() as u64);
        for (number, &channel) in (0_u64..).zip(&self.channels) {
            let due_ns = number * 1_000_000_000 / u64::from(self.rate);
            if let Some(wait_ns) = due_ns.checked_sub(clock.now_ns()) {
                std::thread::sleep(Duration::from_nanos(wait_ns));
            }
            late(clock.now_ns().saturating_sub(due_ns));
            // A sender that is lost has said so itself.
            let _ = queues[(channel % self.queues) as usize].try_send(Due { ns: due_ns, channel });
            progress.advance(1);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_even_and_the_same_for_the_same_seed() {
        let plan = || Plan::new(1000, 10, 10, 10, 7);
        assert_eq!(plan().channels, plan().channels);
        assert_eq!(plan().in_queue().iter().sum::<u32>(), 10_000);
        assert!(plan().in_queue().iter().all(|messages| (800..1200).contains(messages)), "{:?}", plan().in_queue());
    }

    #[test]
    fn a_channel_belongs_to_one_queue() {
        let plan = Plan::new(100, 1, 50, 5, 7);
        let (senders, mut receivers) = plan.queues();
        plan.pace(Clock::start(), &senders, |_| ());
        let mut sent = 0;
        for (queue, receiver) in (0..).zip(&mut receivers) {
            while let Ok(due) = receiver.as_mut().expect("untouched").try_recv() {
                assert_eq!(due.channel % 5, queue);
                sent += 1;
            }
        }
        assert_eq!(sent, 100);
    }
}
