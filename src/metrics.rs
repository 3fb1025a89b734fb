//! Every metric, once: its name, help and labels stand in one table, from which come the handles that record, the
//! documentation and the tests. No user, channel or session is ever a label.

use std::fmt::{self, Write};
use std::ops::Deref;
use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, NoopRecorder, Recorder, Unit};

use crate::error::CODES;

/// The names and values of a label.
pub type LabelValues = (&'static str, &'static [&'static str]);

const METADATA: Metadata<'_> = Metadata::new("burble", Level::INFO, None);

/// What happens within one round trip: from a tenth of a millisecond.
const FAST_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// What takes a database or a password hash.
const SLOW_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Up to a minute: a node that was cut off reads on where it was.
const FEED_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Up to what one call of the script carries.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const CLOSE_CODES: &[&str] = &[
    "1000", "1001", "1002", "1007", "1009", "1012", "1013", "4000", "4003", "4008", "4400", "4401", "4403", "4406",
    "gone",
];
const OPS: &[&str] = &["auth", "join", "resume", "leave", "send", "history", "typing", "ping"];
const ERROR_CODES: &[&str] = &{
    let mut names = [""; CODES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CODES[at].name;
        at += 1;
    }
    names
};
const ROUTES: &[&str] = &[
    "/signup",
    "/login",
    "/refresh",
    "/logout",
    "/me",
    "/me/password",
    "/channels",
    "/channels/{name}",
    "/channels/{name}/members",
    "/channels/{name}/members/{user}",
    "/channels/{name}/messages",
    "/ws",
    "/address",
    "/openapi.json",
    "/asyncapi.json",
    "other",
];
const STATUS_CLASSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why something was turned away; most have a `LIMIT_…` of their own.
const REFUSALS: &[&str] = &[
    "origin",
    "connections",
    "address",
    "unsigned",
    "upgrades",
    "bodies",
    "sessions",
    "joins",
    "rate",
    "user_bytes",
    "user_rate",
    "sign_in",
    "sign_up",
    "passwords",
];

/// A row of the table.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The upper ends of a histogram's buckets; empty for the others.
    pub buckets: &'static [f64],
    /// The labels, with all their values: there are no others.
    pub labels: &'static [LabelValues],
}

/// What can be done with a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sorts values into buckets.
    Histogram,
}

impl MetricKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The unit, which the name ends with.
    pub fn unit(&self) -> Unit {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        match name.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }

    fn describe(&self, recorder: &dyn Recorder) {
        let (name, unit, help) = (KeyName::from_const_str(self.name), Some(self.unit()), self.help.trim().into());
        match self.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, help),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
            MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}

/// What records into one series.
trait Instrument: Sized {
    const KIND: MetricKind;
    fn register(recorder: &dyn Recorder, key: &Key) -> Self;
    fn noop() -> Self;
}

macro_rules! instrument {
    ($name:ident, $register:ident) => {
        impl Instrument for $name {
            const KIND: MetricKind = MetricKind::$name;

            fn register(recorder: &dyn Recorder, key: &Key) -> Self {
                recorder.$register(key, &METADATA)
            }

            fn noop() -> Self {
                $name::noop()
            }
        }
    };
}

instrument!(Counter, register_counter);
instrument!(Gauge, register_gauge);
instrument!(Histogram, register_histogram);

/// A metric of the table, made into what records it.
trait Handle: Sized {
    const KIND: MetricKind;
    fn create(recorder: &dyn Recorder, metric: &'static Metric) -> Self;
}

impl<I: Instrument> Handle for I {
    const KIND: MetricKind = I::KIND;

    fn create(recorder: &dyn Recorder, metric: &'static Metric) -> Self {
        I::register(recorder, &Key::from_static_name(metric.name))
    }
}

/// A metric with `N` labels: one handle for each combination of their values, all made at start.
pub struct Family<H, const N: usize> {
    labels: &'static [LabelValues],
    handles: Vec<H>,
    unlisted: H,
}

impl<H, const N: usize> Family<H, N> {
    /// The handle for these values, in the order of the labels. A value that is not in the table records nothing.
    pub fn with(&self, values: [&str; N]) -> &H {
        let index = self.labels.iter().zip(values).try_fold(0, |index, ((_, known), value)| {
            Some(index * known.len() + known.iter().position(|it| *it == value)?)
        });
        debug_assert!(index.is_some(), "{values:?} is not in the table of metrics");
        index.and_then(|index| self.handles.get(index)).unwrap_or(&self.unlisted)
    }
}

impl<I: Instrument, const N: usize> Handle for Family<I, N> {
    const KIND: MetricKind = I::KIND;

