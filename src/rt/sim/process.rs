//! A simulated node is not a process of its own: its resource usage is the same on every machine.

use crate::rt::process::Usage;

/// Returns fixed values.
pub fn usage() -> Option<Usage> {
    Some(Usage {
        cpu_seconds: 1.0,
        open_fds: 16,
        max_fds: 1024,
        virtual_bytes: 256 << 20,
        resident_bytes: 64 << 20,
        started_at_s: 1.0,
        threads: 1,
    })
}
