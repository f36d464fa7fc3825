//! The simulated world for unit tests.

use std::future::Future;
use std::path::PathBuf;

use super::World;
use crate::rt::Env;

/// Runs a test on a node in a new simulated world, with an empty directory on its disk.
///
/// # Panics
/// Panics if the test does.
pub fn run<F>(test: impl FnOnce(Env, PathBuf) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = madsim::runtime::Runtime::with_seed_and_config(7, madsim::Config::default());
    runtime.block_on(async move {
        let node = World::new(7).node(1, "n1", "n1:1");
        let (env, directory) = (node.env(), PathBuf::from("/data"));
        env.disk.create_dir_all(&directory).await.expect("a directory can be created on an empty disk");
        node.spawn(test(env, directory)).await.expect("nothing kills the node");
    });
}
