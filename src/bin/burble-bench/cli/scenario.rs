//! The scenarios and what each can be told.

use clap::{Args, Subcommand};

/// The scenarios.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Scenario {
    /// Short visits: connect, twice join - send - leave, close; each answer awaited
    Cases(CasesArgs),
    /// One channel, many listeners, senders with a fixed number of messages in flight
    Fanout(FanoutArgs),
    /// Many small rooms at a fixed rate; latency counts from when a message was due
    Rooms(RoomsArgs),
    /// Many quiet sessions: what one costs, and whether all are still there afterwards
    Idle(IdleArgs),
    /// The same traffic over few or very many channels: whether a channel more makes a message dearer
    Channels(ChannelsArgs),
    /// Join and leave on channels where others listen
    Joins(JoinsArgs),
    /// Readers that page through a channel's history
    History(HistoryArgs),
    /// Sessions that were away come back at once and catch up
    Resume(ResumeArgs),
}

impl Scenario {
    /// Whether the yardstick can take part: it keeps nothing to come back for.
    pub(crate) fn fits_yardstick(&self) -> bool {
        !matches!(self, Self::History(_) | Self::Resume(_))
    }
}

#[derive(Args, Debug, Clone)]
pub(crate) struct CasesArgs {
    /// Cases by each worker
    #[arg(short, long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Workers, each a user of its own
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// Channels, shared out to the workers in turn [default: one for each worker]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: Option<u32>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct FanoutArgs {
    /// Sessions that listen
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) listeners: u32,
    /// Messages that each sender keeps in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// Messages in all
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) messages: u32,
    /// Sessions that send
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) senders: u32,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct RoomsArgs {
    /// Channels, each with members of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: u32,
    /// Sessions in each room; one of them sends
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// Messages per second over all rooms; with --search, where to begin
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How long to send; with --search, at each rate
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Raise the rate until the delivery p99 passes that of --p99; report the highest rate that held
    #[arg(long)]
    pub(crate) search: bool,
    /// What the delivery p99 has to stay below, for a rate to hold
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) p99: u32,
    /// Try these rates in turn, up to the first whose delivery p99 passes that of --p99
    #[arg(long, value_delimiter = ',', conflicts_with = "search")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rates: Vec<u32>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct IdleArgs {
    /// Sessions to open, each joined to one channel
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,
    /// How long they stay quiet (an access token lives for 15 minutes)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) seconds: u32,
    /// Channels, shared out to the sessions in turn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ResumeArgs {
    /// Sessions that come back
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,
    /// Messages that each one missed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) missed: u32,
    /// Channels, shared out to the sessions in turn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ChannelsArgs {
    /// Channels, each with one listener
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// Sessions, to which the channels are shared out in turn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,
    /// Messages per second over all channels
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How long to send
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct JoinsArgs {
    /// Joins, each followed by a leave
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) visits: u32,
    /// Sessions that come and go
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// Channels, each with a session that stays
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct HistoryArgs {
    /// Messages in the channel
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) messages: u32,
    /// Sessions that read them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) readers: u32,
    /// Events of a page
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// How often each reads all of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) times: u32,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}
