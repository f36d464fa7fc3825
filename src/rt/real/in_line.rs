//! Requests of a connection, tried in the connection's own task before they get tasks of their own.
//!
//! Most requests can be answered at once (a read under a lease, a refusal). A task for each of them costs a wake-up and, since the
//! connection's task then learns of the answers one by one, a write to the socket for each. Here a connection reads all that has
//! come, its requests are polled once, and their answers leave with one write.
//!
//! **In** come the futures that the HTTP/2 library would spawn; **out** they are either done or tasks of the runtime.
//!
//! **Never**: a request that is polled again before it is woken, or lost because its connection ended; a connection whose requests
//! keep others from a core for longer than [`TIME_MAX`] and one request.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long the requests of one look at a connection may take together; those that are left get tasks.
const TIME_MAX: Duration = Duration::from_micros(200);

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

impl InLine {
    /// Polls every new request once; those that wait for something become tasks. Says whether there were any.
    fn serve(&self) -> bool {
        let new = std::mem::take(&mut *self.new.lock().expect("no holder panics"));
        let some = !new.is_empty();
        let mut until = None;
        for mut request in new {
            let now = Instant::now();
            if now < *until.get_or_insert(now + TIME_MAX) {
                // Whoever would wake it finds it a task by then, which is polled at its start in any case.
                if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    continue;
                }
            }
            tokio::spawn(request);
        }
        some
    }
}

/// A connection with its executor.
pub(super) struct Served<C> {
    connection: C,
    requests: InLine,
}

impl<C> Served<C> {
    /// `connection` spawns into `requests`.
    pub(super) fn new(connection: C, requests: InLine) -> Served<C> {
        Served { connection, requests }
    }
}

impl<C: Future + Unpin> Future for Served<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let ended = Pin::new(&mut self.connection).poll(cx);
            let some = self.requests.serve();
            // What they answered leaves with the next look.
            if ended.is_ready() || !some {
                return ended;
            }
        }
    }
}
