//! Blocking work: done at once, after the simulated time that it would have taken.

use super::world;

/// Charges simulated time to the calling node (a few microseconds, with a long tail, times the node's CPU factor), then runs
/// `work` inline and gives its value.
///
/// # Panics
/// If `work` panics: then the whole run ends, because a panic is a finding.
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

/// Cores that a node has: as few as take turns, whatever machine simulates it.
pub fn cores() -> usize {
    2
}

/// How many times longer [`run_long`] takes than [`run`], on either side of its work.
const LONG: u64 = 200;

/// As [`run`], for work that takes long in the real world: its effect comes some time after the call, and its end some time after its
/// effect (milliseconds, with a long tail, times the node's CPU factor), and other tasks run meanwhile.
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
