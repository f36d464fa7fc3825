//! Requests of a connection, tried in the connection's own task before they get tasks of their own.
//!
//! Most requests can be answered at once (a read under a lease, a refusal). A task for each of them costs a wake-up and, since the
//! connection's task then learns of the answers one by one, a write to the socket for each. Here a connection reads all that has
//! come, its requests are polled once, and their answers leave with one write.
//!
//! **In** come the futures that the HTTP/2 library would spawn; **out** they are either done or tasks of the runtime.
//!
//! **Never**: a request that is lost because its connection ended; a connection that ends because a request panics; a connection whose requests keep others from a thread for longer
//! than [`TURN`] and one request.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long the requests of a connection may take before its answers are sent and others have their turn.
const TURN: Duration = Duration::from_micros(500);

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The executor of one connection: keeps what is new until the connection has read everything.
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
    /// Not polled yet.
    waiting: VecDeque<Request>,
}

impl<C> Served<C> {
    /// `connection` spawns into `requests`.
    pub(super) fn new(connection: C, requests: InLine) -> Served<C> {
        Served { connection, requests, waiting: VecDeque::new() }
    }

    /// Polls new requests once, for a turn; those that wait for something become tasks. Says whether there were any.
    fn serve(&mut self) -> bool {
        self.waiting.extend(self.requests.new.lock().expect("no holder panics").drain(..));
        let some = !self.waiting.is_empty();
        let mut until = None;
        while let Some(mut request) = self.waiting.pop_front() {
            // Whoever would wake it finds it a task by then, which is polled at its start in any case. One that panics ends alone, as
            // a task would; the panic's message is out.
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
        // The library believes that they run.
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
            // What they answer leaves with the next look.
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
    //! Goal: requests that can be answered are, in the connection's task; those that wait become tasks; none is lost. Method: a
    //! connection of our own that asks for what a script says.

    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::rt::Executor as _;

    use super::*;

    /// Asks for so many requests at each look.
    struct Asks {
        looks: VecDeque<Vec<Request>>,
        requests: InLine,
        /// Requests that were done before each look.
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
        assert_eq!(*seen.lock().unwrap(), [0, 2], "two answers with one look");
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
        assert!(seen.lock().unwrap().len() >= 3, "the connection was looked at between");
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
