//! # The simulated world
//!
//! One process, one thread, one seed: madsim runs the tasks and keeps the time; everything else that a node can touch
//! is implemented here. A run follows from the seed alone. Nothing that a node can observe may ever depend on anything
//! else (a real clock, a thread, an address, the order of a hash table); `cargo meta` checks this.
//!
//! ```text
//!   simulator:  World ── NodeHandle ── SimClock, SimDisk          SimNet
//!                 │  creates, kills, pauses, sets faults            │ cuts, heals, slows
//!   -------------+--------------------------------------------------+---------------------
//!   node:        Env { clock, net, disk, seed }   task, cpu, lane, probe
//! ```
//!
//! **In** come the store's calls, through the same names as in the real world, and the simulator's orders. **Out** go
//! completions, later: one queue ([`queue`]) holds everything that is going to happen, in order. Every fact of the
//! protocol, delivery, disk operation and fault goes into the running digest of [`probe`]. Every draw is a function of
//! the seed and of its purpose ([`draw`]), so that removing one event does not shift the others; only the order in
//! which ready tasks run, and raft-rs's own election timeouts, come from madsim's single random stream.
//!
//! The layers, from the bottom up; no file names a file above its own:
//!
//! ```text
//!   cpu  lane  blocking work, and lanes, of the node whose task is running
//!   world      the simulator's handles: makes, kills and pauses nodes; knows the world of this thread
//!   net        the network: knows the nodes, puts its events into the queue
//!   node       one machine: its clock, its disk, its current incarnation
//!   clock  disk
//!   context    the seed, the queue, the record of events
//!   queue  probe  draw  task
//! ```
//!
//! ## Which faults it injects, and why a cluster must survive them
//!
//! | fault | injected by | why it is fair |
//! |---|---|---|
//! | a process dies at any await | [`NodeHandle::kill`] | power, `kill -9`, the kernel's out-of-memory killer |
//! | a machine disappears without closing its connections | [`NodeHandle::power_off`] | power, a torn-out cable |
//! | a process stops for a while | [`NodeHandle::pause`] | a virtual machine that is moved, SIGSTOP, a long page fault |
//! | unsynced data kept, lost, old, torn, garbage; growth without data | [`NodeHandle::crash_disk`] | a power loss; POSIX promises nothing without fsync. Sectors of 512 bytes are whole: devices promise that |
//! | unsynced names kept or lost, in a prefix or not | the same | names are a directory's data, and durable with the directory's fsync |
//! | fsync fails once, then reports success without the data | [`SimDisk::fail_next_sync`] | Linux drops the dirty flag with the error |
//! | disk full, slow, stalled, wiped, swapped | [`SimDisk`] | operators, neighbours, other operators |
//! | unreadable sector, flipped bit | [`SimDisk::break_sector`], [`SimDisk::flip_bit`] | media fail; a minority of a region's replicas may be affected |
//! | delay, long tails, reordering between streams | [`SimNet::set_latency`] | every network |
//! | loss (as delay), connection reset | [`LinkConfig`] | TCP hides the first and reports the second |
//! | partition, in one or both directions; isolation | [`SimNet::partition`] … | switches, firewalls, routing |
//! | half-open connections | [`SimNet::black_hole`] | a NAT device forgets a connection |
//! | any call of the file system fails, once | [`SimDisk::fail_call`] | too many open files, a worn cable, a quota |
//! | a write stores a part of its bytes, and reports it or fails | [`SimDisk::shorten_write`] | POSIX permits any write to be short; a disk fills up in the middle of one |
//! | data that was sent on a stream arrives again, later | [`SimNet::recorded`] | a sender that retries after a reconnect, a switch that buffers |
//! | clock offset, steps, drift, leap seconds; frozen clocks | [`SimClock`] | time servers can be wrong; machines are saved and restored |
//! | slow reads of the engine, which block the lanes that make them | [`NodeHandle::set_read_ns`] | a busy or worn disk |
//! | slow CPU | [`NodeHandle::set_cpu_factor`] | neighbours, throttling |
//!
//! Faults that it does not inject: memory corruption, a byzantine peer, a disk that lies about fsync without ever
//! reporting an error.

pub mod clock;
mod context;
pub mod cpu;
pub mod disk;
mod draw;
pub mod lane;
pub mod net;
mod node;
pub mod probe;
pub mod process;
mod queue;
pub mod shim;
pub mod task;
mod world;

pub use self::clock::SimClock;
pub use self::disk::{CrashMode, DiskCall, DiskConfig, SimDisk};
pub use self::net::{LinkConfig, SimNet};
pub use self::world::{NodeHandle, World, emit};

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
