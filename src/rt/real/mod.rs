//! The real world: tokio, the machine's clocks, sockets and files.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the seam: the one place that may name the real world"
)]

pub mod clock;
pub mod cpu;
pub mod disk;
mod in_line;
pub mod lane;
pub mod net;
pub mod process;
pub mod task;
#[cfg(test)]
pub mod testing;
mod thread;

/// Returns the directory of this process's program; empty if the operating system does not provide it.
pub fn program_dir() -> String {
    let program = std::env::current_exe().ok();
    program.and_then(|path| Some(path.parent()?.to_string_lossy().into_owned())).unwrap_or_default()
}

/// Returns a seed from the operating system.
pub fn entropy() -> u64 {
    rand::random()
}
