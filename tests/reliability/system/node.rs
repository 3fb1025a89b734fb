//! One of the nodes: a Burble that keeps its ports, so that the reverse proxy finds it again, whatever became of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{sleep, timeout};

use super::Impossible;
use super::redis::until;
use crate::support::ports::fixed_port;
use crate::support::setup::Setup;
use crate::support::{Request, TestServer};

/// How often a node that ends instead of listening is started again, as a service manager does.
const STARTS_MAX: usize = 20;
const START_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A node that does not say within this time that it is ready is not.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// What a version says of a setting that it does not know, behind its name.
const UNKNOWN: &str = " (environment): there is no such setting";
/// Where Debian keeps the library that fakes the clock, one folder for each architecture.
const FAKETIME: &str = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1";

/// A node, running or not. It ends with the process.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    setup: Setup,
    /// After an upgrade.
    later: Option<Setup>,
    server: Option<TestServer>,
    /// How far its clock is off, for `libfaketime`.
    clock: PathBuf,
}

impl Node {
    /// Node `number`, with these settings on top of its own; it does not run yet.
    pub(crate) fn new(number: usize, setup: Setup, folder: &Path) -> Self {
        let name = format!("node-{number}");
        let [address, ops] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], fixed_port())));
        let mut setup = setup
            .and("NODE_NAME", &name)
            .and("SERVER_PORT", &address.port().to_string())
            .and("OPS_PORT", &ops.port().to_string());
        setup.log = Some(folder.join(format!("{name}.log")));
        Self { clock: folder.join(format!("{name}.clock")), name, address, ops, setup, later: None, server: None }
    }

    /// A setting for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.setup = self.setup.clone().and(name, value);
    }

    /// From the next start on, it is of a former version, with those of its settings that this one knows.
    pub(crate) async fn begin_as(&mut self, former: &Path) -> Result<()> {
        let mut setup = self.setup.clone();
        setup.binary = former.to_path_buf();
        loop {
            let checked = setup.command(&["check-config"]).output().await?;
            let said = String::from_utf8_lossy(&checked.stderr);
            let unknown: Vec<_> = said.lines().filter_map(|line| line.split_once(UNKNOWN)).collect();
            if unknown.is_empty() {
                ensure!(checked.status.success(), "{} cannot be run with these settings: {said}", former.display());
                break;
            }
            setup = unknown.into_iter().fold(setup, |setup, (name, _)| setup.without(name));
        }
        self.later = Some(std::mem::replace(&mut self.setup, setup));
        Ok(())
    }

    /// From the next start on, it is of this version, with all its settings.
    pub(crate) fn upgrade(&mut self) {
        self.setup = self.later.take().unwrap_or_else(|| self.setup.clone());
    }

    /// From the next start on, its clock is what [`shift_clock`](Self::shift_clock) says. The clock that never goes back
    /// stays as it is, as it does where a real clock is set.
    pub(crate) fn fake_clock(&mut self) -> Result<()> {
        let library = FAKETIME.replace("{}", std::env::consts::ARCH);
        if !Path::new(&library).exists() {
            let why = format!("a faked clock needs {library}; install it with: scripts/need.sh faketime");
            return Err(Impossible(why).into());
        }
        self.shift_clock(0)?;
        let file = self.clock.to_str().context("a plain path")?.to_owned();
        for (name, value) in [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_CACHE_DURATION", "1"),
        ] {
            self.set(name, value);
        }
        Ok(())
    }

    /// How many seconds its clock is fast, or slow, from now on; it takes a second until the node notices.
    pub(crate) fn shift_clock(&self, seconds: i64) -> Result<()> {
        // Renamed into place: the node must not read half of it.
        let new = self.clock.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(&new, &self.clock)?)
    }

    /// Starts it, again if it ends instead of listening, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let mut said = String::new();
        for _ in 0..STARTS_MAX {
            match TestServer::try_launch(self.setup.clone()).await {
                Ok(server) => {
                    self.server = Some(server);
                    return self.until_ready().await;
                }
                Err(ended) => said = ended.output,
            }
            sleep(START_AGAIN_AFTER).await;
        }
        bail!("{} does not start; it says:\n{said}", self.name)
    }

    pub(crate) async fn until_ready(&self) -> Result<()> {
        until(&format!("{} is ready", self.name), async || self.is_ready().await.then_some(())).await
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let asked = timeout(PROBE_MAX, Request::new("GET", "/readyz").elsewhere().try_send(self.ops)).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
    }

    /// Takes it away as a crash does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().with_context(|| format!("{} does not run", self.name))?;
        server.kill().await;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<ExitStatus> {
        let mut server = self.server.take().with_context(|| format!("{} does not run", self.name))?;
        Ok(server.stop().await)
    }

    /// Stops it for as long as it is not thawed: it is there and does nothing, as on a host that stalls.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Undoes [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.running()?.pid())
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.running()?.signal(name);
        Ok(())
    }

    fn running(&self) -> Result<&TestServer> {
        self.server.as_ref().with_context(|| format!("{} does not run", self.name))
    }
}
