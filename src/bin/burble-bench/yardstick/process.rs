//! The yardstick as a process of its own, so that its CPU and memory can be told from the load tool's.

use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::{Mode, NamedPid};
use crate::http::Target;

/// A running yardstick; it ends when dropped, or with the load tool, whichever comes first.
pub(crate) struct Yardstick {
    pub(crate) target: Target,
    pub(crate) process: NamedPid,
    _child: Child,
}

impl Yardstick {
    /// Starts one and waits until it listens.
    pub(crate) async fn start(mode: Mode) -> Result<Self> {
        let program = std::env::current_exe().context("the load tool cannot find itself")?;
        let mut child = Command::new(program)
            .args(["yardstick-serve", "--mode", mode.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the yardstick does not start")?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address).await?;
        let target = Target::resolve(&format!("http://{}", address.trim())).await.context("the yardstick died")?;
        let pid = child.id().context("the yardstick died")?;
        Ok(Self { target, process: NamedPid { name: "yardstick".to_owned(), pid }, _child: child })
    }
}
