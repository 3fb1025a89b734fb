//! Logs and the Prometheus exporter: set up here, written to everywhere. Logs never hold tokens, passwords or the text of
//! messages.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Write, stdout};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, thread};

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat, LogOutput};
use crate::metrics::{METRICS, Metrics};

/// What libraries may say, unless the settings name them. tungstenite tells whole frames when it traces.
const QUIET: &str = "sqlx=warn,sea_orm=warn,sea_orm_migration=warn,hyper=warn,hyper_util=warn,warp=warn,tungstenite=warn,\
                     tokio_tungstenite=warn,rustls=warn";
/// Daily files that are kept; older ones are removed.
const LOG_FILES_MAX: usize = 14;
/// Lines that wait for a slow disk or terminal. Beyond it lines are dropped: no session waits for the log.
const LOG_LINES_MAX: usize = 8_192;
/// How long lines are gathered after the log was written.
const LOG_PAUSE: Duration = Duration::from_millis(10);
/// Between two upkeeps, every sample of a histogram waits in memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The logs of the process. They write the last lines when they are dropped: keep them in `main`.
pub struct Logs {
    /// Changes what they show.
    pub levels: Levels,
    _guards: Vec<WorkerGuard>,
}

/// What the logs show, which may change while they are written. Clones share it.
#[derive(Clone, Default)]
pub struct Levels {
    console: Option<reload::Handle<EnvFilter, Registry>>,
    file: Option<reload::Handle<EnvFilter, Registry>>,
}

impl Levels {
    /// Takes the levels of these settings; all else of them is looked at in the next start.
    ///
    /// # Errors
    /// Where one of them is none: nothing has changed then.
    pub fn set(&self, log: &Log) -> anyhow::Result<()> {
        let (console, file) = (filter(&log.console_level)?, filter(&log.file_level)?);
        for (handle, filter) in [(&self.console, console), (&self.file, file)] {
            if let Some(handle) = handle {
                handle.reload(filter)?;
            }
        }
        Ok(())
    }
}

/// Sets up the logs of the process.
pub fn init(log: &Log) -> anyhow::Result<Logs> {
    let (mut layers, mut guards, mut levels) = (Vec::new(), Vec::new(), Levels::default());
    if log.output != LogOutput::File {
        let (writer, guard) = non_blocking(stdout());
        let (filter, handle) = reload::Layer::new(filter(&log.console_level)?);
        layers.push(layer(log.format, writer, stdout().is_terminal(), filter));
        guards.push(guard);
        levels.console = Some(handle);
    }
    if log.output != LogOutput::Stdout {
        let (writer, guard) = non_blocking(daily_file(&log.file)?);
        let (filter, handle) = reload::Layer::new(filter(&log.file_level)?);
        layers.push(layer(log.format, writer, false, filter));
        guards.push(guard);
        levels.file = Some(handle);
    }
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok(Logs { levels, _guards: guards })
}

fn non_blocking(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let writer = Gathering(BufWriter::new(writer));
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES_MAX).finish(writer)
}

/// Writes a first line at once, and what comes in the pause after it together: on a busy node, a thread that is woken for
/// every line costs more than the line.
struct Gathering<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Called when no further line waits.
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.0.flush();
        thread::sleep(LOG_PAUSE);
        flushed
    }
}

fn layer(
    format: LogFormat,
    to: NonBlocking,
    ansi: bool,
    filter: impl Filter<Registry> + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(ansi);
    match format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    }
}

/// The level that is set, with the libraries kept quiet where it would let them talk.
fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let parse = |text: &str| EnvFilter::builder().parse(text).with_context(|| format!("{level} is no level"));
    let alone = parse(level)?;
    let quiet = alone.max_level_hint().is_some_and(|max| max <= LevelFilter::WARN);
    if quiet { Ok(alone) } else { parse(&format!("{QUIET},{level}")) }
}

/// `logs/server.log` becomes `logs/server.2026-11-23.log`, a new one each day (UTC), and a link to the newest.
fn daily_file(path: &Path) -> anyhow::Result<RollingFileAppender> {
    let text = |part: Option<&OsStr>| part.and_then(OsStr::to_str).map(str::to_owned);
    let name = text(path.file_name()).with_context(|| format!("{} names no file", path.display()))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let builder = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(text(path.file_stem()).unwrap_or_default())
        .filename_suffix(text(path.extension()).unwrap_or_default())
        .max_log_files(LOG_FILES_MAX);
    // The link would replace whatever has its name, a log of somebody's, too.
    let builder = if path.is_symlink() || !path.exists() { builder.latest_symlink(name) } else { builder };
    builder.build(dir).with_context(|| format!("no log can be written to {}", dir.display()))
}

/// What `/metrics` shows of one node: our metrics, and those of the process. Clones share it.
/// It is no global, so that several nodes in one process each have their own.
#[derive(Clone)]
pub struct Exporter {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    metrics: Metrics,
    runtime: Handle,
    /// When the runtime was looked at, and for how long all its workers had been busy until then.
    busy: Mutex<(Instant, Duration)>,
}

impl Exporter {
    /// An exporter, and the handles that record into it.
    pub fn new(runtime: &Handle) -> anyhow::Result<(Self, Metrics)> {
        let recorder = builder()?.build_recorder();
        let metrics = Metrics::new(&recorder);
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let (handle, busy) = (recorder.handle(), Mutex::new((Instant::now(), busy(runtime))));
        let shared = Shared { recorder, handle, process, metrics: metrics.clone(), runtime: runtime.clone(), busy };
        let exporter = Self { shared: Arc::new(shared) };
        exporter.upkeep();
        Ok((exporter, metrics))
    }

