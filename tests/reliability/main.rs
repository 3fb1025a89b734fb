//! The reliability suite: three nodes on real servers, a load, a fault, and a judge. `--help` tells how to run it.

mod check;
mod cli;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests of single behaviours use the rest of the kit")]
mod support;
mod system;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use self::cli::Cli;

/// Where logs and data of a run lie, a folder for each fault on each set-up.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/reliability");

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.check {
        let folder = Path::new(FOLDER).join("check");
        let _ = std::fs::remove_dir_all(&folder);
        return match check::check(&folder).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}; logs are in {}", folder.display());
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::SUCCESS
}
