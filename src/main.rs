//! Arguments, settings, logs, and then the node. No logic.

use std::path::PathBuf;
use std::process::ExitCode;

use burble::config::Settings;
use burble::{app, telemetry};
use clap::{Parser, Subcommand};

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
    /// Show the version.
    Version,
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
        _ => serve(settings),
    }
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
