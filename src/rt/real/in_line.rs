//! Polls the requests of a connection once in the connection's own task, before they get tasks of their own.
//!
//! Most requests can be answered at once (a read under a lease, a rejection). A task for each of them costs a wake-up
//! and, because the connection's task then learns of the responses one by one, a socket write for each response. Here a
//! connection reads everything that has arrived, its requests are polled once, and their responses leave in one write.
//!
//! **In** come the futures that the HTTP/2 library would spawn. **Out**, they are either complete or tasks of the
//! runtime.
//!
//! **Never**: a request that is lost because its connection ended; a connection that ends because a request panics; a
//! connection whose requests occupy a thread for longer than [`TURN`] plus one request.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long the requests of a connection may run before its responses are sent and other connections get their turn.
const TURN: Duration = Duration::from_micros(500);

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The executor of one connection: collects new requests until the connection has read everything.
#[derive(Clone, Default)]
pub(super) struct InLine {
    new: Arc<Mutex<Vec<Request>>>,
}

impl<F> hyper::rt::Executor<F> for InLine
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.new.lock().expect("no holder panics").push(Box::pin(request));
    }
}

/// A connection with its executor.
pub(super) struct Served<C> {
    connection: C,
    requests: InLine,
    /// Requests that have not been polled yet.
    waiting: VecDeque<Request>,
}

impl<C> Served<C> {
    /// Wraps `connection`, which spawns its requests into `requests`.
    pub(super) fn new(connection: C, requests: InLine) -> Served<C> {
        Served { connection, requests, waiting: VecDeque::new() }
    }

    /// Polls new requests once, for at most [`TURN`]; those that are not ready become tasks. Returns whether there were
    /// any.
    fn serve(&mut self) -> bool {
        self.waiting.extend(self.requests.new.lock().expect("no holder panics").drain(..));
        let some = !self.waiting.is_empty();
        let mut until = None;
        while let Some(mut request) = self.waiting.pop_front() {
            // The waker does nothing: a request that is still pending becomes a task, and a new task is polled at least
            // once. A request that panics ends alone, as a task would; the panic's message has been printed.
            let polled = catch_unwind(AssertUnwindSafe(|| {
                request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }));
            if let Ok(true) = polled {
                tokio::spawn(request);
            }
            let now = Instant::now();
            if now >= *until.get_or_insert(now + TURN) {
                break;
            }
        }
        some
    }
}

impl<C> Drop for Served<C> {
    fn drop(&mut self) {
        // The HTTP/2 library believes that these are running.
        self.waiting.extend(self.requests.new.lock().expect("no holder panics").drain(..));
        for request in self.waiting.drain(..) {
            tokio::spawn(request);
        }
    }
}

impl<C: Future + Unpin> Future for Served<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let ended = Pin::new(&mut self.connection).poll(cx);
            // Responses to the requests polled below leave with the next poll of the connection.
            if ended.is_ready() || !self.serve() {
                return ended;
            }
            if !self.waiting.is_empty() {
                let ended = Pin::new(&mut self.connection).poll(cx);
                cx.waker().wake_by_ref();
                return ended;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: requests that can be answered at once are answered in the connection's task; the others become tasks; none
    //! is lost. Method: a fake connection that spawns the requests of a script.

    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::rt::Executor as _;

    use super::*;

    /// A fake connection that spawns the next list of requests at each poll.
    struct Asks {
        looks: VecDeque<Vec<Request>>,
        requests: InLine,
        /// How many requests were complete before each poll.
        seen: Arc<Mutex<Vec<usize>>>,
        done: Arc<AtomicUsize>,
    }

    impl Future for Asks {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            self.seen.lock().unwrap().push(self.done.load(Ordering::SeqCst));
            let Some(look) = self.looks.pop_front() else { return Poll::Ready(()) };
            let ends = look.is_empty();
            look.into_iter().for_each(|request| self.requests.execute(request));
            if ends { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    fn served(looks: Vec<Vec<Request>>, done: &Arc<AtomicUsize>) -> (Served<Asks>, Arc<Mutex<Vec<usize>>>) {
        let (requests, seen) = (InLine::default(), Arc::<Mutex<Vec<usize>>>::default());
        let asks = Asks { looks: looks.into(), requests: requests.clone(), seen: seen.clone(), done: done.clone() };
        (Served::new(asks, requests), seen)
    }

    fn at_once(done: &Arc<AtomicUsize>, takes: Duration) -> Request {
        let done = done.clone();
        Box::pin(async move {
            std::thread::sleep(takes);
            done.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn later(done: &Arc<AtomicUsize>) -> Request {
        let done = done.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[tokio::test]
    async fn what_can_be_answered_is_answered_before_the_connection_is_looked_at_again() {
        let done = Arc::<AtomicUsize>::default();
        let first = vec![at_once(&done, Duration::ZERO), later(&done), at_once(&done, Duration::ZERO)];
        let (served, seen) = served(vec![first], &done);
        served.await;
        assert_eq!(*seen.lock().unwrap(), [0, 2], "two responses after one poll");
        while done.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_request_that_panics_ends_alone() {
        let done = Arc::<AtomicUsize>::default();
        let first: Vec<Request> = vec![Box::pin(async { panic!("as planned") }), at_once(&done, Duration::ZERO)];
        let (served, seen) = served(vec![first], &done);
        served.await;
        assert_eq!(*seen.lock().unwrap(), [0, 1], "the other one is answered");
    }

    #[tokio::test]
    async fn long_requests_give_others_their_turn() {
        let done = Arc::<AtomicUsize>::default();
        let first = (0..4).map(|_| at_once(&done, TURN)).collect();
        let (served, seen) = served(vec![first, vec![later(&done)], vec![later(&done)]], &done);
        served.await;
        assert!(seen.lock().unwrap().len() >= 3, "the connection was polled in between");
        while done.load(Ordering::SeqCst) < 6 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_leaves_its_requests_running() {
        let done = Arc::<AtomicUsize>::default();
        let (served, _) = served(Vec::new(), &done);
        for _ in 0..3 {
            served.requests.execute(at_once(&done, Duration::ZERO));
        }
        drop(served);
        while done.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    }
}
