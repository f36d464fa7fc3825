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
        let nanos = node.charge_cpu_ns(world.seed);
        let until = world.now_ns() + nanos;
        world.timer(until).await;
    }
    work()
}
