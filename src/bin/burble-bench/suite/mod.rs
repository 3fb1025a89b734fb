//! Everything at once: servers are started, every scenario is run on them and on the yardstick in turn, and a report
//! is written.

mod budgets;
mod chart;
mod charts;
mod columns;
mod page;
mod plan;
mod results;
mod system;
mod tables;
mod work;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cli::{Common, Part, SuiteArgs};
use crate::proc::{Machine, file_system};
use plan::{Load, Scale};
use results::{Results, Round, Row};
use system::Place;
use work::Worker;

/// Runs the parts that were asked for; whether nothing went wrong.
pub(crate) async fn run(common: &Common, args: &SuiteArgs) -> Result<bool> {
    let results = tokio::select! {
        results = measure(common, args) => results?,
        // What is dropped takes its servers with it.
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    };
    if let Some(file) = &args.report {
        write(file, args, &results)?;
    }
    if common.json {
        let document = serde_json::json!({
            "machine": Machine::here(), "budgets": budgets::judged(&results), "results": results,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else if args.report.is_none() {
        println!("{}", page::findings(&results));
    }
    for failure in &results.failures {
        eprintln!("burble-bench: {failure}");
    }
    Ok(results.is_good())
}

async fn measure(common: &Common, args: &SuiteArgs) -> Result<Results> {
    let place = Place::new(args.burble.as_deref(), args.folder.as_deref())?;
    let worker = Worker { common, place: &place };
    let scale = Scale { quick: args.quick, rounds: args.rounds };
    let (start, mut results) = (Instant::now(), Results::default());
    results.file_system = file_system(place.folder());
    for part in Part::value_variants().iter().filter(|part| args.only.is_empty() || args.only.contains(part)) {
        let loads = plan::loads(*part, scale, &results);
        let mut rows: Vec<Row> = loads.iter().map(empty_row).collect();
        for round in 0..loads.iter().map(|load| load.rounds).max().unwrap_or(0) {
            for (load, row) in loads.iter().zip(&mut rows).filter(|(load, _)| round < load.rounds) {
                let seconds = start.elapsed().as_secs();
                let number = round + 1;
                eprintln!("{seconds:>5} s  {part:?}: {} ({number}/{}): {}", load.name, load.rounds, load.line);
                match worker.round(load).await {
                    Ok(done) => row.rounds.push(done),
                    Err(error) => results.failures.push(format!("{part:?}, {}: {error:#}", load.name)),
                }
            }
        }
        rows.retain(|row| !row.rounds.is_empty());
        results.parts.insert(*part, rows);
    }
    Ok(results)
}

fn empty_row(load: &Load) -> Row {
    Row {
        name: load.name.clone(),
        command: load.line.clone(),
        set_up: load.set_up.words(),
        rounds: Vec::<Round>::new(),
    }
}

/// The page, and its charts in a folder beside it that has its name.
fn write(file: &Path, args: &SuiteArgs, results: &Results) -> Result<()> {
    let folder = file.with_extension("");
    let name = folder.file_name().and_then(|name| name.to_str()).context("the report needs a file name")?;
    fs::create_dir_all(&folder)?;
    let charts = charts::charts(results);
    for (part, chart) in &charts {
        fs::write(folder.join(format!("{}.svg", charts::file_name(*part))), chart.svg())?;
    }
    let before = fs::read_to_string(file).unwrap_or_default();
    let drawn: Vec<_> = charts.iter().map(|(part, chart)| (*part, chart.title.clone())).collect();
    let page = page::page(results, &page::Frame { folder: name, drawn: &drawn, before: &before, args });
    fs::write(file, page).with_context(|| format!("{} cannot be written", file.display()))
}
