//! Arguments, settings, logs, and then the node. No logic.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use burble::config::Settings;
use burble::finding::Finding;
use burble::{app, doctor, telemetry};
use clap::{Args, Parser, Subcommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A chat server on Redis Streams: what it acknowledges is never lost, never doubled, never out of order.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The settings file; without it `burble.toml`, where there is one. The environment goes before either.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default).
    Serve,
    /// Check the settings, show what holds, and start nothing.
    CheckConfig {
        /// As one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Check the whole set-up, beside nodes that run, and say what to mend.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Show the version.
    Version,
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
    /// As one JSON document.
    #[arg(long)]
    json: bool,
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
    if let Some(Command::Version) = arguments.command {
        println!("burble {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::load(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            if let Some(Command::Doctor(options)) = &arguments.command {
                return report(options, &doctor::unreadable(&error));
            }
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match arguments.command {
        Some(Command::CheckConfig { json: true }) => {
            println!("{:#}", settings.describe_json());
            ExitCode::SUCCESS
        }
        Some(Command::CheckConfig { json: false }) => {
            print!("{}", settings.describe());
            ExitCode::SUCCESS
        }
        Some(Command::Doctor(options)) => examine(&settings, &options),
        _ => serve(settings),
    }
}

fn examine(settings: &Settings, options: &Doctor) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("burble: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut findings = Vec::new();
    runtime.block_on(app::examine(settings, options.visit(), |finding| findings.push(finding)));
    report(options, &findings)
}

fn report(options: &Doctor, findings: &[Finding]) -> ExitCode {
    if options.json {
        println!("{:#}", doctor::document(findings));
    } else {
        let colour = stdout().is_terminal();
        findings.iter().for_each(|finding| println!("{}", doctor::line(finding, colour)));
        println!("{}", doctor::summary(findings));
    }
    if doctor::is_healthy(findings, options.strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(settings: Settings) -> ExitCode {
    let served = telemetry::init(&settings.log).and_then(|guards| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let served = runtime.block_on(app::run(settings));
        drop(guards);
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("burble: {error:#}");
            ExitCode::FAILURE
        }
    }
}
