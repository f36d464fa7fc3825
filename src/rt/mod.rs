//! # rt: the boundary between the store and the outside world
//!
//! The only module that names tokio's runtime or madsim. Everything that can differ between two runs of the same code
//! passes through here: tasks, time, randomness, clocks, sockets, files, blocking work and threads.
//!
//! ```text
//!                 the store (every other module)
//!        task  clock  rng  net  disk  cpu  lane  process  probe  mutant!  buggify!  reach!
//!   -----------+--------------------------------+------------------
//!    real      | tokio, tonic's HTTP/2, files   | `cfg(not(madsim))`
//!    simulated | madsim's executor, our network | `cfg(madsim)`
//!              | and our disk, one seed         |
//! ```
//!
//! **In** come the store's calls. **Out** go futures, which complete once the outside world, real or simulated, has
//! done what was asked.
//!
//! **Never**: a task, timer, socket, file or random number that the simulator does not control; a name that exists in
//! only one of the two worlds and is visible outside this module (the simulator's own handles in `sim` are the
//! exception).
//!
//! A node receives an [`Env`] and nothing else. Channels and locks are tokio's `sync` in both worlds ([`sync`]): they
//! wake tasks without knowing the executor. `select!` is always biased ([`crate::rt_select`]).

#[macro_use]
pub mod buggify;
#[macro_use]
pub mod mutant;
#[macro_use]
pub mod reach;
mod event;
mod http1;
pub mod probe;
pub mod rng;

pub use http1::{HttpHandler, HttpRequest, HttpResponse};

#[cfg(not(madsim))]
mod real;
#[cfg(not(madsim))]
use real as world;

#[cfg(madsim)]
pub mod sim;
#[cfg(madsim)]
use sim as world;

/// Tasks of the node that spawns them. Killing a node kills its tasks.
pub mod task {
    pub use super::world::task::{JoinHandle, spawn, yield_now};
}

/// The node's clocks and timers.
pub mod clock {
    pub use super::world::clock::Clock;

    /// A point on a node's monotonic clock, in nanoseconds since an epoch that each process of the node chooses for
    /// itself.
    ///
    /// Two nodes' instants must never be compared: the clocks drift.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Instant(pub u64);

    impl Instant {
        /// Returns the time from `earlier` to this instant, or zero if `earlier` is later.
        pub fn since(self, earlier: Instant) -> std::time::Duration {
            std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
        }
        /// Returns the instant that is `by` later than this one.
        pub fn plus(self, by: std::time::Duration) -> Instant {
            Instant(self.0.saturating_add(by.as_nanos() as u64))
        }
    }

    /// The duration given to [`Clock::timeout`] has passed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("deadline passed")]
    pub struct Elapsed;
}

/// Files. Data is durable only after [`disk::File::sync`], names only after [`disk::Disk::sync_dir`].
pub mod disk {
    pub use super::world::disk::{Disk, File};
}

/// Listening and dialing. The generated tonic services and clients run on it in both worlds.
pub mod net {
    pub use super::world::net::{Channel, Listener, Net};
}

/// Work that keeps a core busy or blocks on the engine. The real world runs it off the event loops; the simulator
/// charges simulated time for it.
pub mod cpu {
    pub use super::world::cpu::{cores, run, run_long};
}

/// Resource usage of this process.
pub mod process {
    pub use super::world::process::usage;

    /// A process's resource usage.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Usage {
        /// Seconds of CPU time since the process started, user and kernel mode together.
        pub cpu_seconds: f64,
        /// Open file descriptors.
        pub open_fds: u64,
        /// Maximum number of file descriptors it may open; `u64::MAX` if unlimited.
        pub max_fds: u64,
        /// Bytes of virtual memory.
        pub virtual_bytes: u64,
        /// Bytes of resident memory.
        pub resident_bytes: u64,
        /// When the process started: seconds since 1970 by the machine's clock.
        pub started_at_s: f64,
        /// Number of threads.
        pub threads: u64,
    }
}

/// A dedicated thread that drives one future in the real world; an ordinary task in the simulator.
pub mod lane {
    pub use super::world::lane::spawn;
}

/// The world for unit tests: the real or the simulated one, as built.
#[cfg(test)]
pub mod testing {
    pub use super::world::testing::run;
}

/// Channels and locks, the same in both worlds.
pub mod sync {
    pub use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
}

/// Everything that a node receives from the outside world.
#[derive(Clone, Debug)]
pub struct Env {
    /// The node's clock.
    pub clock: clock::Clock,
    /// The node's network.
    pub net: net::Net,
    /// The node's disk.
    pub disk: disk::Disk,
    /// The seed of the node's random streams; see [`rng::Rng::fork`].
    pub seed: u64,
}

#[cfg(not(madsim))]
impl Env {
    /// Returns the real world of this process: its clocks, its sockets, the machine's files, and a seed from the
    /// operating system.
    pub fn real() -> Env {
        Env { clock: clock::Clock::real(), net: net::Net::real(), disk: disk::Disk::real(), seed: real::entropy() }
    }
}

/// Returns the directory of the running program, for display; empty if the operating system does not provide it.
pub fn program_dir() -> String {
    #[cfg(not(madsim))]
    return real::program_dir();
    #[cfg(madsim)]
    return String::new();
}

/// `tokio::select!`, always biased: the first ready branch from the top wins, so that no hidden random draw decides.
#[macro_export]
macro_rules! rt_select {
    ($($tokens:tt)*) => {
        ::tokio::select! { biased; $($tokens)* }
    };
}
