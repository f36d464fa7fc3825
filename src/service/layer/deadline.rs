//! Deadlines that clients send: `grpc-timeout`.
//!
//! A client that has given up does not read the response, so the server stops as well: when the time runs out, the
//! handler (or the stream of responses) is dropped where it waits, and the call ends with DEADLINE_EXCEEDED. The time
//! starts when the request's headers arrive. As gRPC defines it, it bounds the whole call, including a stream until its
//! last message.
//!
//! **A write that was proposed cannot be revoked.** It is in the log, or on its way there, and may be applied later.
//! Its client does not know the outcome, as after a broken connection.
//!
//! A call without the header costs one lookup in its headers. A call with it starts a timer only if it has to wait.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use prometheus::IntCounter;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::rt::clock::{Clock, Instant};

/// The name of the header.
const HEADER: &str = "grpc-timeout";
/// How many digits a timeout may have.
const DIGITS_MAX: usize = 8;

/// Enforces the deadlines of calls. Clones share the state.
#[derive(Clone)]
pub struct Deadlines {
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    sleep: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    exceeded: IntCounter,
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadlines").field("exceeded", &self.exceeded.get()).finish_non_exhaustive()
    }
}

impl Deadlines {
    /// Creates deadlines by the node's clock. `exceeded` counts the calls that ran out of time.
    pub fn new(clock: Clock, exceeded: IntCounter) -> Deadlines {
        let sleeper = clock.clone();
        let sleep = move |duration| -> BoxFuture<'static, ()> {
            let clock = sleeper.clone();
            Box::pin(async move { clock.sleep(duration).await })
        };
        Deadlines::by(move || clock.now(), sleep, exceeded)
    }

    /// Creates deadlines by `now` and `sleep`.
    pub(crate) fn by(
        now: impl Fn() -> Instant + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
        exceeded: IntCounter,
    ) -> Deadlines {
        Deadlines { now: Arc::new(now), sleep: Arc::new(sleep), exceeded }
    }

    /// Wraps `service` so that its calls end at their deadlines.
    pub fn bound<S>(&self, service: S) -> Deadline<S> {
        Deadline { inner: service, deadlines: self.clone() }
    }
}

/// Returns the timeout that a call carries, or `None` if it carries none.
///
/// # Errors
/// Returns INVALID_ARGUMENT, naming the header, unless it is one to eight digits and a unit (`H M S m u n`).
fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let parse = || {
        let (unit, digits) = value.as_bytes().split_last()?;
        if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
        Some(match unit {
            b'H' => Duration::from_secs(number * 3600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        })
    };
    parse().map(Some).ok_or_else(|| {
        let got = String::from_utf8_lossy(value.as_bytes()).into_owned();
        Status::invalid_argument(format!(
            "{HEADER} is {got:?}: give at most {DIGITS_MAX} digits and a unit (H M S m u n)"
        ))
    })
}

/// The deadline of a call. It starts no timer before [`Watch::expired`] is called.
struct Watch {
    deadlines: Deadlines,
    limit: Duration,
    until: Instant,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Watch {
    /// Returns whether the time has run out. If not, the task is woken when it does.
    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let deadlines = &self.deadlines;
        let until = self.until;
        let timer = self.timer.get_or_insert_with(|| (deadlines.sleep)(until.since((deadlines.now)())));
        let expired = timer.as_mut().poll(cx).is_ready();
        if expired {
            self.deadlines.exceeded.inc();
        }
        expired
    }

    fn status(&self) -> Status {
        let limit = self.limit;
        Status::deadline_exceeded(format!("the call's {HEADER} of {limit:?} ran out; a write may still take effect"))
    }
}

/// A service whose calls end at their deadlines. See the head of this file.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    deadlines: Deadlines,
}

impl<S: NamedService> NamedService for Deadline<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Bounded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match timeout_of(request.headers()) {
            Ok(None) => Bounded::Free(self.inner.call(request)),
            Ok(Some(limit)) => {
                let deadlines = self.deadlines.clone();
                let until = (deadlines.now)().plus(limit);
                let watch = Watch { deadlines, limit, until, timer: None };
                Bounded::Timed(Some((self.inner.call(request), watch)))
            }
            Err(status) => Bounded::Refused(Some(status)),
        }
    }
}

/// A call in progress.
pub enum Bounded<F> {
    /// A call without a deadline.
    Free(F),
    /// A call with a deadline. `None` once it has ended.
    #[allow(private_interfaces)] // opaque: only this file creates or reads it
    Timed(Option<(F, Watch)>),
    /// A call with an invalid header.
    Refused(Option<Status>),
}

