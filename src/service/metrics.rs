//! Counts and times of requests. Every handle is made at the start: a request pays for a few atomic additions.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};
use tonic::Status;
use tracing::{Instrument, Level, Span};

use crate::rt::clock::{Clock, Instant};

use super::answers::Answers;
use super::calls::Method;
use super::error::Reply;
use super::intake::quota::Intake;
use super::queries::Queries;
use super::redact::Redact;

/// A request that takes longer than this is logged as slow.
const SLOW: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct MethodMetrics {
    seconds: Histogram,
    refused: IntCounter,
    failed: IntCounter,
    cancelled: IntCounter,
}

/// A request that is being answered; one that is dropped before its answer was cancelled by its client, or ran out of time.
struct Underway<'a> {
    metrics: &'a MethodMetrics,
    now: &'a (dyn Fn() -> Instant + Send + Sync),
    started: Instant,
    answered: bool,
}

impl Underway<'_> {
    /// It is answered; how long that took.
    fn answered(mut self) -> Duration {
        self.answered = true;
        (self.now)().since(self.started)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.metrics.seconds.observe((self.now)().since(self.started).as_secs_f64());
        if !self.answered {
            self.metrics.cancelled.inc();
        }
    }
}

/// The services' metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    methods: Arc<[MethodMetrics]>,
    /// Commands in one message of a `BatchCommands` stream, as received.
    pub(super) commands_in: Histogram,
    /// Commands in one message of a `BatchCommands` stream, as answered.
    pub(super) commands_out: Histogram,
    /// `BatchCommands` streams that are open.
    pub(super) streams: IntGauge,
    /// Memory of answers.
    pub(super) answers: Answers,
    /// Memory of requests.
    pub(super) intake: Intake,
    /// Turns for queries over JSON.
    pub(super) queries: Queries,
    /// Calls whose `grpc-timeout` ran out.
    pub(crate) deadlines_exceeded: IntCounter,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    ///
    /// # Errors
    /// When the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let seconds = HistogramVec::new(
            // 10 us to 10.5 s, in steps of two.
            HistogramOpts::new("armilla_request_seconds", "Time from a request's decoding to its reply, in seconds")
                .buckets(exponential_buckets(10e-6, 2.0, 21)?),
            &["method"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "armilla_request_errors_total",
                "Requests that were refused in their reply (region error, error text), failed with a gRPC status, or were \
                 cancelled by their client before the answer",
            ),
            &["method", "how"],
        )?;
        let commands = HistogramVec::new(
            HistogramOpts::new("armilla_batch_commands", "Commands in one message of a BatchCommands stream")
                .buckets(exponential_buckets(1.0, 2.0, 9)?),
            &["direction"],
        )?;
        let streams = IntGauge::new("armilla_batch_streams", "Open BatchCommands streams")?;
        let answers = IntGauge::new(
            "armilla_answer_bytes",
            "Bytes of large answers that are being read or that clients have not taken yet",
        )?;
        registry.register(Box::new(answers.clone()))?;
        let intake = IntGauge::new(
            "armilla_request_bytes",
            "Bytes of large requests for keys that are arriving or being answered",
        )?;
        registry.register(Box::new(intake.clone()))?;
        let queries =
            IntGauge::new("armilla_queries", "Queries over JSON that are under way, with those that wait for a core")?;
        registry.register(Box::new(queries.clone()))?;
        let deadlines_exceeded = IntCounter::new(
            "armilla_deadlines_exceeded_total",
            "Calls that were given up because the time that their client gave them ran out",
        )?;
        registry.register(Box::new(deadlines_exceeded.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(commands.clone()))?;
        registry.register(Box::new(streams.clone()))?;
        let methods = Method::ALL
            .iter()
            .map(|method| MethodMetrics {
                seconds: seconds.with_label_values(&[method.name()]),
                refused: errors.with_label_values(&[method.name(), "refused"]),
                failed: errors.with_label_values(&[method.name(), "failed"]),
                cancelled: errors.with_label_values(&[method.name(), "cancelled"]),
            })
            .collect();
        Ok(Metrics {
            methods,
            commands_in: commands.with_label_values(&["in"]),
            commands_out: commands.with_label_values(&["out"]),
            streams,
            answers: Answers::new(answers),
            intake: Intake::new(intake),
            queries: Queries::new(queries),
            deadlines_exceeded,
        })
    }

    /// Requests of a method so far.
    pub fn count(&self, method: Method) -> u64 {
        self.methods[method as usize].seconds.get_sample_count()
    }

    /// Requests of a method that did not get what they asked for.
    pub fn errors(&self, method: Method) -> u64 {
        let m = &self.methods[method as usize];
        m.refused.get() + m.failed.get() + m.cancelled.get()
    }
}

