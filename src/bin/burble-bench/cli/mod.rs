//! The command line: what can be asked of the tool. Parsing only.

mod scenario;
mod suite;

use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

pub(crate) use scenario::{
    CasesArgs, ChannelsArgs, FanoutArgs, HistoryArgs, IdleArgs, JoinsArgs, ResumeArgs, RoomsArgs, Scenario,
};
pub(crate) use suite::{Part, SuiteArgs};

const EXAMPLES: &str = "\
Examples:
  burble-bench cases -r 1000 -w 10 --pid burble=123 --pid redis=456
  burble-bench fanout --listeners 200 --in-flight 8 --messages 20000 --yardstick single
  burble-bench rooms --rooms 100 --members 10 --rate 1000 --seconds 20
  burble-bench rooms --seconds 5 --search
  burble-bench idle --sessions 10000 --channels 100 --seconds 30 --pid 123
  burble-bench resume --sessions 10000 --missed 100 --channels 100
  burble-bench channels --channels 100000 --redis redis://127.0.0.1:6379
  burble-bench limit redis --in-flight 64 --fsync
  burble-bench suite --quick --only fanout
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
    /// The server to load; repeated, the nodes of one installation, to which sessions are shared out in turn
    #[arg(long = "url", global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) urls: Vec<String>,
    /// A process whose CPU and memory to report: PID or NAME=PID; repeatable
    #[arg(long = "pid", global = true, value_name = "[NAME=]PID")]
    pub(crate) pids: Vec<NamedPid>,
    /// The Redis behind the server: its commands are counted (redis://host:port or redis+unix:///path)
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis: Option<String>,
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
    /// Run a scenario against the yardstick: a bare server that parses nothing and keeps nothing; or Redis alone
    Limit(LimitArgs),
    /// Start servers, run everything on them and on the yardstick in turn, and write a report
    Suite(SuiteArgs),
    /// The yardstick itself, on a port of its own, until its input ends
    #[command(hide = true)]
    YardstickServe {
        #[arg(long)]
        mode: Mode,
    },
}

#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// How the yardstick writes to its sockets
    #[arg(long, default_value = "single")]
    pub(crate) mode: Mode,
    #[command(subcommand)]
    pub(crate) of: Limit,
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Limit {
    #[command(flatten)]
    Scenario(Scenario),
    /// The bare round trip: XADD, and a blocking read on another connection (of --redis, or of a Redis of its own)
    Redis(TripArgs),
}

#[derive(Args, Debug, Clone)]
pub(crate) struct TripArgs {
    /// Entries that are under way at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// Entries in all
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) messages: u32,
    /// Its own Redis flushes to the disk before it answers
    #[arg(long)]
    pub(crate) fsync: bool,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(crate) size: u32,
}

/// How the yardstick writes.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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

    #[test]
    fn rates_are_a_list() {
        let cli = Cli::parse_from(["burble-bench", "rooms", "--rates", "500,1000"]);
        let Command::Scenario(Scenario::Rooms(args)) = cli.command else { panic!("not rooms") };
        assert_eq!(args.rates, [500, 1000]);
    }
}
