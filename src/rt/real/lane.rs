//! Dedicated threads.

use std::cell::Cell;
use std::future::Future;

use tokio::sync::oneshot;

use super::task;
use crate::rt::task::JoinHandle;

thread_local! {
    static ON_LANE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a lane, where file calls run in place instead of on the blocking pool.
pub(super) fn on_lane() -> bool {
    ON_LANE.get()
}

/// Drives `future` on a thread of its own called `name`. Dropping the handle leaves it running; when `future` must end,
/// tell it so through a channel.
///
/// # Panics
/// If the operating system gives no thread.
pub fn spawn<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (done, ended) = oneshot::channel();
    let outer = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            ON_LANE.set(true);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a current-thread runtime needs nothing that can run out");
            let value = runtime.block_on(future);
            let _ = done.send(value);
            drop(outer);
        })
        .expect("the operating system gives a thread");
    task::spawn(async move { ended.await.expect("the lane did not panic") })
}
