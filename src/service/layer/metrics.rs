//! Metrics of requests. All handles are created at startup, so a request costs only a few atomic additions.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

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
}

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
