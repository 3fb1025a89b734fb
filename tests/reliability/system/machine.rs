//! Where a run took place: the programs with their versions, and the machine.

use std::process::Command;

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
