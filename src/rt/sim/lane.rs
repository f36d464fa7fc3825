//! Here a lane is an ordinary task: there is one thread, and the simulator owns it.

use std::future::Future;

use super::task::{self, JoinHandle};

/// Drives `future` as a task of this node; `_name` names the thread in the real world.
pub fn spawn<F>(_name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    task::spawn(future)
}
