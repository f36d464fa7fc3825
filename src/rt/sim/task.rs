//! Tasks on madsim's executor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A spawned task. Awaiting it returns the task's value, or `None` if it was aborted or its node was killed.
#[derive(Debug)]
pub struct JoinHandle<T>(madsim::task::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }
    /// Returns whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
    pub(super) fn wrap(inner: madsim::task::JoinHandle<T>) -> JoinHandle<T> {
        JoinHandle(inner)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Option<T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// Starts a task on the node whose task calls this function.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    JoinHandle(madsim::task::spawn(future))
}

/// Lets other tasks run.
pub async fn yield_now() {
    madsim::task::yield_now().await;
}
