//! The real world: tokio, the machine's clocks, sockets and files.

pub mod clock;
pub mod cpu;
pub mod disk;
pub mod lane;
pub mod net;
pub mod task;

/// A seed from the operating system.
pub fn entropy() -> u64 {
    rand::random()
}
