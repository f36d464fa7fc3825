//! Metrics of requests. All handles are created at startup, so a request costs only a few atomic additions.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use crate::proto::kvrpcpb::KeyError;
use crate::service::calls::Method;

#[derive(Clone, Debug)]
pub(super) struct MethodMetrics {
    pub(super) seconds: Histogram,
    pub(super) refused: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) cancelled: IntCounter,
}

/// The services' metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    methods: Arc<[MethodMetrics]>,
    /// How many commands one message of a `BatchCommands` stream has, as received.
    pub(crate) commands_in: Histogram,
    /// How many responses one message of a `BatchCommands` stream has, as sent.
    pub(crate) commands_out: Histogram,
    /// Open `BatchCommands` streams.
    pub(crate) streams: IntGauge,
    /// Bytes of large responses.
    pub(crate) answer_bytes: IntGauge,
    /// Bytes of large requests.
    pub(crate) request_bytes: IntGauge,
    /// JSON queries in progress.
    pub(crate) queries: IntGauge,
    /// Calls whose `grpc-timeout` ran out.
    pub(crate) deadlines_exceeded: IntCounter,
    /// Errors of keys in responses, in the order of [`KEY_ERRORS`].
    key_errors: Arc<[IntCounter]>,
    /// How long transactional requests that write waited for the latches of their keys.
    latch_seconds: Histogram,
}

/// A kind of error of a key: its name, and whether an error is of it.
type KeyErrorKind = (&'static str, fn(&KeyError) -> bool);

/// The kinds of errors of keys. An error is of the first that fits.
const KEY_ERRORS: &[KeyErrorKind] = &[
    ("locked", |error| error.locked.is_some()),
    ("write_conflict", |error| error.conflict.is_some()),
    ("already_exist", |error| error.already_exist.is_some()),
    ("deadlock", |error| error.deadlock.is_some()),
    ("commit_ts_expired", |error| error.commit_ts_expired.is_some()),
    ("commit_ts_too_large", |error| error.commit_ts_too_large.is_some()),
    ("txn_not_found", |error| error.txn_not_found.is_some()),
    ("txn_lock_not_found", |error| error.txn_lock_not_found.is_some()),
    ("assertion_failed", |error| error.assertion_failed.is_some()),
    ("primary_mismatch", |error| error.primary_mismatch.is_some()),
    ("retryable", |error| !error.retryable.is_empty()),
    ("abort", |_| true),
];

impl Metrics {
    /// Creates the metrics and registers them in `registry`.
    ///
    /// # Errors
    /// Fails if the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let gauge = |name, help| register(registry, IntGauge::new(name, help)?);
        let commands =
            HistogramOpts::new("armilla_batch_commands", "Commands in one message of a BatchCommands stream")
                .buckets(exponential_buckets(1.0, 2.0, 9)?);
        let commands = register(registry, HistogramVec::new(commands, &["direction"])?)?;
        let deadlines_exceeded = IntCounter::new(
            "armilla_deadlines_exceeded_total",
            "Calls that ended because their client's timeout (grpc-timeout) ran out",
        )?;
        let latch_seconds = HistogramOpts::new(
            "armilla_txn_latch_wait_seconds",
            "Time that transactional requests that write waited for others that write the same keys, in seconds",
        );
        let latch_seconds = Histogram::with_opts(latch_seconds.buckets(exponential_buckets(10e-6, 2.0, 21)?))?;
        Ok(Metrics {
            methods: methods(registry)?,
            commands_in: commands.with_label_values(&["in"]),
            commands_out: commands.with_label_values(&["out"]),
            streams: gauge("armilla_batch_streams", "Open BatchCommands streams")?,
            answer_bytes: gauge(
                "armilla_answer_bytes",
                "Bytes of large responses being prepared or not yet received by clients",
            )?,
            request_bytes: gauge("armilla_request_bytes", "Bytes of large key-value requests arriving or in progress")?,
            queries: gauge("armilla_queries", "JSON queries in progress, including those waiting for a core")?,
            deadlines_exceeded: register(registry, deadlines_exceeded)?,
            key_errors: key_errors(registry)?,
            latch_seconds: register(registry, latch_seconds)?,
        })
    }

    /// Returns the metrics of a method.
    pub(super) fn of(&self, method: Method) -> &MethodMetrics {
        &self.methods[method as usize]
    }

    /// Returns how many requests of a method there were.
    pub fn count(&self, method: Method) -> u64 {
        self.of(method).seconds.get_sample_count()
    }

    /// Counts an error of a key.
    pub(super) fn key_error(&self, error: &KeyError) {
        let kind = KEY_ERRORS.iter().position(|(_, fits)| fits(error)).expect("the last kind fits");
        self.key_errors[kind].inc();
    }

    /// Returns the histogram of the time that transactional requests waited for latches.
    pub fn latch_seconds(&self) -> Histogram {
        self.latch_seconds.clone()
    }

    /// Returns how many requests of a method were refused, failed or were cancelled.
    pub fn errors(&self, method: Method) -> u64 {
        let m = self.of(method);
        m.refused.get() + m.failed.get() + m.cancelled.get()
    }
}

