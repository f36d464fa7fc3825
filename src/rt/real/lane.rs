//! Dedicated threads.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{task, thread};
use crate::rt::task::JoinHandle;

/// Aborts the process when a lane's thread unwinds; the panic's message has been printed by then.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Drives `future` on a thread of its own called `name`. Dropping the handle leaves it running; to end `future`, signal
/// it through a channel.
///
/// A lane that panics ends the process: what it owned (a store's groups) would be gone while the port still accepts
/// requests.
///
/// # Panics
/// If the operating system cannot create a thread.
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
            thread::become_lane(outer);
            let _guard = AbortOnPanic;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a current-thread runtime can be built");
            let value = runtime.block_on(future);
            let _ = done.send(value);
        })
        .expect("the operating system creates a thread");
    task::spawn(async move { ended.await.expect("the lane did not panic") })
}