    fn create(recorder: &dyn Recorder, metric: &'static Metric) -> Self {
        let register = |labels| I::register(recorder, &Key::from_parts(metric.name, labels));
        let handles = combinations(metric.labels).into_iter().map(register).collect();
        Self { labels: metric.labels, handles, unlisted: I::noop() }
    }
}

/// All combinations of label values; the last label changes fastest.
fn combinations(labels: &[LabelValues]) -> Vec<Vec<Label>> {
    let mut all = vec![Vec::new()];
    for (name, values) in labels {
        let with = |former: &Vec<Label>, value| {
            former.iter().cloned().chain([Label::from_static_parts(name, value)]).collect()
        };
        all = all.iter().flat_map(|former| values.iter().map(move |value| with(former, value))).collect();
    }
    all
}

/// One of those that a gauge counts, until it is dropped.
pub struct Waiting<'a>(&'a Gauge);

impl<'a> Waiting<'a> {
    /// Counts one more.
    pub fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The class of a status, as `http_request_seconds` names it.
pub fn status_class(status: StatusCode) -> &'static str {
    STATUS_CLASSES[usize::from((status.as_u16() / 100).clamp(1, 5)) - 1]
}

/// The handles of a node. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Instruments>,
}

impl Metrics {
    /// Describes all metrics and makes every series, at 0.
    pub fn new(recorder: &dyn Recorder) -> Self {
        METRICS.iter().for_each(|metric| metric.describe(recorder));
        let metrics = Self { shared: Arc::new(Instruments::create(recorder)) };
        metrics.build_info.with([env!("CARGO_PKG_VERSION")]).set(1.0);
        metrics
    }

    /// Handles that record nothing, for tests.
    pub fn unobserved() -> Self {
        Self::new(&NoopRecorder)
    }
}

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.shared
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $handle:ty, $buckets:expr, [$($label:literal => $values:expr),*];)*) => {
        /// What records, a field a metric; the field is the name without `burble_`.
        pub struct Instruments { $($(#[doc = $help])+ pub $name: $handle,)* }

        /// Every metric of our own, in the order of the documentation.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: concat!("burble_", stringify!($name)),
            help: concat!($($help),+),
            kind: <$handle as Handle>::KIND,
            buckets: $buckets,
            labels: &[$(($label, $values)),*],
        }),*];

        impl Instruments {
            fn create(recorder: &dyn Recorder) -> Self {
                let mut rows = METRICS.iter();
                Self { $($name: <$handle as Handle>::create(recorder, rows.next().expect("a row for each field")),)* }
            }
        }
    };
}

