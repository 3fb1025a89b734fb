//! Arguments, settings, logs, and then the node. No logic.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use burble::config::Settings;
use burble::finding::Finding;
use burble::systemd::Sockets;
use burble::telemetry::Levels;
use burble::{admin, app, doctor, telemetry};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tracing::{error, info};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A chat server on Redis Streams: what it acknowledges is never lost, never doubled, never out of order.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The settings file; without it `burble.toml`, where there is one. The environment goes before either.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer with one JSON document.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default).
    Serve,
    /// Check the settings, show what holds, and start nothing.
    CheckConfig,
    /// Check the whole set-up, beside nodes that run, and say what to mend.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Ask the node of these settings whether it is ready; the exit status says it. For containers.
    Healthcheck,
    #[command(flatten)]
    Admin(admin::Command),
    /// Show the version.
    Version,
    /// Print what a shell needs to complete these commands.
    #[command(after_help = "Example:\n  burble completions bash > /etc/bash_completion.d/burble")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  burble doctor                                      what a node here would rest on
  burble --config /etc/burble.toml doctor --json     the same for a program
  burble doctor --url https://chat.example.com       and the way through the reverse proxy
  burble doctor --url https://chat.example.com --idle 90 --user ann --password-file ann.txt
                                                     and whether an idle session outlives 90 s

Exit status: 0 where nothing failed, else 1.";

#[derive(Args)]
struct Doctor {
    /// Warnings count as failures.
    #[arg(long)]
    strict: bool,
    /// Go to the node as clients do, by its public URL.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Stay signed in and idle for so long.
    #[arg(long, value_name = "SECONDS", requires_all = ["url", "user", "password_file"],
          value_parser = clap::value_parser!(u64).range(1..=600))]
    idle: Option<u64>,
    /// Who stays idle.
    #[arg(long, value_name = "NAME", requires = "idle")]
    user: Option<String>,
    /// The file with their password; /dev/stdin will do.
    #[arg(long, value_name = "FILE", requires = "idle")]
    password_file: Option<PathBuf>,
}

impl Doctor {
    fn visit(&self) -> Option<doctor::Visit> {
        let idle = self.idle.map(Duration::from_secs);
        let idle = self.user.clone().zip(self.password_file.clone()).zip(idle);
        let idle = idle.map(|((user, password), idle)| (user, password, idle));
        self.url.clone().map(|url| doctor::Visit { url, idle })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before there are threads: it changes the environment.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("burble: .env cannot be read: {error}");
        return ExitCode::from(2);
    }
    match &arguments.command {
        Some(Command::Version) => return version(arguments.json),
        Some(Command::Completions { shell }) => return completions(*shell),
        _ => {}
    }
    let settings = match Settings::load(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            if let Some(Command::Doctor(options)) = &arguments.command {
                return report(options, arguments.json, &doctor::unreadable(&error));
            }
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match arguments.command {
        Some(Command::CheckConfig) if arguments.json => {
            println!("{:#}", settings.describe_json());
            ExitCode::SUCCESS
        }
        Some(Command::CheckConfig) => {
            print!("{}", settings.describe());
            ExitCode::SUCCESS
        }
        Some(Command::Doctor(options)) => examine(&settings, &options, arguments.json),
        Some(Command::Healthcheck) => ended(block_on(doctor::ready(&settings))),
        Some(Command::Admin(command)) => ended(administer(&settings, command, arguments.json)),
        _ => ended(serve(settings, arguments.config)),
    }
}

fn version(json: bool) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        println!("{:#}", serde_json::json!({ "version": version }))
    } else {
        println!("burble {version}")
    }
    ExitCode::SUCCESS
}

fn completions(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Arguments::command(), "burble", &mut stdout());
    ExitCode::SUCCESS
}

fn examine(settings: &Settings, options: &Doctor, json: bool) -> ExitCode {
    let examined = block_on(async {
        let mut findings = Vec::new();
        app::examine(settings, options.visit(), |finding| findings.push(finding)).await;
        Ok(findings)
    });
    match examined {
        Ok(findings) => report(options, json, &findings),
        Err(error) => ended(Err(error)),
    }
}

fn report(options: &Doctor, json: bool, findings: &[Finding]) -> ExitCode {
    if json {
        println!("{:#}", doctor::document(findings));
    } else {
        let colour = stdout().is_terminal();
        findings.iter().for_each(|finding| println!("{}", doctor::line(finding, colour)));
        println!("{}", doctor::summary(findings));
    }
    if doctor::is_healthy(findings, options.strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn administer(settings: &Settings, command: admin::Command, json: bool) -> anyhow::Result<()> {
    let answer = block_on(admin::run(settings, command))?;
    if json {
        println!("{:#}", answer.json)
    } else {
        println!("{}", answer.text)
    }
    Ok(())
}

fn serve(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    // Before there are threads, again.
    let sockets = Sockets::inherited()?;
    let logs = telemetry::init(&settings.log)?;
    let levels = logs.levels.clone();
    block_on(app::run(settings, sockets, move || reload(&levels, config.as_deref())))
}

/// What may change while the node runs: the levels of the logs.
fn reload(levels: &Levels, config: Option<&Path>) {
    let settings = Settings::load(config).map_err(anyhow::Error::from);
    match settings.and_then(|settings| levels.set(&settings.log)) {
        Ok(()) => info!("Read the settings again: the levels of the logs hold, all else waits for a restart"),
        Err(error) => error!("The settings cannot be read again, so nothing has changed: {error:#}"),
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn ended(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("burble: {error:#}");
            ExitCode::FAILURE
        }
    }
}