/// What is known of a request before it is run.
pub(super) struct Subject {
    pub(super) region: u64,
    /// Its key, or the first of its keys; may be empty.
    pub(super) key: Bytes,
}

/// Measures requests, and logs those that fail or are slow. Clones share it.
#[derive(Clone)]
pub struct Observer {
    pub(super) metrics: Metrics,
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    redact: Redact,
    ids: Arc<AtomicU64>,
    /// When (node clock, ns) the last slow request was logged.
    warned_ns: Arc<AtomicU64>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("redact", &self.redact).finish_non_exhaustive()
    }
}

impl Observer {
    /// Measures into `metrics` by the node's clock.
    pub fn new(metrics: Metrics, clock: Clock, redact: Redact) -> Observer {
        Observer::by(metrics, move || clock.now(), redact)
    }

    /// Measures into `metrics` by whatever `now` says.
    pub(super) fn by(metrics: Metrics, now: impl Fn() -> Instant + Send + Sync + 'static, redact: Redact) -> Observer {
        Observer { metrics, now: Arc::new(now), redact, ids: Arc::new(AtomicU64::new(1)), warned_ns: Arc::default() }
    }

    /// Whether another slow request may be logged: one a second, so that a stall does not fill the log with its victims.
    fn may_warn(&self) -> bool {
        let now_ns = (self.now)().0;
        let last_ns = self.warned_ns.load(Ordering::Relaxed);
        let due = last_ns == 0 || now_ns >= last_ns + 1_000_000_000;
        due && self.warned_ns.compare_exchange(last_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Runs `work`, the answer to a request about `subject`.
    pub(super) async fn watch<R: Reply>(
        &self,
        method: Method,
        subject: Subject,
        work: impl Future<Output = Result<R, Status>>,
    ) -> Result<R, Status> {
        self.time(method, &subject, work, |result| match result {
            Ok(reply) => reply.failure().map(|why| (false, why)),
            Err(status) => Some((true, status.message())),
        })
        .await
    }

    /// Runs `work`, the answer to a request of a service without region errors.
    pub(super) async fn call<R>(
        &self,
        method: Method,
        work: impl Future<Output = Result<R, Status>>,
    ) -> Result<tonic::Response<R>, Status> {
        let subject = Subject { region: 0, key: Bytes::new() };
        let result =
            self.time(method, &subject, work, |result| result.as_ref().err().map(|s| (true, s.message()))).await;
        result.map(tonic::Response::new)
    }

    async fn time<T>(
        &self,
        method: Method,
        subject: &Subject,
        work: impl Future<Output = T>,
        failure: impl Fn(&T) -> Option<(bool, &str)>,
    ) -> T {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let metrics = &self.metrics.methods[method as usize];
        let underway = Underway { metrics, now: &*self.now, started: (self.now)(), answered: false };
        let span = if tracing::enabled!(Level::DEBUG) {
            let (method, region, key) = (method.name(), subject.region, self.redact.key(&subject.key));
            tracing::debug_span!("request", id, method, region, %key)
        } else {
            Span::none()
        };
        let result = work.instrument(span.clone()).await;
        let took = underway.answered();
        if let Some((failed, why)) = failure(&result) {
            if failed {
                metrics.failed.inc()
            } else {
                metrics.refused.inc()
            }
            tracing::debug!(parent: &span, id, method = method.name(), why, "request refused");
        }
        if took >= SLOW && self.may_warn() {
            let key = self.redact.key(&subject.key);
            tracing::warn!(id, method = method.name(), region = subject.region, %key, ?took, "slow request");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every request is counted once, also one that nobody waits for any more. Method: futures dropped by hand.

    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_cancelled_request_is_counted() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let observer = Observer::by(metrics.clone(), || Instant(1), Redact::Show);
        let mut waits = Box::pin(observer.call(Method::Overview, std::future::pending::<Result<(), Status>>()));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!((metrics.count(Method::Overview), metrics.errors(Method::Overview)), (0, 0));
        drop(waits);
        assert_eq!((metrics.count(Method::Overview), metrics.errors(Method::Overview)), (1, 1));
        observer.call(Method::Overview, std::future::ready(Ok(()))).now_or_never().unwrap().unwrap();
        assert_eq!((metrics.count(Method::Overview), metrics.errors(Method::Overview)), (2, 1));
    }
}
