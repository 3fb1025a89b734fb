//! What the suite can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

#[derive(Args, Debug)]
pub(crate) struct SuiteArgs {
    /// Smaller loads, one round: a few minutes, for comparisons
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only this part; repeatable
    #[arg(long, value_name = "PART")]
    pub(crate) only: Vec<Part>,
    /// Rounds of each load, of which the medians are taken [default: what each part needs]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Write the report to this file, and its charts into a folder beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The server to start [default: the burble beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) burble: Option<PathBuf>,
    /// Where servers keep their data meanwhile: on a real disk, for some flush to it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// The parts of the suite, in the order in which they run.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// Redis alone: the bare round trip
    Redis,
    /// Short visits
    Cases,
    /// One channel, many listeners
    Fanout,
    /// Small rooms at a fixed rate, and the highest rate that holds
    Rooms,
    /// Latency against load
    Load,
    /// What is acknowledged from memory, and what from the disk
    Durability,
    /// One, two and three nodes on one Redis
    Nodes,
    /// What a quiet session costs
    Idle,
    /// Memory after a peak
    Peak,
    /// All sessions come back after their node died
    Resume,
    /// What a channel more costs
    Channels,
    /// Join and leave where others listen
    Joins,
    /// Paging through history
    History,
    /// From the start until ready
    Start,
}
