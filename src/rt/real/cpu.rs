//! Blocking work on tokio's blocking pool.

/// Long work needs no special treatment here: see [`run`].
pub use run as run_long;

/// Returns the number of cores that this process may use, or one if the system does not tell.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs `work` off the event loops and returns its value.
///
/// # Panics
/// If `work` panics.
pub async fn run<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
