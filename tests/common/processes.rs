//! Real nodes: one process each, on loopback only, killed when the test ends.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::wire::Wire;

/// Time that a loaded machine may take for anything that should take a second.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The program under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_armilla")
}

/// Returns a free port. It is below the range from which the kernel takes ports for outgoing connections, so that a
/// killed node finds its port free when it comes back, whatever connections were made meanwhile.
pub fn free_port() -> u16 {
    const RANGE: std::ops::Range<u32> = 10_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at the same time begin at different ports.
    let first = std::process::id().wrapping_mul(7919);
    loop {
        let n = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (RANGE.start + n % (RANGE.end - RANGE.start)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Returns the command `armilla start` for one node, not spawned yet.
pub fn node_command(name: &str, data: &Path, addr: &str, initial_cluster: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg("start").args(["--name", name, "--addr", addr, "--initial-cluster", initial_cluster]);
    // The nodes share a disk that may be nearly full; `--disk-reserve-mib` overrides this.
    command.arg("--data").arg(data).env("ARMILLA_DISK_RESERVE_MIB", "0").stdin(Stdio::null());
    command
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` after a signal, or if the program had to be killed.
    pub code: Option<i32>,
    /// Standard output, then standard error.
    pub text: String,
}

/// Runs `command` to its end, or kills it after `limit`.
pub fn run(mut command: Command, limit: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Output is read while waiting, so that a full pipe cannot block the program.
    let mut readers = Vec::new();
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
    for mut stream in streams {
        readers.push(std::thread::spawn(move || {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        }));
    }
    let began = Instant::now();
    let code = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status.code(),
            None if began.elapsed() > limit => {
                child.kill().ok();
                child.wait().ok();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect();
    Finished { code, text }
}

/// The output of a program, byte for byte.
#[derive(Debug)]
pub struct Written {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

/// Runs `command` to its end with `input` on standard input, which must fit into a pipe's buffer (64 KiB).
pub fn run_with_input(mut command: Command, input: &[u8]) -> Written {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().expect("piped").write_all(input).expect("the program reads its input");
    let output = child.wait_with_output().expect("a child can be waited for");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Written { code: output.status.code(), out: output.stdout, err }
}

/// Sends a request by HTTP/1.1 and returns the response's head and body.
pub fn http(addr: &str, method: &str, path: &str, body: &str) -> Option<(String, String)> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()))
}

/// Waits until `ready` returns true, for as long as a slow machine may need.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One node's process, address and files.
struct Member {
    name: String,
    addr: String,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// The address of a node of the cluster that it joins, if it is no founder.
    joins: Option<String>,
}

/// The nodes of one cluster, each in a separate process.
pub struct Cluster {
    members: Vec<Member>,
    initial_cluster: String,
    extra: Vec<String>,
    // Last, so that the processes end before their files are removed.
    dir: TempDir,
}

impl Cluster {
    /// Starts `nodes` nodes with the additional arguments `extra`. Returns when every region has a leader.
    pub fn start(nodes: usize, extra: &[&str]) -> Cluster {
        let dir = tempfile::Builder::new().prefix("armilla-test-").tempdir().expect("a temporary folder");
        let members: Vec<Member> = (1..=nodes)
            .map(|n| Member {
                name: format!("n{n}"),
                addr: format!("127.0.0.1:{}", free_port()),
                data: dir.path().join(format!("n{n}")),
                log: dir.path().join(format!("n{n}.log")),
                child: None,
                joins: None,
            })
            .collect();
        let pairs: Vec<String> = members.iter().map(|m| format!("{}={}", m.name, m.addr)).collect();
        let extra = extra.iter().map(|&arg| arg.to_owned()).collect();
        let mut cluster = Cluster { members, initial_cluster: pairs.join(","), extra, dir };
        for node in 0..nodes {
            cluster.restart(node);
        }
        cluster.wait_ready();
        cluster
    }

    /// Returns the number of nodes, dead or alive.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns all addresses, `HOST:PORT`.
    pub fn addrs(&self) -> Vec<String> {
        self.members.iter().map(|m| m.addr.clone()).collect()
    }

    /// Returns one node's address.
    pub fn addr(&self, node: usize) -> &str {
        &self.members[node].addr
    }

    /// Returns one node's data directory.
    pub fn data(&self, node: usize) -> &Path {
        &self.members[node].data
    }

    /// Returns the list of founders that every node was started with.
    pub fn initial_cluster(&self) -> &str {
        &self.initial_cluster
    }

    /// Returns the node with this address.
    pub fn node_at(&self, addr: &str) -> Option<usize> {
        self.members.iter().position(|m| m.addr == addr)
    }

    /// Returns whether the process runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.members[node].child.is_some()
    }

    /// Returns the process id of a running node.
    pub fn pid(&self, node: usize) -> u32 {
        self.members[node].child.as_ref().expect("the node runs").id()
    }

    /// Kills a node with SIGKILL. The process is gone when this returns.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.members[node].child.take() {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("node n{} had stopped by itself ({status}):\n{}", node + 1, self.log(node));
            }
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Sends a running node a signal, by name.
    pub fn signal(&self, node: usize, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid(node).to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Returns whether a node has stopped by itself, so that it can be started again.
    pub fn has_stopped(&mut self, node: usize) -> bool {
        let stopped = match &mut self.members[node].child {
            Some(child) => child.try_wait().expect("a child can be waited for").is_some(),
            None => true,
        };
        if stopped {
            self.members[node].child = None;
        }
        stopped
    }

    /// Stops a node with SIGTERM and returns its exit code.
    pub fn terminate(&mut self, node: usize) -> Option<i32> {
        let mut child = self.members[node].child.take().expect("the node runs");
        let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(ended.is_ok_and(|status| status.success()), "kill -TERM");
        let mut code = None;
        wait_until("the node stops", || match child.try_wait().expect("a child can be waited for") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }

    /// Starts one more node, which joins the cluster by the first one. Returns its number.
    pub fn join(&mut self) -> usize {
        self.join_by(0)
    }

    /// Starts one more node, which joins the cluster by the node `other`. Returns its number.
    pub fn join_by(&mut self, other: usize) -> usize {
        let node = self.len();
        let (name, path) = (format!("n{}", node + 1), self.dir.path());
        let (data, log) = (path.join(&name), path.join(format!("{name}.log")));
        let addr = format!("127.0.0.1:{}", free_port());
        let joins = Some(self.members[other].addr.clone());
        self.members.push(Member { name, addr, data, log, child: None, joins });
        self.restart(node);
        node
    }

    /// Loses a node's disk: its data directory is empty.
    pub fn lose_disk(&mut self, node: usize) {
        assert!(!self.is_up(node), "the node runs");
        std::fs::remove_dir_all(&self.members[node].data).expect("a data directory");
    }

    /// Starts a node that does not run, with its old data.
    pub fn restart(&mut self, node: usize) {
        assert!(!self.is_up(node), "the node runs");
        let member = &self.members[node];
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&member.log).expect("a log file");
        let mut command = match &member.joins {
            None => node_command(&member.name, &member.data, &member.addr, &self.initial_cluster),
            Some(other) => {
                let mut command = Command::new(binary());
                command.arg("start").args(["--name", &member.name, "--addr", &member.addr, "--join", other]);
                command.arg("--data").arg(&member.data).env("ARMILLA_DISK_RESERVE_MIB", "0").stdin(Stdio::null());
                command
            }
        };
        // Without a backtrace, the message of a panic stays among the last lines, which a failing test shows.
        command
            .args(&self.extra)
            .env("RUST_BACKTRACE", "0")
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log);
        self.members[node].child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Returns the last 60 lines of a node's output.
    pub fn log(&self, node: usize) -> String {
        let text = std::fs::read_to_string(&self.members[node].log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Panics with the node's log if a node has stopped by itself or has panicked.
    pub fn assert_alive(&mut self) {
        for node in 0..self.members.len() {
            let log = self.log(node);
            assert!(!log.contains("panicked at"), "a part of n{} panicked:\n{log}", node + 1);
            let stopped = self.members[node].child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = stopped {
                panic!("node n{} stopped by itself ({status}):\n{}", node + 1, self.log(node));
            }
        }
    }

    /// Waits until clients can work: PD has a leader and so has every region.
    pub fn wait_ready(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let began = Instant::now();
        loop {
            self.assert_alive();
            let wire = Wire::new(self.addrs());
            let ready = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), wire.all_led()).await });
            if matches!(ready, Ok(true)) {
                return;
            }
            if began.elapsed() > TIMEOUT {
                let logs: Vec<String> = (0..self.len()).map(|n| format!("--- n{}\n{}", n + 1, self.log(n))).collect();
                panic!("the cluster was not ready within {TIMEOUT:?}\n{}", logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 0..self.len() {
                eprintln!("--- the last of n{}'s log\n{}", node + 1, self.log(node));
            }
        }
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}
