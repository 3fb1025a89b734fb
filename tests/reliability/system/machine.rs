//! Where a run took place: the programs with their versions, and the machine.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

/// What `/proc` counts processor time in: a hundredth of a second, on every Linux that programs see.
const TICK: Duration = Duration::from_millis(10);

/// The rows of the report's table: what, and which.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("Burble", format!("{}, {} build", env!("CARGO_PKG_VERSION"), build())),
        ("Redis", said("redis-server", "--version")),
        ("Postgres", said("postgres", "--version")),
        ("HAProxy", said("haproxy", "-v")),
        ("Kernel", read("/proc/sys/kernel/osrelease")),
        ("Machine", format!("{cores} cores, {}", memory())),
    ]
}

/// The processor time that a process has used so far, in user space and in the kernel.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    // The 14th and 15th field, counted from behind the name, which may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').skip(11).take(2));
    let ticks: u32 = fields.into_iter().flatten().flat_map(str::parse::<u32>).sum();
    Ok(TICK * ticks)
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// The first line that a program prints of itself.
fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| "not found".to_owned(), str::to_owned)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn memory() -> String {
    let info = read("/proc/meminfo");
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gibibytes = total.and_then(|kibibytes| kibibytes.parse::<f64>().ok()).unwrap_or(0.0) / 1_048_576.0;
    format!("{gibibytes:.1} GiB of memory")
}