impl<F> std::fmt::Debug for Bounded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bounded::Free(_) => "Free",
            Bounded::Timed(_) => "Timed",
            Bounded::Refused(_) => "Refused",
        })
    }
}

impl<F> Future for Bounded<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let timed = match self.get_mut() {
            Bounded::Free(inner) => return Pin::new(inner).poll(cx),
            Bounded::Refused(status) => {
                let status = status.take().expect("not polled after the end");
                return Poll::Ready(Ok(status.into_http()));
            }
            Bounded::Timed(timed) => timed,
        };
        let (inner, watch) = timed.as_mut().expect("not polled after the end");
        if let Poll::Ready(answer) = Pin::new(inner).poll(cx) {
            let (_, watch) = timed.take().expect("just seen");
            return Poll::Ready(answer.map(|answer| answer.map(|body| timed_body(body, watch))));
        }
        if watch.expired(cx) {
            // Dropping the handler stops it.
            let (_, watch) = timed.take().expect("just seen");
            return Poll::Ready(Ok(watch.status().into_http()));
        }
        Poll::Pending
    }
}

fn timed_body(body: Body, watch: Watch) -> Body {
    if body.is_end_stream() { body } else { Body::new(TimedBody { inner: Some(body), watch }) }
}

/// A body that ends with DEADLINE_EXCEEDED when the call's time runs out while there is nothing to send.
struct TimedBody {
    /// `None` once the time has run out.
    inner: Option<Body>,
    watch: Watch,
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        // A stream that always has something to send must not outlive its deadline.
        let overdue = this.watch.timer.is_some() && this.watch.expired(cx);
        if !overdue {
            if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            if !this.watch.expired(cx) {
                return Poll::Pending;
            }
        }
        this.inner = None;
        let mut trailers = HeaderMap::new();
        this.watch.status().add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a call ends at its deadline, and not before; a call that does not wait starts no timer. Method: services
    //! that stay pending as long as the test wants, under a clock that the test controls.

    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt;
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use crate::rt::sync::watch as channel;

    use super::*;

    /// A clock that a test controls, and how many timers it started.
    #[derive(Clone)]
    struct ManualClock {
        ms: channel::Sender<u64>,
        timers: Arc<AtomicU64>,
    }

