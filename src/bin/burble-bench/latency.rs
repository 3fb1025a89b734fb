//! Latencies: recorded by many tasks, summed up in one histogram.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart, in nanoseconds; what takes longer counts as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Below this, in nanoseconds, values are rounded.
const LATENCY_NS_MIN: u64 = 100;
/// Values a recorder keeps before it takes the lock. More would cost memory for each of thousands of listeners.
const PENDING_MAX: usize = 128;

/// A distribution that several recorders feed.
#[derive(Clone)]
pub(crate) struct Latency {
    histogram: Arc<Mutex<Histogram<u64>>>,
}

/// The percentiles of a distribution, in milliseconds.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Self { histogram: Arc::new(Mutex::new(histogram)) }
    }

    /// Records into it, for one task.
    pub(crate) fn recorder(&self) -> Recorder {
        Recorder { latency: self.clone(), pending: Vec::new() }
    }

    /// What was recorded by recorders that are gone or were flushed.
    pub(crate) fn summary(&self) -> Summary {
        let histogram = self.histogram.lock().expect("nothing panics while recording");
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        Summary {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of nanoseconds are 104 days")]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A task's own way into a distribution; hands over what it has when dropped.
pub(crate) struct Recorder {
    latency: Latency,
    pending: Vec<u64>,
}

impl Recorder {
    /// Records nanoseconds.
    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.pending.push(ns);
        if self.pending.len() >= PENDING_MAX {
            self.flush();
        }
    }

    /// Records a time span.
    pub(crate) fn record(&mut self, span: Duration) {
        self.record_ns(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    fn flush(&mut self) {
        let mut histogram = self.latency.histogram.lock().expect("nothing panics while recording");
        for ns in self.pending.drain(..) {
            histogram.saturating_record(ns);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorders_meet_in_one_summary() {
        let latency = Latency::new();
        for _ in 0..2 {
            let mut recorder = latency.recorder();
            for value in 1..=500 {
                recorder.record(Duration::from_micros(value * 10));
            }
        }
        let summary = latency.summary();
        assert_eq!(summary.count, 1000);
        assert!((summary.p50_ms - 2.5).abs() < 0.02, "{summary:?}");
        assert!((summary.max_ms - 5.0).abs() < 0.02, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Latency::new().summary().count, 0);
    }
}
