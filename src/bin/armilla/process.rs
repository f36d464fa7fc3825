//! Requests to the operating system for this process.

use std::io;

use crate::failure::Failure;

/// Print a warning if a node has fewer file descriptors than this.
const DESCRIPTORS_WANTED: u64 = 4096;
/// File descriptors that a node keeps for sockets and its log.
const DESCRIPTORS_KEPT: u64 = 256;

/// Raises the limit on file descriptors as far as possible. Returns how many table files each of `nodes` may keep open.
pub fn descriptors(nodes: u64) -> u32 {
    let limit = match raise_descriptors() {
        Ok(limit) => limit,
        Err(error) => {
            eprintln!("armilla: warning: cannot read or raise the limit on file descriptors: {error}");
            1024
        }
    };
    let share = limit / nodes.max(1);
    if share < DESCRIPTORS_WANTED {
        eprintln!(
            "armilla: warning: {limit} file descriptors for {nodes} node(s), {DESCRIPTORS_WANTED} each are recommended \
             (`ulimit -n 65536`): with fewer open table files, reads of old data are slower"
        );
    }
    u32::try_from(share.saturating_sub(DESCRIPTORS_KEPT).max(share / 4).max(16)).unwrap_or(u32::MAX)
}

fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes during the whole call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: `wanted` is initialized and outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0 {
            limit = wanted;
        }
    }
    Ok(limit.rlim_cur)
}

/// Returns the seconds of CPU time that this process has used.
pub fn cpu_seconds() -> f64 {
    // SAFETY: rusage is plain data, for which zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for writes during the whole call.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } != 0 {
        return 0.0;
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Restores the default action of SIGPIPE: from now on, a reader that closes its pipe (`| head`) ends this process
/// quietly instead of by a panic. Only for commands that have nothing left to do but print: a socket that the peer
/// has closed raises the same signal, which must not end a node or a client that would try another node.
pub fn only_prints() {
    // SAFETY: the default action is a valid handler at any time.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Prints a line of a node's output. Ignores errors, because standard output may be closed.
pub fn say(line: &str) {
    use io::Write as _;
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Creates a runtime with one thread for each core, for nodes.
pub fn node_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("armilla")
        .build()
        .map_err(|error| Failure::new(format!("cannot create a runtime: {error}")))
}

/// Creates a runtime with one thread, for clients.
pub fn client_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot create a runtime: {error}")))
}

/// The signals that stop a node: SIGINT (Ctrl-C) and SIGTERM.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts listening.
    pub fn new() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(|error| Failure::new(format!("signals: {error}")));
        Ok(Signals { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        armilla::rt_select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Returns the settings of a node's engine.
pub fn engine_storage(config: &armilla::node::Config, open_files_max: u32) -> armilla::engine::EngineStorage {
    let engine = &config.engine;
    let asked = if engine.max_open_files == 0 { open_files_max } else { engine.max_open_files.min(open_files_max) };
    armilla::engine::RocksOptions {
        path: config.data_dir.join("engine"),
        block_cache_bytes: engine.block_cache_mib << 20,
        write_buffer_bytes: engine.write_buffer_mib << 20,
        max_open_files: asked,
        background_jobs: engine.background_jobs,
        separate_from: config.values.separate_from,
        ..armilla::engine::RocksOptions::default()
    }
}
