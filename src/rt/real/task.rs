//! Tasks on tokio.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A spawned task. Awaiting it returns the task's value, or `None` if it was aborted or panicked.
#[derive(Debug)]
pub struct JoinHandle<T>(tokio::task::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }
    /// Returns whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Option<T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// Starts a task of this node.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match super::thread::outer() {
        Some(runtime) => JoinHandle(runtime.spawn(future)),
        None => JoinHandle(tokio::spawn(future)),
    }
}

/// Lets other tasks run.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}
