//! The load tool: loads a chat server that speaks `burble.v1`, measures it, and checks that it kept its promises.
//! It relies on the public contract alone, and on nothing of the server's code.

mod answer;
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
mod wire;
mod yardstick;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, Common, Mode, Scenario};
use document::Document;
use failure::Tally;
use http::Target;
use report::Report;
use scenario::Run;
use yardstick::Yardstick;

/// As the server has it: with thousands of sessions in one process, the tool's own cost counts.
#[cfg(feature = "mimalloc")]
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
    let common = &cli.common;
    let reports = match &cli.command {
        Command::YardstickServe { mode } => {
            yardstick::serve(*mode).await?;
            return Ok(true);
        }
        Command::Limit(limit) => vec![on_yardstick(common, limit.mode, &limit.scenario).await?],
        Command::Resume(args) => {
            let run = on_server(common).await?;
            vec![finish(&run, scenario::resume::run(&run, args).await?)]
        }
        Command::Scenario(scenario) => {
            let run = on_server(common).await?;
            let mut reports = Vec::new();
            if let Some(mode) = common.yardstick {
                reports.push(on_yardstick(common, mode, scenario).await?);
            }
            reports.push(finish(&run, run.scenario(scenario).await?));
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

async fn on_server(common: &Common) -> Result<Run> {
    Ok(Run {
        common: common.clone(),
        target: Target::resolve(&common.url).await?,
        against: common.url.clone(),
        pids: common.pids.clone(),
        tally: Tally::default(),
    })
}

async fn on_yardstick(common: &Common, mode: Mode, scenario: &Scenario) -> Result<Report> {
    let yardstick = Yardstick::start(mode).await?;
    let run = Run {
        common: common.clone(),
        target: yardstick.target.clone(),
        against: format!("the yardstick ({})", mode.as_str()),
        pids: vec![yardstick.process.clone()],
        tally: Tally::default(),
    };
    let report = run.scenario(scenario).await?;
    Ok(finish(&run, report))
}

fn finish(run: &Run, mut report: Report) -> Report {
    report.errors = run.tally.by_kind();
    report
}
