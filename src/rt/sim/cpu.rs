//! Blocking work: runs inline, after the simulated time that it would have taken.

use super::world;

/// Charges simulated time to the calling node (a few microseconds, with a long tail, times the node's CPU factor), then
/// runs `work` inline and returns its value.
///
/// # Panics
/// If `work` panics. This ends the whole run, because a panic is a finding.
pub async fn run<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if let Some((world, node)) = world::current_node() {
        let nanos = node.charge_cpu_ns(world.context.seed);
        let until = world.context.now_ns() + nanos;
        world.context.timer(until).await;
    }
    block_for(work).await
}

/// Does the work; ends when its blocking calls have returned.
async fn block_for<T>(work: impl FnOnce() -> T) -> T {
    let Some((world, node)) = world::current_node() else { return work() };
    // What another task left is not this one's.
    node.take_blocked_ns();
    let value = work();
    let blocked_ns = node.take_blocked_ns();
    if blocked_ns > 0 {
        world.context.timer(world.context.now_ns() + blocked_ns).await;
    }
    value
}

/// Returns the number of cores of a node: the smallest number that allows concurrency, whatever machine runs the
/// simulation.
pub fn cores() -> usize {
    2
}

/// How many times longer than [`run`] each of the two waits of [`run_long`] takes.
const LONG: u64 = 200;

/// Like [`run`], for work that takes long in the real world: its effect comes some time after the call, and it returns
/// some time after its effect (milliseconds, with a long tail, times the node's CPU factor). Other tasks run meanwhile.
pub async fn run_long<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let Some((world, node)) = world::current_node() else { return work() };
    let wait = || {
        let until = world.context.now_ns() + LONG * node.charge_cpu_ns(world.context.seed) + node.long_ns();
        world.context.timer(until)
    };
    wait().await;
    let value = block_for(work).await;
    wait().await;
    value
}
