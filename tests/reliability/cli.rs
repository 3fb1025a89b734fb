//! The command line. What `cargo test` passes along to every target is understood too, and ignored where it means nothing
//! here.

use std::path::PathBuf;

use clap::Parser;

use crate::attackers::Orders;
use crate::system::RedisKind;

const EXAMPLES: &str = "\
Examples:
  cargo test --test reliability                                  the short form of every fault, one after the other
  cargo test --test reliability -- --fault kill-node --setup single
  cargo test --test reliability -- failover                      whatever has this in its name
  cargo test --test reliability -- --full --report docs/reliability.md
  cargo test --test reliability -- --check                       can this machine run it at all?

The exit code is 0 if every promise was kept, 1 if any was broken or a fault could not be made, 2 for a bad
command line.";

/// Breaks Burble, its Redis, its database and its network on purpose, and checks that it kept its promises
#[derive(Parser, Debug)]
#[command(name = "reliability", after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has switches")]
pub(crate) struct Cli {
    /// Only faults on set-ups with this in their name, as in fault/set-up
    pub(crate) filters: Vec<String>,
    /// The long form: every fault again and again, at least 100,000 acknowledged messages over the whole run
    #[arg(long)]
    pub(crate) full: bool,
    /// Only this fault; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) fault: Vec<String>,
    /// Only this set-up of Redis; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) setup: Vec<RedisKind>,
    /// Messages to be acknowledged at least, for each fault on each set-up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// Messages a second, of all writers together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,
    /// Orders the random choices: whom a fault hits, and when
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The binary of a former version, for the fault `upgrade`
    #[arg(long, value_name = "FILE")]
    pub(crate) former: Option<PathBuf>,
    /// Lists the faults and runs nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Prints one JSON document a run instead of a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes the report to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Checks that each set-up starts, fails over and ends here, without a load
    #[arg(long)]
    pub(crate) check: bool,
    /// Filters are whole names
    #[arg(long, hide = true)]
    pub(crate) exact: bool,
    /// Not these
    #[arg(long, value_name = "FILTER", hide = true)]
    pub(crate) skip: Vec<String>,
    /// Only what is ignored by default, which nothing is
    #[arg(long, hide = true)]
    pub(crate) ignored: bool,
    /// How `--list` prints; `terse` is how other tools ask for it
    #[arg(long, value_name = "FORMAT", hide = true)]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) orders: Orders,
    #[command(flatten)]
    _meant_for_others: MeantForOthers,
}

/// Of the test harness that other targets have.
#[derive(clap::Args, Debug)]
struct MeantForOthers {
    #[arg(long, alias = "no-capture", hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, hide = true)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    report_time: bool,
    #[arg(long, hide = true)]
    ensure_time: bool,
    #[arg(long, hide = true)]
    shuffle: bool,
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    logfile: Option<PathBuf>,
    #[arg(short = 'Z', hide = true)]
    unstable: Vec<String>,
}

impl Cli {
    /// Whether a fault on a set-up is asked for.
    pub(crate) fn wants(&self, fault: &str, setup: RedisKind) -> bool {
        let name = format!("{fault}/{}", setup.name());
        let matches = |filter: &String| if self.exact { name == *filter } else { name.contains(filter.as_str()) };
        (self.fault.is_empty() || self.fault.iter().any(|known| known == fault))
            && (self.setup.is_empty() || self.setup.contains(&setup))
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
            && !self.ignored
    }
}
