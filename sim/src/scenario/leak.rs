//! The leak zoo: ways in which the outside world enters a run and makes it differ from its replay. Each leak is planted
//! in the scenario of bare raft groups; `cargo meta --leaks` must detect it, or the simulator must refuse it.

// This file leaks on purpose and therefore uses what the store must not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::hash::RandomState;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use armilla::rt::probe::{self, Event};
use armilla::rt::sim::{World, shim};
use bytes::Bytes;

/// A class of leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Leak {
    /// The order of a hash table whose keys were drawn outside the run.
    HashOrder,
    /// `rand` 0.8 without the `syscall` shim.
    Rand,
    /// An unbiased `select!`, which draws from a counter of the process.
    Select,
    /// The kernel's clock.
    Clock,
    /// A thread of the operating system.
    Thread,
    /// The order of memory addresses.
    Pointer,
    /// A counter in a static, which an earlier run in the process has advanced.
    Counter,
    /// A file of the machine.
    File,
}

impl Leak {
    /// All classes.
    pub const ALL: [Leak; 8] = [
        Leak::HashOrder,
        Leak::Rand,
        Leak::Select,
        Leak::Clock,
        Leak::Thread,
        Leak::Pointer,
        Leak::Counter,
        Leak::File,
    ];

    /// Returns the class's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Leak::HashOrder => "hash-order",
            Leak::Rand => "rand",
            Leak::Select => "select",
            Leak::Clock => "clock",
            Leak::Thread => "thread",
            Leak::Pointer => "pointer",
            Leak::Counter => "counter",
            Leak::File => "file",
        }
    }
}

static KEYS: OnceLock<RandomState> = OnceLock::new();
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Prepares the part of a leak that must exist outside the simulation.
pub fn prepare(leak: Option<Leak>) {
    match leak {
        Some(Leak::HashOrder) => {
            KEYS.get_or_init(RandomState::new);
        }
        Some(Leak::Rand) => shim::disable_for_leak_test(),
        _ => {}
    }
}

/// Spawns a simulated task that reads through the leak twice per simulated second.
pub fn plant(leak: Option<Leak>, world: &World) {
    let Some(leak) = leak else { return };
    let world = world.clone();
    armilla::rt::task::spawn(async move {
        loop {
            world.sleep_ns(500_000_000).await;
            let a = look(leak).await;
            probe::emit(|| Event::Note { store: 0, what: "leak", a, b: 0, data: Bytes::new() });
        }
    });
}

async fn look(leak: Leak) -> u64 {
    match leak {
        Leak::HashOrder => {
            let keys = KEYS.get().expect("it was prepared").clone();
            let mut table = HashMap::with_hasher(keys);
            table.extend((0..64u64).map(|n| (n, ())));
            table.into_keys().fold(0, |order, key| order * 31 + key)
        }
        Leak::Rand => rand08::Rng::r#gen(&mut rand08::thread_rng()),
        Leak::Select => {
            let mut bits = 0;
            for _ in 0..64 {
                bits = bits << 1
                    | tokio::select! {
                        () = std::future::ready(()) => 0,
                        () = std::future::ready(()) => 1,
                    };
            }
            bits
        }
        Leak::Clock => {
            // SAFETY: timespec is plain data, for which zeroes are a valid value.
            let mut now: libc::timespec = unsafe { std::mem::zeroed() };
            // SAFETY: `now` is a valid place for the answer.
            unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &mut now) };
            now.tv_nsec as u64
        }
        Leak::Thread => {
            std::thread::spawn(|| ());
            0
        }
        Leak::Pointer => {
            let boxes: HashSet<u64> = (0..8).map(|n| std::ptr::from_ref(Box::leak(Box::new(n))) as u64).collect();
            boxes.into_iter().min().unwrap_or(0)
        }
        Leak::Counter => COUNTER.fetch_add(1, Ordering::Relaxed),
        Leak::File => std::fs::read("/proc/self/stat").map_or(0, |text| {
            text.iter().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        }),
    }
}
