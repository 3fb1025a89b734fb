//! Counts the instructions and allocations of the hot paths, which the load of the machine does not change, and compares
//! them with those that were written down. `make instructions` runs it; `--write` writes them down anew.
//!
//! Each path runs under valgrind twice, the second time twice as often: the difference is what the path itself takes,
//! without the start of the process and what is prepared. It fails at nothing: another compiler counts differently.

mod paths;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

/// What was written down.
const BASELINE: &str = "benches/instructions.txt";
/// How often a path runs; twice that in the second run.
const TIMES: u32 = 1_000;

/// What one pass of a path takes.
#[derive(Clone, Copy)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [run, name, times] = &arguments[..]
        && run == "run"
    {
        let path = paths::PATHS.iter().find(|path| path.name == name).context("no such path")?;
        (path.run)(times.parse()?);
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(BASELINE);
    let baseline = fs::read_to_string(&file).unwrap_or_default();
    let before = read(&baseline);
    let (mut written, mut table) = (String::new(), String::new());
    writeln!(table, "{:<44}{:>14}{:>10}{:>13}{:>10}", "one pass", "instructions", "before", "allocations", "before")?;
    for path in paths::PATHS {
        let (name, cost) = (path.name, measure(path.name)?);
        writeln!(written, "{name}\t{:.0}\t{:.2}", cost.instructions, cost.allocations)?;
        let (ratio, allocations) = before.get(name).map_or_else(Default::default, |before| {
            (format!("x {:.3}", cost.instructions / before.instructions), format!("{:.2}", before.allocations))
        });
        writeln!(table, "{name:<44}{:>14.0}{ratio:>10}{:>13.2}{allocations:>10}", cost.instructions, cost.allocations)?;
    }
    print!("{table}");
    if arguments.iter().any(|argument| argument == "--write") {
        fs::write(&file, written)?;
        println!("written to {BASELINE}");
    }
    Ok(())
}

fn measure(name: &str) -> Result<Cost> {
    let instructions = |times| {
        let said = valgrind(&["--tool=callgrind", "--callgrind-out-file=/dev/null"], name, times)?;
        counted(&said, "Collected : ").context("callgrind has an unknown form")
    };
    let allocations = |times| {
        let said = valgrind(&["--tool=dhat", "--dhat-out-file=/dev/null"], name, times)?;
        counted(&said, " bytes in ").context("dhat has an unknown form")
    };
    let each = |once: f64, twice: f64| (twice - once) / f64::from(TIMES);
    Ok(Cost {
        instructions: each(instructions(TIMES)?, instructions(2 * TIMES)?),
        allocations: each(allocations(TIMES)?, allocations(2 * TIMES)?),
    })
}

fn valgrind(tool: &[&str], name: &str, times: u32) -> Result<String> {
    let mut command = Command::new("valgrind");
    command.args(tool).arg(env::current_exe()?).args(["run", name, &times.to_string()]);
    let done = command.output().context("valgrind does not start; Debian has it in the package valgrind")?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{command:?}:\n{said}");
    Ok(said)
}

/// The first number behind `key`.
fn counted(said: &str, key: &str) -> Option<f64> {
    let (_, rest) = said.split_once(key)?;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().ok()
}

fn read(baseline: &str) -> BTreeMap<&str, Cost> {
    let cost = |line| {
        let [name, instructions, allocations] = <[&str; 3]>::try_from(Vec::from_iter(str::split(line, '\t'))).ok()?;
        Some((name, Cost { instructions: instructions.parse().ok()?, allocations: allocations.parse().ok()? }))
    };
    baseline.lines().filter_map(cost).collect()
}
