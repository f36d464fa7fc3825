//! Here a lane is an ordinary task: there is one thread, and the simulator owns it. A lane that makes a blocking call
//! does nothing else for as long as the call takes, like its thread in the real world.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::queue::Timer;
use super::task::{self, JoinHandle};
use super::world;

/// Drives `future` as a task of this node; `_name` names the thread in the real world.
pub fn spawn<F>(_name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    task::spawn(Lane { future: Box::pin(future), blocked: None })
}

/// A future that does not go on while a blocking call of its own takes its time.
struct Lane<F> {
    future: Pin<Box<F>>,
    /// Until the call returns.
    blocked: Option<Timer>,
}

impl<F: Future> Future for Lane<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            if let Some(timer) = &mut self.blocked {
                ready!(Pin::new(timer).poll(cx));
                self.blocked = None;
            }
            let Some((world, node)) = world::current_node() else { return self.future.as_mut().poll(cx) };
            // What another task left is not this one's.
            node.take_blocked_ns();
            let polled = self.future.as_mut().poll(cx);
            let blocked_ns = node.take_blocked_ns();
            if polled.is_ready() || blocked_ns == 0 {
                return polled;
            }
            self.blocked = Some(world.context.timer(world.context.now_ns() + blocked_ns));
        }
    }
}
