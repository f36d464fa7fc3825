//! Clients in separate programs, which make their calls and request faults from the test.
//!
//! A program gets the addresses of all nodes and the first keys of all regions in hex, both separated by commas. It
//! writes commands to its standard output, and after each waits for the line `ok` on its standard input:
//!
//! | command | what the test does |
//! |---|---|
//! | `@kill HEXKEY` | kills the node that leads the region of the key |
//! | `@restart` | restarts the killed node, and waits until the cluster is complete |
//! | `@started N ms` | records the time from the program's start to the first reply |
//! | `@done N checks` | records the last line of a program that ended successfully |

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Cluster, Wire};

/// Time limit of a program.
const LIMIT: Duration = Duration::from_secs(300);

/// The output of a program.
#[derive(Debug, Default)]
pub struct Conversation {
    /// The output, line by line.
    pub lines: Vec<String>,
    /// Milliseconds until the first reply, if the program reported it.
    pub started_ms: Option<u64>,
}

/// Returns the first keys of all regions.
pub fn starts(runtime: &tokio::runtime::Runtime, cluster: &Cluster) -> Vec<Vec<u8>> {
    let regions = runtime.block_on(Wire::new(cluster.addrs()).regions()).expect("regions");
    let starts: Vec<Vec<u8>> = regions.iter().map(|(region, _)| region.start_key.to_vec()).collect();
    assert!(starts.len() >= 3, "several regions and the sentinel at the end: {starts:?}");
    starts
}

/// Kills the node that leads the region of `key` and returns its number.
pub fn kill_leader(runtime: &tokio::runtime::Runtime, cluster: &mut Cluster, key: &[u8]) -> usize {
    let addr = runtime.block_on(Wire::new(cluster.addrs()).leader_addr(key)).expect("a leader");
    let node = cluster.node_at(&addr).expect("the leader is one of ours");
    cluster.kill(node);
    node
}

/// Runs a program to its end against `cluster` and carries out the faults that it requests. Panics unless it succeeds.
pub fn converse(
    name: &str,
    mut command: Command,
    runtime: &tokio::runtime::Runtime,
    cluster: &mut Cluster,
) -> Conversation {
    let hex = |key: &Vec<u8>| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let starts: Vec<String> = starts(runtime, cluster).iter().map(hex).collect();
    command.args([cluster.addrs().join(","), starts.join(",")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut orders = child.stdin.take().expect("piped");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // A program that hangs is killed, which ends its output.
    let pid = child.id().to_string();
    let (finished, watch) = std::sync::mpsc::channel::<()>();
    let dog = std::thread::spawn(move || {
        if watch.recv_timeout(LIMIT).is_err() {
            Command::new("kill").args(["-KILL", &pid]).status().ok();
        }
    });
    let mut said = Conversation::default();
    let (mut killed, mut done) = (None, None);
    for line in lines {
        let line = line.expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["@kill", key @ ..] => {
                let key = key.first().copied().unwrap_or_default();
                let byte = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).expect("hex");
                let key: Vec<u8> = (0..key.len()).step_by(2).map(byte).collect();
                killed = Some(kill_leader(runtime, cluster, &key));
                writeln!(orders, "ok").expect("the program listens");
            }
            ["@restart"] => {
                cluster.restart(killed.take().expect("a node was killed"));
                cluster.wait_ready();
                writeln!(orders, "ok").expect("the program listens");
            }
            ["@started", ms, "ms"] => said.started_ms = ms.parse().ok(),
            ["@done", checks, "checks"] => done = checks.parse::<u32>().ok(),
            _ => {}
        }
        // Clients log many long lines.
        println!("{name}: {:.400}", line);
        said.lines.push(line);
    }
    finished.send(()).ok();
    dog.join().expect("the dog does not panic");
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "{name}: {status}");
    assert!(done.is_some_and(|checks| checks > 20), "{name} ended without its last line");
    cluster.assert_alive();
    said
}
