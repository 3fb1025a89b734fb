//! The reliability suite: three nodes on real servers, a load, a fault, and a judge. `--help` tells how to run it.

mod attackers;
mod check;
mod cli;
mod faults;
#[expect(dead_code, unused_imports, reason = "its own tests, and those of the network, run with the others")]
mod load;
mod report;
mod run;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests of single behaviours use the rest of the kit")]
mod support;
mod system;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use self::cli::Cli;
use self::faults::{FAULTS, Fault, Form, UPGRADE};
use self::run::{Plan, Verdict};
use self::system::RedisKind;

/// Where logs and data of a run lie, a folder for each fault on each set-up.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/reliability");
/// Acknowledged messages that the long form has at least, all its runs together.
const FULL_MESSAGES: u64 = 100_000;
/// Those of one run of the short form.
const SHORT_MESSAGES: u64 = 500;
/// Messages a second: in the long form about half of what two cores carry on a Cluster.
const SHORT_RATE: u32 = 300;
const FULL_RATE: u32 = 2_500;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.orders.follow().await {
        return ExitCode::SUCCESS;
    }
    let work = async {
        match cli.check {
            true => check::check(&Path::new(FOLDER).join("check")).await.map(|()| true),
            false => run_all(&cli).await,
        }
    };
    // Whatever was started ends when the work is dropped.
    let done = tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reliability: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every run kept every promise.
async fn run_all(cli: &Cli) -> Result<bool> {
    for name in &cli.fault {
        ensure!(FAULTS.iter().any(|fault| fault.name == name), "there is no fault {name}; --list lists them");
        ensure!(name != UPGRADE || cli.former.is_some(), "{UPGRADE} needs --former; scripts/upgrade.sh builds one");
    }
    let form = if cli.full { Form::Full } else { Form::Short };
    let runs = chosen(cli, form);
    if cli.list {
        list(cli, &runs);
        return Ok(true);
    }
    let each = form.choose(SHORT_MESSAGES, FULL_MESSAGES.div_ceil(runs.len().max(1) as u64));
    let rate = cli.rate.unwrap_or(form.choose(SHORT_RATE, FULL_RATE));
    let messages = cli.messages.unwrap_or(each);
    let plan = Plan { form, messages, rate, seed: cli.seed, former: cli.former.as_deref() };
    let bar = run::progress(plan.messages * runs.len() as u64);
    let mut verdicts = Vec::new();
    for (done, (fault, setup)) in (0..).zip(runs) {
        bar.set_position(plan.messages * done);
        let verdict = run::run(fault, setup, plan, Path::new(FOLDER), &bar).await;
        bar.suspend(|| tell(cli, &verdict));
        verdicts.push(verdict);
        // Each time, so that a run that is interrupted leaves what it has.
        if let Some(file) = &cli.report {
            let page = report::page(&verdicts, &command());
            std::fs::write(file, page).with_context(|| format!("{} cannot be written", file.display()))?;
        }
    }
    bar.finish_and_clear();
    let broken = verdicts.iter().filter(|verdict| !verdict.is_kept()).count();
    if !cli.json {
        println!("{} runs, {broken} with a broken promise", verdicts.len());
    }
    Ok(broken == 0)
}

/// What is asked for. A fault that is named is made on any set-up that it is meant for, in the short form too.
fn chosen(cli: &Cli, form: Form) -> Vec<(&'static Fault, RedisKind)> {
    let named = !cli.fault.is_empty() || !cli.setup.is_empty() || !cli.filters.is_empty();
    let setups = |fault: &'static Fault| fault.setups(if named { Form::Full } else { form });
    let all = FAULTS.iter().flat_map(|fault| setups(fault).iter().map(move |setup| (fault, *setup)));
    let possible = all.filter(|(fault, _)| fault.name != UPGRADE || cli.former.is_some());
    possible.filter(|(fault, setup)| cli.wants(fault.name, *setup)).collect()
}

fn list(cli: &Cli, runs: &[(&Fault, RedisKind)]) {
    for (fault, setup) in runs {
        match cli.format.as_deref() {
            Some("terse") => println!("{}/{}: test", fault.name, setup.name()),
            _ => println!("{:<26}{}", format!("{}/{}", fault.name, setup.name()), fault.sentence),
        }
    }
}

fn tell(cli: &Cli, verdict: &Verdict) {
    if cli.json {
        println!("{}", report::document(verdict));
        return;
    }
    println!("{}", report::line(verdict));
    for further in verdict.note.iter().chain(&verdict.impossible).chain(&verdict.problems) {
        println!("    {further}");
    }
    if !verdict.is_kept() {
        println!("    logs: {}", verdict.logs.display());
    }
}

/// As it was given, for whoever wants to repeat it.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo test --test reliability -- {}", arguments.join(" ")).trim_end_matches([' ', '-']).to_owned()
}
