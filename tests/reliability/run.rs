//! One fault on one set-up: the system is started, put under load, broken, and judged.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::faults::{Fault, Form, Scene, UPGRADE};
use crate::load::checker::{Figures, Outcome};
use crate::load::history::History;
use crate::load::{Load, LoadOptions};
use crate::system::{Impossible, RedisKind, System};

/// Before the first fault: everybody is at work.
const WARM_UP: u64 = 100;
/// After the last fault, in the short form and in the long one: enough that everybody has something new to do, or is told of it, in each channel.
const AFTERWARDS: (u64, u64) = (500, 5_000);
/// No run takes longer, in either form, or it has failed.
const SHORT_MAX: Duration = Duration::from_secs(120);
const FULL_MAX: Duration = Duration::from_secs(20 * 60);
/// How long a client waits for an answer; a node waits three seconds for Redis.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a channel keeps: nothing of a run is ever trimmed.
const RETENTION: &str = "100000000";

/// What is asked of each run.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) form: Form,
    /// Acknowledged at least.
    pub(crate) messages: u64,
    /// A second.
    pub(crate) rate: u32,
    pub(crate) seed: u64,
    /// The binary of a former version, for an upgrade.
    pub(crate) former: Option<&'a Path>,
}

/// What came of a run.
pub(crate) struct Verdict {
    pub(crate) fault: &'static str,
    pub(crate) setup: RedisKind,
    pub(crate) figures: Figures,
    /// How many faults were made.
    pub(crate) made: usize,
    /// What else there is to tell.
    pub(crate) note: Option<String>,
    /// Why it could not be made on this machine.
    pub(crate) impossible: Option<String>,
    /// A sentence for each broken promise, and for what kept the run from its end; none if all is well.
    pub(crate) problems: Vec<String>,
    pub(crate) took: Duration,
    /// Where the logs are; they are kept where something went wrong.
    pub(crate) logs: PathBuf,
}

impl Verdict {
    pub(crate) fn is_kept(&self) -> bool {
        self.problems.is_empty()
    }

    /// How long it took at most after a fault until every client was served with something new; `None` where one never
    /// was, or there was no fault.
    pub(crate) fn served_again_after(&self) -> Option<Duration> {
        let waits: Option<Vec<Duration>> = self.figures.recovered.iter().map(|(_, wait)| *wait).collect();
        waits?.into_iter().max()
    }
}

/// Runs it to its end, whatever that is. What panics on the way has failed, and the next run begins with a new system.
pub(crate) async fn run(fault: &Fault, setup: RedisKind, plan: Plan<'_>, folder: &Path, bar: &ProgressBar) -> Verdict {
    let logs = folder.join(format!("{}-{}", fault.name, setup.name()));
    let _ = std::fs::remove_dir_all(&logs);
    let began = Instant::now();
    let attempt = std::panic::AssertUnwindSafe(attempt(fault, setup, plan, &logs, bar)).catch_unwind();
    let longest = plan.form.choose(SHORT_MAX, FULL_MAX);
    let ended = tokio::time::timeout(longest, attempt).await;
    let (figures, problems) = (Figures::default(), Vec::new());
    let mut verdict = Verdict {
        fault: fault.name,
        setup,
        figures,
        made: 0,
        note: None,
        impossible: None,
        problems,
        took: began.elapsed(),
        logs,
    };
    match ended {
        Ok(Ok(Ok((made, note, outcome)))) => {
            (verdict.made, verdict.note) = (made, note);
            verdict.problems =
                outcome.violations.iter().map(|one| format!("{:?}: {}", one.kind, one.sentence)).collect();
            if fault.unnoticed && !outcome.figures.errors.is_empty() {
                verdict.problems.push(format!("clients were told of errors: {:?}", outcome.figures.errors));
            }
            verdict.figures = outcome.figures;
        }
        Ok(Ok(Err(error))) if error.is::<Impossible>() => verdict.impossible = Some(format!("{error:#}")),
        Ok(Ok(Err(error))) => verdict.problems.push(format!("{error:#}")),
        Ok(Err(panic)) => verdict.problems.push(message(panic.as_ref())),
        Err(_) => verdict.problems.push(format!("the run did not end within {longest:?}")),
    }
    if verdict.is_kept() {
        let _ = std::fs::remove_dir_all(&verdict.logs);
    } else {
        let _ = std::fs::write(verdict.logs.join("problems.txt"), verdict.problems.join("\n"));
    }
    verdict
}

/// How many faults were made, and the judgement of all that was seen.
async fn attempt(
    fault: &Fault,
    setup: RedisKind,
    plan: Plan<'_>,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<(usize, Option<String>, Outcome)> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let name = format!("{}/{}", fault.name, setup.name());
    bar.set_message(format!("{name}: starting"));
    let mut options = (fault.options)(setup);
    options.settings.push(("CHANNEL_RETENTION_MESSAGES", RETENTION.to_owned()));
    options.former = plan.former.filter(|_| fault.name == UPGRADE).map(Path::to_path_buf);
    let system = System::start(setup, options, folder).await?;
    let history = History::new();
    let mut load = LoadOptions { addresses: system.addresses(), rate: plan.rate, ..LoadOptions::default() };
    // Longer than a node waits for Redis, so that its answer is heard.
    load.patience = PATIENCE;
    (fault.load)(&mut load);
    let load = Load::start(load, &history).await;
    bar.set_message(name.clone());
    let acknowledged = load.acknowledged();
    let mut scene =
        Scene { system, load, history, form: plan.form, random: Rng::with_seed(plan.seed), made: 0, note: None };
    let broken = async {
        scene.until_sent(WARM_UP).await?;
        (fault.make)(&mut scene).await?;
        scene.until_sent(plan.form.choose(AFTERWARDS.0, AFTERWARDS.1)).await?;
        let sent = *scene.load.acknowledged().borrow();
        scene.until_sent(plan.messages.saturating_sub(sent)).await
    };
    tokio::select! {
        done = broken => done?,
        () = follow(acknowledged, bar) => {}
    }
    bar.set_message(format!("{name}: judging"));
    // The nodes stay until the clients have read everything back.
    let Scene { load, made, note, system: _system, .. } = scene;
    Ok((made, note, load.finish().await))
}

/// Moves the bar on with what was acknowledged; never ends.
async fn follow(mut acknowledged: watch::Receiver<u64>, bar: &ProgressBar) {
    let begun = bar.position();
    while acknowledged.changed().await.is_ok() {
        bar.set_position(begun + *acknowledged.borrow_and_update());
    }
    std::future::pending().await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a word").to_owned()
}

/// How far all runs are; shown on a terminal only.
pub(crate) fn progress(messages: u64) -> ProgressBar {
    let style = "{elapsed_precise} {bar:30} {human_pos} of {human_len} acknowledged  {msg}";
    let style = ProgressStyle::with_template(style).expect("a template that indicatif knows");
    ProgressBar::new(messages).with_style(style)
}
