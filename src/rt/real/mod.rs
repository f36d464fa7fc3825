//! The real world: tokio, the machine's clocks, sockets and files.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the seam: the one place that may name the real world"
)]

pub mod clock;
pub mod cpu;
pub mod disk;
pub mod lane;
pub mod net;
pub mod process;
pub mod task;

/// A seed from the operating system.
pub fn entropy() -> u64 {
    rand::random()
}
