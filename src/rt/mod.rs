//! # rt: the seam between the store and its world
//!
//! The only room that names tokio's runtime or madsim. Everything that can differ between two runs of the same code comes
//! through here: tasks, time, randomness, clocks, sockets, files, blocking work, threads.
//!
//! ```text
//!                 the store (every other room)
//!        task  clock  rng  net  disk  cpu  lane  process  probe  mutant!  buggify!  reach!
//!   -----------+--------------------------------+------------------
//!    real      | tokio, tonic's HTTP/2, files   | `cfg(not(madsim))`
//!    simulated | madsim's executor, our network | `cfg(madsim)`
//!              | and our disk, one seed         |
//! ```
//!
//! **In** come calls of the store; **out** go futures that complete when the world, real or simulated, has done it.
//!
//! **Never**: a task, timer, socket, file or random number that the simulator does not own; a name that exists in one world
//! only and is visible outside this room (the simulator's own handles in `sim` excepted).
//!
//! A node is given an [`Env`] and nothing else. Channels and locks are tokio's `sync` in both worlds ([`sync`]): they wake
//! tasks without knowing the executor. `select!` is always biased ([`crate::rt_select`]).

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

/// Tasks of the node that spawns them; a node that is killed takes its tasks along.
pub mod task {
    pub use super::world::task::{JoinHandle, spawn, yield_now};
}

/// The node's clocks and the waiting on them.
pub mod clock {
    pub use super::world::clock::Clock;

    /// A point on a node's monotonic clock, in nanoseconds since some epoch of that node's process.
    ///
    /// Two nodes' instants must never be compared: the clocks drift.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Instant(pub u64);

    impl Instant {
        /// Time from `earlier` to this instant; zero if `earlier` is later.
        pub fn since(self, earlier: Instant) -> std::time::Duration {
            std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
        }
        /// This instant moved forward.
        pub fn plus(self, by: std::time::Duration) -> Instant {
            Instant(self.0.saturating_add(by.as_nanos() as u64))
        }
    }

    /// The time given to [`Clock::timeout`] ran out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("deadline passed")]
    pub struct Elapsed;
}

/// Files, with the durability that [`disk::File::sync`] and [`disk::Disk::sync_dir`] give and no more.
pub mod disk {
    pub use super::world::disk::{Disk, File};
}

/// Listening and dialing. Generated tonic services and clients run over it in both worlds.
pub mod net {
    pub use super::world::net::{Channel, Listener, Net};
}

/// Work that keeps a core busy or blocks on the engine: off the event loops in the real world, charged to simulated time
/// in the other.
pub mod cpu {
    pub use super::world::cpu::{cores, run, run_long};
}

/// What this process takes of its machine.
pub mod process {
    pub use super::world::process::usage;

    /// A process in figures.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Usage {
        /// Seconds of CPU since its start, in user and kernel mode.
        pub cpu_seconds: f64,
        /// Open file descriptors.
        pub open_fds: u64,
        /// How many it may open; `u64::MAX` without a limit.
        pub max_fds: u64,
        /// Bytes of address space.
        pub virtual_bytes: u64,
        /// Bytes of memory.
        pub resident_bytes: u64,
        /// When it started, seconds since 1970 by the machine's clock.
        pub started_at_s: f64,
        /// Threads.
        pub threads: u64,
    }
}

/// A dedicated thread that drives one future (in the real world); an ordinary task in the simulated one.
pub mod lane {
    pub use super::world::lane::spawn;
}

/// A world for unit tests: that of the build.
#[cfg(test)]
pub mod testing {
    pub use super::world::testing::run;
}

/// Channels and locks, the same in both worlds.
pub mod sync {
    pub use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
}

/// All that a node is given of its world.
#[derive(Clone, Debug)]
pub struct Env {
    /// The node's clock.
    pub clock: clock::Clock,
    /// The node's network.
    pub net: net::Net,
    /// The node's disk.
    pub disk: disk::Disk,
    /// Where the node's random streams begin; see [`rng::Rng::fork`].
    pub seed: u64,
}

#[cfg(not(madsim))]
impl Env {
    /// The real world of this process: its clocks, its sockets, the machine's files, a seed from the operating system.
    pub fn real() -> Env {
        Env { clock: clock::Clock::real(), net: net::Net::real(), disk: disk::Disk::real(), seed: real::entropy() }
    }
}

/// The folder of the program that runs, for people to read; empty where the system does not say.
pub fn program_dir() -> String {
    #[cfg(not(madsim))]
    return real::program_dir();
    #[cfg(madsim)]
    return String::new();
}

/// `tokio::select!`, always biased: the first ready branch from the top wins, so that no hidden draw decides.
#[macro_export]
macro_rules! rt_select {
    ($($tokens:tt)*) => {
        ::tokio::select! { biased; $($tokens)* }
    };
}
