//! What is counted of requests. Every handle is made at the start: a request pays for a few atomic additions.

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
    /// Commands in one message of a `BatchCommands` stream, as received.
    pub(crate) commands_in: Histogram,
    /// Commands in one message of a `BatchCommands` stream, as answered.
    pub(crate) commands_out: Histogram,
    /// `BatchCommands` streams that are open.
    pub(crate) streams: IntGauge,
    /// Memory of large answers.
    pub(crate) answer_bytes: IntGauge,
    /// Memory of large requests.
    pub(crate) request_bytes: IntGauge,
    /// Queries over JSON under way.
    pub(crate) queries: IntGauge,
    /// Calls whose `grpc-timeout` ran out.
    pub(crate) deadlines_exceeded: IntCounter,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    ///
    /// # Errors
    /// When the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let gauge = |name, help| register(registry, IntGauge::new(name, help)?);
        let commands =
            HistogramOpts::new("armilla_batch_commands", "Commands in one message of a BatchCommands stream")
                .buckets(exponential_buckets(1.0, 2.0, 9)?);
        let commands = register(registry, HistogramVec::new(commands, &["direction"])?)?;
        let deadlines_exceeded = IntCounter::new(
            "armilla_deadlines_exceeded_total",
            "Calls that were given up because the time that their client gave them ran out",
        )?;
        Ok(Metrics {
            methods: methods(registry)?,
            commands_in: commands.with_label_values(&["in"]),
            commands_out: commands.with_label_values(&["out"]),
            streams: gauge("armilla_batch_streams", "Open BatchCommands streams")?,
            answer_bytes: gauge(
                "armilla_answer_bytes",
                "Bytes of large answers that are being read or that clients have not taken yet",
            )?,
            request_bytes: gauge(
                "armilla_request_bytes",
                "Bytes of large requests for keys that are arriving or being answered",
            )?,
            queries: gauge("armilla_queries", "Queries over JSON that are under way, with those that wait for a core")?,
            deadlines_exceeded: register(registry, deadlines_exceeded)?,
        })
    }

    /// What is counted of a method.
    pub(super) fn of(&self, method: Method) -> &MethodMetrics {
        &self.methods[method as usize]
    }

    /// Requests of a method so far.
    pub fn count(&self, method: Method) -> u64 {
        self.of(method).seconds.get_sample_count()
    }

    /// Requests of a method that did not get what they asked for.
    pub fn errors(&self, method: Method) -> u64 {
        let m = self.of(method);
        m.refused.get() + m.failed.get() + m.cancelled.get()
    }
}

/// Puts `metric` into `registry` and returns it.
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Times and errors, by method.
fn methods(registry: &Registry) -> prometheus::Result<Arc<[MethodMetrics]>> {
    // 10 us to 10.5 s, in steps of two.
    let seconds =
        HistogramOpts::new("armilla_request_seconds", "Time from a request's decoding to its reply, in seconds")
            .buckets(exponential_buckets(10e-6, 2.0, 21)?);
    let seconds = register(registry, HistogramVec::new(seconds, &["method"])?)?;
    let errors = Opts::new(
        "armilla_request_errors_total",
        "Requests that were refused in their reply (region error, error text), failed with a gRPC status, or were \
         cancelled by their client before the answer",
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