    impl ManualClock {
        fn new() -> (ManualClock, Deadlines) {
            let turned = ManualClock { ms: channel::channel(1).0, timers: Arc::default() };
            let (now, sleeper, timers) = (turned.ms.clone(), turned.ms.clone(), turned.timers.clone());
            let sleep = move |duration: Duration| -> BoxFuture<'static, ()> {
                timers.fetch_add(1, Ordering::Relaxed);
                let mut ms = sleeper.subscribe();
                let until = *ms.borrow() + duration.as_millis() as u64;
                Box::pin(async move {
                    let _ = ms.wait_for(|now| *now >= until).await;
                })
            };
            let counter = IntCounter::new("exceeded", "of a test").unwrap();
            let now = move || Instant(*now.borrow() * 1_000_000);
            (turned, Deadlines::by(now, sleep, counter))
        }
    }

    /// Clears the flag when dropped.
    struct Alive(Arc<Mutex<bool>>);
    impl Drop for Alive {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = false;
        }
    }

    fn request(timeout: Option<&str>) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        if let Some(timeout) = timeout {
            request.headers_mut().insert(HEADER, timeout.parse().unwrap());
        }
        request
    }

    type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn code(answer: &Response<Body>) -> Option<Code> {
        Status::from_header_map(answer.headers()).map(|status| status.code())
    }

    #[test]
    fn the_header_is_read_with_its_unit_and_refused_by_name() {
        let parse = |text: &str| timeout_of(request(Some(text)).headers());
        for (text, ns) in [
            ("2S", 2_000_000_000),
            ("250m", 250_000_000),
            ("99999999n", 99_999_999),
            ("7u", 7_000),
            ("3M", 180_000_000_000),
            ("1H", 3_600_000_000_000),
            ("0m", 0),
        ] {
            assert_eq!(parse(text).unwrap(), Some(Duration::from_nanos(ns)), "{text}");
        }
        assert_eq!(parse("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout_of(request(None).headers()).unwrap(), None);
        for wrong in ["", "S", "7", "-1S", "+1S", "1.5S", "123456789n", "1s", "1 S", "S1"] {
            let status = parse(wrong).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
            assert!(status.message().contains(&format!("grpc-timeout is {wrong:?}")), "{}", status.message());
        }
    }

    #[test]
    fn a_handler_that_waits_is_dropped_when_its_time_is_over() {
        let (clock, deadlines) = ManualClock::new();
        let alive = Arc::new(Mutex::new(true));
        let seen = alive.clone();
        let mut service = deadlines.bound(tower::service_fn(move |_: Request<Body>| -> Answering {
            let alive = Alive(seen.clone());
            Box::pin(async move {
                let _alive = alive;
                std::future::pending().await
            })
        }));
        let mut call = service.call(request(Some("40m")));
        assert!((&mut call).now_or_never().is_none());
        clock.ms.send_modify(|ms| *ms += 39);
        assert!((&mut call).now_or_never().is_none() && *alive.lock().unwrap());
        clock.ms.send_modify(|ms| *ms += 1);
        let answer = (&mut call).now_or_never().expect("the time has run out").unwrap();
        assert_eq!(code(&answer), Some(Code::DeadlineExceeded));
        assert!(!*alive.lock().unwrap(), "the handler still runs");
        assert_eq!((deadlines.exceeded.get(), clock.timers.load(Ordering::Relaxed)), (1, 1));

        let mut free = service.call(request(None));
        clock.ms.send_modify(|ms| *ms += 1_000_000);
        assert!((&mut free).now_or_never().is_none(), "no header, no deadline");
        let refused = service.call(request(Some("soon"))).now_or_never().unwrap().unwrap();
        assert_eq!(code(&refused), Some(Code::InvalidArgument));
    }

    #[test]
    fn what_is_answered_at_once_starts_no_timer() {
        let (clock, deadlines) = ManualClock::new();
        let mut service = deadlines.bound(tower::service_fn(|_: Request<Body>| -> Answering {
            Box::pin(async { Ok(Response::new(Body::new(http_body_util::Full::new(Bytes::from_static(b"v"))))) })
        }));
        let answer = service.call(request(Some("1m"))).now_or_never().unwrap().unwrap();
        let body = answer.into_body().collect().now_or_never().unwrap().unwrap();
        assert_eq!(body.to_bytes(), "v");
        assert_eq!(clock.timers.load(Ordering::Relaxed), 0);
        // A timeout of zero ends as soon as anything waits.
        let mut stuck =
            deadlines.bound(tower::service_fn(|_: Request<Body>| -> Answering { Box::pin(std::future::pending()) }));
        let answer = stuck.call(request(Some("0m"))).now_or_never().unwrap().unwrap();
        assert_eq!(code(&answer), Some(Code::DeadlineExceeded));
    }

    #[test]
    fn a_stream_ends_with_its_time_even_if_it_never_waits() {
        for endless in [false, true] {
            let (clock, deadlines) = ManualClock::new();
            let mut service = deadlines.bound(tower::service_fn(move |_: Request<Body>| -> Answering {
                let first = futures::stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))]);
                let wait = futures::stream::once(async {
                    let mut waited = false;
                    std::future::poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    Ok(Frame::data(Bytes::from_static(b"y")))
                });
                let rest = futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"z"))));
                let body = if endless {
                    Body::new(StreamBody::new(futures::StreamExt::boxed(first.chain_all(wait, rest))))
                } else {
                    let pending = futures::stream::pending();
                    Body::new(StreamBody::new(futures::StreamExt::boxed(futures::StreamExt::chain(first, pending))))
                };
                Box::pin(async move { Ok(Response::new(body)) })
            }));
            let answer = service.call(request(Some("5m"))).now_or_never().unwrap().unwrap();
            assert_eq!(code(&answer), None);
            let mut body = answer.into_body();
            assert_eq!(body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap(), "x");
            assert!(body.frame().now_or_never().is_none());
            clock.ms.send_modify(|ms| *ms += 6);
            let last = body.frame().now_or_never().expect("the time has run out").unwrap().unwrap();
            let trailers = last.into_trailers().expect("trailers");
            assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::DeadlineExceeded, "{endless}");
            assert!(body.frame().now_or_never().unwrap().is_none());
            assert_eq!(deadlines.exceeded.get(), 1);
        }
    }

    /// Chains three streams.
    trait ChainAll: futures::Stream + Sized {
        fn chain_all<A, B>(self, second: A, third: B) -> impl futures::Stream<Item = Self::Item>
        where
            A: futures::Stream<Item = Self::Item>,
            B: futures::Stream<Item = Self::Item>,
        {
            futures::StreamExt::chain(futures::StreamExt::chain(self, second), third)
        }
    }
    impl<S: futures::Stream> ChainAll for S {}
}