/// Registers `metric` in `registry` and returns it.
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Creates the counters of errors of keys.
fn key_errors(registry: &Registry) -> prometheus::Result<Arc<[IntCounter]>> {
    let errors = Opts::new("armilla_txn_key_errors_total", "Errors of keys in responses to transactional requests");
    let errors = register(registry, IntCounterVec::new(errors, &["kind"])?)?;
    Ok(KEY_ERRORS.iter().map(|(kind, _)| errors.with_label_values(&[kind])).collect())
}

/// Creates the durations and errors of all methods.
fn methods(registry: &Registry) -> prometheus::Result<Arc<[MethodMetrics]>> {
    // 10 us to 10.5 s, in steps of two.
    let seconds =
        HistogramOpts::new("armilla_request_seconds", "Time from decoding a request to its response, in seconds")
            .buckets(exponential_buckets(10e-6, 2.0, 21)?);
    let seconds = register(registry, HistogramVec::new(seconds, &["method"])?)?;
    let errors = Opts::new(
        "armilla_request_errors_total",
        "Requests that were refused in their response (region error, error text), failed with a gRPC status, or were \
         cancelled by their client before the response",
    );
    let errors = register(registry, IntCounterVec::new(errors, &["method", "how"])?)?;
    let of = |method: &Method| MethodMetrics {
        seconds: seconds.with_label_values(&[method.name()]),
        refused: errors.with_label_values(&[method.name(), "refused"]),
        failed: errors.with_label_values(&[method.name(), "failed"]),
        cancelled: errors.with_label_values(&[method.name(), "cancelled"]),
    };
    Ok(Method::ALL.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    //! Goal: every error of a key is counted under one kind. Method: an error of each kind, some with text beside.
    use super::*;
    use crate::proto::kvrpcpb::{Deadlock, LockInfo, TxnLockNotFound, WriteConflict};

    #[test]
    fn errors_of_keys_are_counted_by_kind() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let text = |text: &str| text.to_owned();
        for error in [
            KeyError { locked: Some(LockInfo::default()), ..KeyError::default() },
            KeyError { conflict: Some(WriteConflict::default()), retryable: text("again"), ..KeyError::default() },
            KeyError { deadlock: Some(Deadlock::default()), ..KeyError::default() },
            KeyError { txn_lock_not_found: Some(TxnLockNotFound::default()), ..KeyError::default() },
            KeyError { retryable: text("again"), ..KeyError::default() },
            KeyError { abort: text("no"), ..KeyError::default() },
            KeyError { abort: text("no"), ..KeyError::default() },
        ] {
            metrics.key_error(&error);
        }
        let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for (kind, count) in [
            ("locked", 1),
            ("write_conflict", 1),
            ("deadlock", 1),
            ("txn_lock_not_found", 1),
            ("retryable", 1),
            ("abort", 2),
            ("assertion_failed", 0),
        ] {
            let line = format!("armilla_txn_key_errors_total{{kind=\"{kind}\"}} {count}\n");
            assert!(page.contains(&line), "{line}{page}");
        }
    }
}
