//! The real world for unit tests.

use std::future::Future;
use std::path::PathBuf;

use crate::rt::Env;

/// Runs a test with an environment and an empty directory on its disk.
///
/// # Panics
/// Panics if the test does.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Env, PathBuf) -> F) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test(Env::real(), directory.path().to_owned()));
}