metrics! {
    /// Always 1; the label is the version that runs.
    build_info: Family<Gauge, 1>, &[], ["version" => &[env!("CARGO_PKG_VERSION")]];
    /// 1 from the moment the node is told to stop.
    draining: Gauge, &[], [];

    /// Sessions that are open.
    sessions_open: Gauge, &[], [];
    /// Sessions that were opened.
    sessions_opened_total: Counter, &[], [];
    /// Sessions that ended, by close code; `gone` ended without one.
    sessions_closed_total: Family<Counter, 1>, &[], ["code" => CLOSE_CODES];
    /// From the upgrade request to `welcome`.
    session_establishment_seconds: Histogram, SLOW_SECONDS, [];
    /// From reading a command to its answer.
    command_seconds: Family<Histogram, 1>, FAST_SECONDS, ["op" => OPS];
    /// Commands that were answered by an error.
    command_errors_total: Family<Counter, 1>, &[], ["code" => ERROR_CODES];
    /// From an HTTP request to its answer.
    http_request_seconds: Family<Histogram, 2>, SLOW_SECONDS, ["route" => ROUTES, "status_class" => STATUS_CLASSES];
    /// What was turned away, by the limit or rule that it met.
    refused_total: Family<Counter, 1>, &[], ["reason" => REFUSALS];
    /// Sessions that wait for their turn to be given what they missed.
    replays_waiting: Gauge, &[], [];

    /// From queueing a message or notice to its answer, at the durability that is set.
    append_seconds: Histogram, FAST_SECONDS, [];
    /// Messages and notices that one call of the append script carried.
    append_batch_messages: Histogram, BATCH, [];
    /// Messages and notices that were not acknowledged.
    append_failures_total: Family<Counter, 1>, &[], ["kind" => &["unavailable", "outcome_unknown"]];
    /// Messages that this node put into the log.
    messages_appended_total: Counter, &[], [];
    /// Messages that were already in the log under their `cid`.
    messages_duplicate_total: Counter, &[], [];

    /// From the append of a message, by Redis's clock, to its write to a socket.
    delivery_seconds: Histogram, FAST_SECONDS, [];
    /// Messages written to sockets, once for each session.
    deliveries_total: Counter, &[], [];
    /// Typing notices that were not sent to a session that was behind.
    typing_dropped_total: Counter, &[], [];

    /// How old the oldest entry was that a read of a feed brought, by Redis's clock; not of what a node heard of by its answer.
    feed_lag_seconds: Histogram, FEED_SECONDS, [];
    /// Messages and notices heard from the feeds: read, or written by this node itself.
    feed_entries_read_total: Counter, &[], [];
    /// Entries in the longest feed, each of what was written at once.
    feed_entries: Gauge, &[], [];
    /// The most entries that a feed keeps; what a node has not read by then it has missed.
    feed_entries_max: Gauge, &[], [];
    /// Messages and notices that this node has not read yet, in the feed where it is furthest behind.
    feed_unread_entries: Gauge, &[], [];
    /// Connections to the feeds that were made anew.
    feed_reconnects_total: Counter, &[], [];
    /// Missed parts of a feed, after which all that they concern was read anew.
    feed_refills_total: Counter, &[], [];

    /// Joins that replayed what was missed: from the ring in memory or from the log.
    replays_total: Family<Counter, 1>, &[], ["source" => &["ring", "log"]];
    /// Gaps that sessions were told of.
    gaps_total: Family<Counter, 1>, &[], ["reason" => &["trimmed", "epoch_changed", "rolled_back"]];
    /// Pages of history read from Redis.
    page_reads_total: Counter, &[], [];
    /// Pages of history that were cached, or shared with a read under way.
    page_hits_total: Counter, &[], [];
    /// Reads that the ring of the channel could serve.
    ring_hits_total: Counter, &[], [];
    /// Reads that lay before the ring of the channel.
    ring_misses_total: Counter, &[], [];
    /// Channels with a listener on this node.
    rooms: Gauge, &[], [];
    /// What all rings hold.
    ring_bytes: Gauge, &[], [];

    /// Attempts to sign in.
    sign_ins_total: Family<Counter, 2>, &[],
        ["method" => &["signup", "login", "refresh", "token"], "result" => &["ok", "refused"]];
    /// Threads that hash passwords.
    password_threads: Gauge, &[], [];
    /// Sign-ins and sign-ups that wait for a password thread.
    password_queue: Gauge, &[], [];
    /// One password hash, without the wait.
    password_seconds: Histogram, SLOW_SECONDS, [];
    /// Questions about members that the cache answered.
    membership_cache_hits_total: Counter, &[], [];
    /// Questions about members that went to the database.
    membership_cache_misses_total: Counter, &[], [];

    /// Whether an entry through each feed came back in time: 1 or 0. Looked at every 5 s.
    redis_up: Gauge, &[], [];
    /// Whether the last write, rewrite and snapshot of Redis went well: 1 or 0.
    redis_writes_ok: Gauge, &[], [];
    /// Memory that Redis uses; on a Cluster, the primary that has the least left.
    redis_memory_used_bytes: Gauge, &[], [];
    /// Memory that this Redis may use: `maxmemory`, or what the machine has.
    redis_memory_max_bytes: Gauge, &[], [];
    /// Times that the embedded Redis was started again.
    embedded_redis_restarts_total: Counter, &[], [];

    /// Whether the database answers within a second: 1 or 0. Looked at every 5 s.
    database_up: Gauge, &[], [];
    /// A question to the database that needs no table, with the wait for a connection.
    database_ping_seconds: Histogram, SLOW_SECONDS, [];
    /// Connections to the database.
    database_connections: Family<Gauge, 1>, &[], ["state" => &["busy", "idle"]];

    /// Threads of the runtime on which all sessions run.
    tokio_workers: Gauge, &[], [];
    /// The part of their time in which these threads had work, over the last 5 s: from 0 to 1.
    tokio_busy_ratio: Gauge, &[], [];
    /// Tasks that live.
    tokio_tasks: Gauge, &[], [];
    /// Tasks that wait in the queue that all threads share.
    tokio_queue: Gauge, &[], [];
}

/// All metrics as a Markdown table.
pub fn metrics_markdown() -> String {
    let mut text = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let label = |(name, values): &LabelValues| match *name {
            "version" => format!("`{name}`"),
            _ => format!("`{name}`: {}", values.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(" ")),
        };
        let labels = metric.labels.iter().map(label).collect::<Vec<_>>().join("; ");
        let _ = writeln!(text, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind.as_str(), metric.help.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_well_formed_and_unique() {
        let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        let mut names = HashSet::new();
        for metric in METRICS {
            assert!(metric.name.starts_with("burble_") && metric.name.split('_').all(word), "{}", metric.name);
            assert!(names.insert(metric.name), "{} twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
            assert!(!["_count", "_sum", "_bucket"].iter().any(|end| metric.name.ends_with(end)), "{}", metric.name);
            assert_eq!(metric.buckets.is_empty(), metric.kind != MetricKind::Histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            assert!(metric.help.trim().ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn labels_are_few_and_known() {
        for metric in METRICS {
            assert!(combinations(metric.labels).len() <= 80, "{}", metric.name);
            for (name, values) in metric.labels {
                let unique: HashSet<_> = values.iter().collect();
                assert!(!values.is_empty() && unique.len() == values.len(), "{} {name}", metric.name);
            }
        }
    }

    #[test]
    fn a_status_has_a_class() {
        assert_eq!(status_class(StatusCode::SWITCHING_PROTOCOLS), "1xx");
        assert_eq!(status_class(StatusCode::NOT_FOUND), "4xx");
        assert_eq!(status_class(StatusCode::from_u16(999).unwrap()), "5xx");
    }

    #[test]
    fn the_documentation_names_every_metric() {
        assert!(METRICS.iter().all(|metric| metrics_markdown().contains(&format!("| `{}` |", metric.name))));
    }
}