    /// The page that Prometheus reads.
    pub async fn render(&self) -> anyhow::Result<String> {
        let exporter = self.clone();
        spawn_blocking(move || exporter.shared.handle.render()).await.map_err(|error| anyhow!(error))
    }

    /// Reads the figures of process and runtime and sorts samples into buckets, every 5 s until `stop`.
    pub async fn keep_up(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
            let exporter = self.clone();
            // Counting the open files of a node with many sessions takes tens of milliseconds.
            if let Err(error) = spawn_blocking(move || exporter.upkeep()).await {
                warn!(%error, "Upkeep of the metrics failed");
            }
        }
    }

    fn upkeep(&self) {
        let Shared { recorder, handle, process, .. } = &*self.shared;
        metrics::with_local_recorder(recorder, || process.collect());
        self.shared.look_at_runtime();
        handle.run_upkeep();
    }
}

impl Shared {
    fn look_at_runtime(&self) {
        let (metrics, runtime) = (&self.metrics, self.runtime.metrics());
        metrics.tokio_workers.set(runtime.num_workers() as f64);
        metrics.tokio_tasks.set(runtime.num_alive_tasks() as f64);
        metrics.tokio_queue.set(runtime.global_queue_depth() as f64);
        let now = (Instant::now(), busy(&self.runtime));
        let before = mem::replace(&mut *self.busy.lock().unwrap_or_else(PoisonError::into_inner), now);
        let available = now.0.duration_since(before.0).as_secs_f64() * runtime.num_workers() as f64;
        let worked = now.1.saturating_sub(before.1).as_secs_f64();
        metrics.tokio_busy_ratio.set(if available > 0.0 { (worked / available).min(1.0) } else { 0.0 });
    }
}

/// For how long the workers of a runtime have been busy, all together.
fn busy(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}

fn builder() -> anyhow::Result<PrometheusBuilder> {
    let histograms = METRICS.iter().filter(|metric| !metric.buckets.is_empty());
    Ok(histograms.into_iter().try_fold(PrometheusBuilder::new(), |builder, metric| {
        builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets)
    })?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tracing::{Level, debug, info};

    use super::*;
    use crate::config::Settings;

    #[tokio::test]
    async fn every_metric_is_there_from_the_start() {
        let (exporter, _metrics) = Exporter::new(&Handle::current()).unwrap();
        let page = exporter.render().await.unwrap();
        for metric in METRICS {
            assert!(page.contains(&format!("# HELP {} {}\n", metric.name, metric.help.trim())), "{}", metric.name);
            assert!(page.lines().any(|line| line.starts_with(metric.name)), "{}", metric.name);
        }
        for line in ["burble_sessions_closed_total{code=\"4403\"} 0", "burble_append_seconds_bucket{le=\"+Inf\"} 0"] {
            assert!(page.lines().any(|it| it == line), "{line}");
        }
        for name in ["process_open_fds ", "process_resident_memory_bytes ", "burble_tokio_workers "] {
            assert!(page.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_recorded_is_shown_by_the_node_it_belongs_to() {
        let (one, metrics) = Exporter::new(&Handle::current()).unwrap();
        let (two, _) = Exporter::new(&Handle::current()).unwrap();
        metrics.sign_ins_total.with(["login", "refused"]).increment(2);
        metrics.http_request_seconds.with(["/channels/{name}", "4xx"]).record(0.004);
        metrics.append_batch_messages.record(3.0);
        let line = "burble_sign_ins_total{method=\"login\",result=\"refused\"} 2";
        let page = one.render().await.unwrap();
        assert!(page.lines().any(|it| it == line), "{page}");
        assert!(page.contains("burble_append_batch_messages_bucket{le=\"4\"} 1\n"), "{page}");
        assert!(page.contains("burble_append_batch_messages_bucket{le=\"2\"} 0\n"), "{page}");
        let request =
            "burble_http_request_seconds_bucket{route=\"/channels/{name}\",status_class=\"4xx\",le=\"0.005\"} 1\n";
        assert!(page.contains(request), "{page}");
        assert!(!two.render().await.unwrap().lines().any(|it| it == line));
    }

    #[test]
    fn a_file_that_was_there_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.log");
        daily_file(&file).unwrap();
        daily_file(&file).unwrap();
        assert!(file.is_symlink());
        fs::remove_file(&file).unwrap();
        fs::write(&file, "old").unwrap();
        daily_file(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let shown = |level: &str| filter(level).unwrap().to_string();
        assert!(shown("debug").contains("sqlx=warn") && shown("debug").contains("debug"));
        assert!(shown("info,sqlx=debug").contains("sqlx=debug") && !shown("info,sqlx=debug").contains("sqlx=warn"));
        assert_eq!(shown("error"), "error");
        assert_eq!(shown("off"), "off");
    }

    #[test]
    fn the_file_has_a_line_of_json_for_each_event_of_its_level() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("logs/server.log");
        let mut log = Settings::from_vars([("LOG_FORMAT", "json"), ("LOG_FILE_LEVEL", "info")]).unwrap().log;
        log.file = file.clone();
        let (writer, guard) = non_blocking(daily_file(&log.file).unwrap());
        let layers = layer(log.format, writer, false, filter(&log.file_level).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layers), || {
            info!(channel = "tea", "Channel created");
            debug!("Not of this level");
            tracing::event!(target: "sqlx", Level::INFO, "Not from libraries");
        });
        drop(guard);
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!((&lines[0]["message"], &lines[0]["channel"]), (&"Channel created".into(), &"tea".into()));
        assert_eq!(lines[0]["level"], "INFO");
    }
}
