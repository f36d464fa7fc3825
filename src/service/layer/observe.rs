//! Observation of requests: duration, errors, span, and a log line if a request is slow.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tracing::{Instrument, Level, Span};

use crate::rt::clock::{Clock, Instant};
use crate::service::calls::Method;
use crate::service::error::Reply;

use super::metrics::{MethodMetrics, Metrics};
use super::redact::Redact;

/// Requests that take longer than this are logged as slow.
const SLOW: Duration = Duration::from_secs(1);

/// A request in progress. If it is dropped before its response, it was cancelled by its client or ran out of time.
struct InFlight<'a> {
    metrics: &'a MethodMetrics,
    now: &'a (dyn Fn() -> Instant + Send + Sync),
    started: Instant,
    answered: bool,
}

/// A request between [`Observer::begin`] and [`Observer::end`], which are apart from the work between them so that they
/// are compiled once, and not again for every method.
struct Begun<'a> {
    id: u64,
    in_flight: InFlight<'a>,
    span: Span,
}

impl InFlight<'_> {
    /// Marks the request as answered. Returns how long it took.
    fn answered(mut self) -> Duration {
        self.answered = true;
        (self.now)().since(self.started)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.seconds.observe((self.now)().since(self.started).as_secs_f64());
        if !self.answered {
            self.metrics.cancelled.inc();
        }
    }
}

/// The properties of a request that are known before it runs.
pub(crate) struct Subject {
    pub(crate) region: u64,
    /// The request's key, or the first of its keys; may be empty.
    pub(crate) key: Bytes,
}

/// Measures requests, and logs those that fail or are slow. Clones share the state.
#[derive(Clone)]
pub struct Observer {
    pub(crate) metrics: Metrics,
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    redact: Redact,
    ids: Arc<AtomicU64>,
    /// When the last slow request was logged (node clock, in nanoseconds).
    warned_ns: Arc<AtomicU64>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("redact", &self.redact).finish_non_exhaustive()
    }
}

impl Observer {
    /// Creates an observer that records into `metrics` by the node's clock.
    pub fn new(metrics: Metrics, clock: Clock, redact: Redact) -> Observer {
        Observer::by(metrics, move || clock.now(), redact)
    }

    /// Creates an observer that records into `metrics` by `now`.
    pub(crate) fn by(metrics: Metrics, now: impl Fn() -> Instant + Send + Sync + 'static, redact: Redact) -> Observer {
        Observer { metrics, now: Arc::new(now), redact, ids: Arc::new(AtomicU64::new(1)), warned_ns: Arc::default() }
    }

    /// Returns whether another slow request may be logged: one per second, so that a stall does not flood the log.
    fn may_warn(&self) -> bool {
        let now_ns = (self.now)().0;
        let last_ns = self.warned_ns.load(Ordering::Relaxed);
        let due = last_ns == 0 || now_ns >= last_ns + 1_000_000_000;
        due && self.warned_ns.compare_exchange(last_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Runs `work`, which answers a request about `subject`.
    pub(crate) async fn watch<R: Reply>(
        &self,
        method: Method,
        subject: Subject,
        work: Pin<&mut impl Future<Output = Result<R, Status>>>,
    ) -> Result<R, Status> {
        let result = self
            .time(method, &subject, work, |result| match result {
                Ok(reply) => reply.failure().map(|why| (false, why)),
                Err(status) => Some((true, status.message())),
            })
            .await;
        if let Ok(reply) = &result
            && method.is_transactional()
        {
            reply.key_errors(&mut |error| self.metrics.key_error(error));
        }
        result
    }

    /// Runs `work`, which answers a request of a service without region errors.
    pub(crate) async fn call<R>(
        &self,
        method: Method,
        work: impl Future<Output = Result<R, Status>>,
    ) -> Result<tonic::Response<R>, Status> {
        let subject = Subject { region: 0, key: Bytes::new() };
        let work = pin!(work);
        let result =
            self.time(method, &subject, work, |result| result.as_ref().err().map(|s| (true, s.message()))).await;
        result.map(tonic::Response::new)
    }

    async fn time<T>(
        &self,
        method: Method,
        subject: &Subject,
        work: Pin<&mut impl Future<Output = T>>,
        failure: impl Fn(&T) -> Option<(bool, &str)>,
    ) -> T {
        let begun = self.begin(method, subject);
        let result = work.instrument(begun.span.clone()).await;
        self.end(method, subject, begun, failure(&result));
        result
    }

    fn begin(&self, method: Method, subject: &Subject) -> Begun<'_> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let metrics = self.metrics.of(method);
        let in_flight = InFlight { metrics, now: &*self.now, started: (self.now)(), answered: false };
        let span = if tracing::enabled!(Level::DEBUG) {
            let (method, region, key) = (method.name(), subject.region, self.redact.key(&subject.key));
            tracing::debug_span!("request", id, method, region, %key)
        } else {
            Span::none()
        };
        Begun { id, in_flight, span }
    }

    fn end(&self, method: Method, subject: &Subject, begun: Begun<'_>, failure: Option<(bool, &str)>) {
        let Begun { id, in_flight, span } = begun;
        let metrics = in_flight.metrics;
        let took = in_flight.answered();
        if let Some((failed, why)) = failure {
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
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every request is counted once, even one whose caller is gone. Method: futures dropped by hand.

    use futures::FutureExt as _;
    use prometheus::Registry;

    use super::*;

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
