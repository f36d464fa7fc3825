//! Dedicated threads.

use std::cell::RefCell;
use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::task;
use crate::rt::task::JoinHandle;

thread_local! {
    /// On a lane: the runtime that the lane's own spawns go to, so that their work never waits for the lane's files.
    static OUTER: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Ends the process when a lane unwinds; the panic's message is out by then.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Whether this thread is a lane, where file calls run in place instead of on the blocking pool.
pub(super) fn on_lane() -> bool {
    OUTER.with_borrow(Option::is_some)
}

/// The runtime that tasks spawned on this lane belong to; nothing when this thread is no lane.
pub(super) fn outer() -> Option<Handle> {
    OUTER.with_borrow(Clone::clone)
}

/// Drives `future` on a thread of its own called `name`. Dropping the handle leaves it running; when `future` must end,
/// tell it so through a channel.
///
/// A lane that panics ends the process: what it owned (a store's groups) would be gone while the port still answers.
///
/// # Panics
/// If the operating system gives no thread.
pub fn spawn<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (done, ended) = oneshot::channel();
    let outer = Handle::current();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            OUTER.set(Some(outer));
            let _guard = AbortOnPanic;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a current-thread runtime needs nothing that can run out");
            let value = runtime.block_on(future);
            let _ = done.send(value);
        })
        .expect("the operating system gives a thread");
    task::spawn(async move { ended.await.expect("the lane did not panic") })
}
