//! The load tool: loads a chat server that speaks `burble.v1`, measures it, and checks that it kept its promises.
//! It relies on the public contract alone, and on nothing of the server's code.

mod answer;
mod broker;
mod cli;
mod document;
mod failure;
mod http;
mod latency;
mod order;
mod proc;
mod progress;
mod report;
mod scenario;
mod session;
mod stage;
mod suite;
mod watch;
mod wire;
mod yardstick;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, Limit};
use document::Document;
use scenario::Run;

/// As the server has it: with thousands of sessions in one process, the tool's own cost counts.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(good) if good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("burble-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<bool> {
    proc::raise_open_files()?;
    let common = &cli.common;
    let reports = match &cli.command {
        Command::YardstickServe { mode } => {
            yardstick::serve(*mode).await?;
            return Ok(true);
        }
        Command::Suite(args) => return suite::run(common, args).await,
        Command::Limit(limit) => match &limit.of {
            Limit::Scenario(scenario) => vec![scenario::on_yardstick(common, limit.mode, scenario).await?],
            Limit::Redis(args) => vec![broker::trip::run(common, args).await?],
        },
        Command::Scenario(scenario) => {
            let run = Run::on_server(common).await?;
            let mut reports = Vec::new();
            if let Some(mode) = common.yardstick {
                reports.push(scenario::on_yardstick(common, mode, scenario).await?);
            }
            reports.push(run.report_on(scenario).await?);
            reports
        }
    };
    let document = Document::new(reports);
    if common.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{document}");
    }
    Ok(document.is_good())
}
