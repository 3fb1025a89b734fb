//! The command line: what can be asked of the tool. Parsing only.

use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  burble-bench cases -r 1000 -w 10 --pid burble=123 --pid redis=456
  burble-bench fanout --listeners 200 --in-flight 8 --messages 20000 --yardstick single
  burble-bench rooms --rooms 100 --members 10 --rate 1000 --seconds 20
  burble-bench rooms --seconds 5 --search
  burble-bench idle --sessions 10000 --channels 100 --seconds 30 --pid 123
  burble-bench resume --sessions 10000 --missed 100 --channels 100
  burble-bench limit --mode batch fanout --listeners 2000 --in-flight 8 --messages 5000

Before measuring: build with --release, allow enough open files (ulimit -n) for both sides, and set the
server's limits to 0 that one address and few users would meet (otherwise they are what is measured):
LIMIT_CONNECTIONS_PER_ADDRESS, LIMIT_SESSIONS_PER_USER, LIMIT_SESSION_COMMANDS_PER_SECOND,
LIMIT_USER_COMMANDS_PER_SECOND, LIMIT_SIGN_UPS_PER_ADDRESS; for very many sessions LIMIT_CONNECTIONS and
LIMIT_UPGRADES too.
The exit code is 0 if all went well, 1 if anything went wrong, 2 for a bad command line.";

/// Loads a chat server that speaks burble.v1, measures it, and checks that it kept its promises
#[derive(Parser, Debug)]
#[command(name = "burble-bench", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every scenario understands.
#[derive(Args, Debug, Clone)]
pub(crate) struct Common {
    /// The server to load
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// A process whose CPU and memory to report: PID or NAME=PID; repeatable
    #[arg(long = "pid", global = true, value_name = "[NAME=]PID")]
    pub(crate) pids: Vec<NamedPid>,
    /// Print one JSON document instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Names the users and channels of this run, and orders its random choices; a used seed reuses its users
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1_000_000))]
    pub(crate) seed: u64,
    /// Sessions that share one user
    #[arg(long, global = true, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions_per_user: u32,
    /// Connections that may be opening at the same time
    #[arg(long, global = true, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// Every message carries a cid, so that the server has to look for repeats
    #[arg(long, global = true)]
    pub(crate) cid: bool,
    /// Measure the yardstick first, in the same run, and print the ratios to it
    #[arg(long, global = true, value_name = "MODE")]
    pub(crate) yardstick: Option<Mode>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    /// Sessions that were away come back at once and catch up
    Resume(ResumeArgs),
    /// Run a scenario against the yardstick: a bare server that parses nothing and keeps nothing
    Limit(LimitArgs),
    /// The yardstick itself, on a port of its own, until its input ends
    #[command(hide = true)]
    YardstickServe {
        #[arg(long)]
        mode: Mode,
    },
}

/// The scenarios that the yardstick can take part in.
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
    /// Sessions in each room; the first one sends
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// Messages per second over all rooms; with --search, where to begin
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How long to send; with --search, at each rate
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Raise the rate until the delivery p99 passes 50 ms; report the highest rate that held
    #[arg(long)]
    pub(crate) search: bool,
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

#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// How the yardstick writes to its sockets
    #[arg(long, default_value = "single")]
    pub(crate) mode: Mode,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// How the yardstick writes.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One write per socket and message
    Single,
    /// What is waiting for a socket goes into one write
    Batch,
}

impl Mode {
    /// The word for it on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
        }
    }
}

/// A process to watch, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPid {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl FromStr for NamedPid {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let (name, pid) = given.split_once('=').unwrap_or(("server", given));
        let pid = pid.parse().map_err(|_| format!("\"{pid}\" is no process id"))?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pid_may_have_a_name() {
        assert_eq!("redis=7".parse(), Ok(NamedPid { name: "redis".into(), pid: 7 }));
        assert_eq!("7".parse(), Ok(NamedPid { name: "server".into(), pid: 7 }));
        assert!("redis".parse::<NamedPid>().is_err());
    }

    #[test]
    fn the_original_call_is_understood() {
        let cli = Cli::parse_from(["burble-bench", "cases", "-r", "5", "-w", "2", "--pid", "3"]);
        let Command::Scenario(Scenario::Cases(args)) = cli.command else { panic!("not cases") };
        assert_eq!((args.repeat, args.workers, cli.common.pids.len()), (5, 2, 1));
    }
}
