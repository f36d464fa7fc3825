//! Sends the same requests to Armilla and to real TiKV. All responses must be the same, except those that
//! docs/protocol.md explains.
//!
//! **Goal**: clients cannot distinguish our store from TiKV. **Method**: real TiKV beside one of our own clusters, and
//! `diff.py`, which sends the same seeded requests to both and compares. Few machines have TiKV installed; elsewhere
//! the test prints a message and passes. `ARMILLA_PEERS` is the directory of `run-tikv` and `diff.py` (default:
//! `../shared/peers` beside the repository), `ARMILLA_PYTHON` the Python with `grpcio-tools` (default: `python3`),
//! `ARMILLA_PEERS_SEEDS` the number of seeds (default: 40).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Cluster, binary, free_port, run, wait_until};

/// Requests with different responses for a reason given in docs/protocol.md: those whose printed form contains one of
/// these texts.
const EXPLAINED: &[&str] = &[
    // One more than a missing version is the version of a region that never split.
    "'_wrong': ['no epoch', 'newer epoch']",
];

/// TiKV's programs, its tools, and a Python that can run them.
struct Peers {
    tools: PathBuf,
    python: PathBuf,
}

impl Peers {
    /// Returns the tools of this machine, or why they are missing.
    fn find() -> Result<Peers, String> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = std::env::var_os("ARMILLA_PEERS").map_or_else(|| manifest.join("../shared/peers"), PathBuf::from);
        if !tools.join("diff.py").is_file() {
            return Err(format!("no diff.py in {}: set ARMILLA_PEERS", tools.display()));
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let programs = std::env::var_os("PEERS").map_or_else(|| home.join(".cache/armilla/peers"), PathBuf::from);
        for program in ["tikv-server", "pd-server"] {
            if !programs.join(program).is_file() {
                return Err(format!("no {program} in {}: run {}/get", programs.display(), tools.display()));
            }
        }
        let python = std::env::var_os("ARMILLA_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
        let mut probe = Command::new(&python);
        probe.args(["-c", "import grpc, grpc_tools"]);
        let finished = run(probe, Duration::from_secs(30));
        if finished.code != Some(0) {
            return Err(format!("{} has no grpcio-tools: set ARMILLA_PYTHON", python.display()));
        }
        Ok(Peers { tools, python })
    }
}

/// A real TiKV store; ended when dropped.
struct Tikv {
    process: Child,
    pd: String,
    _data: tempfile::TempDir,
}

impl Tikv {
    /// Starts a store for raw keys that expire, or for transactions: TiKV cannot do both.
    fn start(peers: &Peers, raw: bool) -> Tikv {
        let data = tempfile::tempdir().expect("a temporary folder");
        // Two ports for PD, and two for the store.
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let port = (0..100)
            .map(|_| free_port())
            .find(|port| [0, 1, 11, 51].iter().all(|more| free(port + more)))
            .expect("free ports");
        let log = std::fs::File::create(data.path().join("run.log")).expect("a file");
        let process = Command::new(peers.tools.join("run-tikv"))
            .arg(data.path())
            .args([&port.to_string(), "1"])
            .args(raw.then_some("--ttl"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("run-tikv starts");
        Tikv { process, pd: format!("127.0.0.1:{port}"), _data: data }
    }
}

impl Drop for Tikv {
    fn drop(&mut self) {
        // It ends TiKV and PD, and itself.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.process.wait();
    }
}

fn diff(peers: &Peers, tikv: &Tikv, armilla: &str, seeds: &str, mode: &[&str]) -> common::Finished {
    let mut command = Command::new(&peers.python);
    command.arg(peers.tools.join("diff.py")).args(mode);
    command.args(["--a", &tikv.pd, "--b", armilla, "--seeds", seeds, "--keep-going"]);
    run(command, Duration::from_secs(1800))
}

/// Splits and merges regions on both sides, and sends requests with the routes of before.
fn regions(peers: &Peers, tikv: &Tikv, armilla: &str) -> common::Finished {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regions_diff.py");
    let mut command = Command::new(&peers.python);
    command.arg(script).arg("--tools").arg(&peers.tools);
    command.args(["--a", &tikv.pd, "--b", armilla, "--seeds", "1-10"]);
    run(command, Duration::from_secs(600))
}

#[test]
fn answers_are_those_of_tikv() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(why) => return println!("skipped: real TiKV is not here ({why})"),
    };
    // Its port is in use before TiKV's ports are chosen.
    let mut cluster = Cluster::start(1, &[]);
    let tikv = Tikv::start(&peers, true);
    wait_until("TiKV serves", || diff(&peers, &tikv, cluster.addr(0), "1", &["raw", "--steps", "1"]).code == Some(0));
    let seeds = std::env::var("ARMILLA_PEERS_SEEDS").unwrap_or_else(|_| "40".into());
    let seeds = format!("1-{seeds}");
    for mode in [&["raw"][..], &["raw", "--odd"], &["wrong"]] {
        let finished = diff(&peers, &tikv, cluster.addr(0), &seeds, mode);
        println!("{}: {}", mode.join(" "), finished.text.lines().last().unwrap_or_default());
        let differing: Vec<&str> = finished.text.lines().filter(|line| line.contains("at request ")).collect();
        let explained = |line: &&str| EXPLAINED.iter().any(|text| line.contains(text));
        let all = differing.iter().all(explained);
        assert_eq!(finished.code, Some(i32::from(!differing.is_empty())), "{mode:?}:\n{}", finished.text);
        assert!(all && finished.text.contains("seeds differ"), "{mode:?}:\n{}", finished.text);
    }
    let finished = regions(&peers, &tikv, cluster.addr(0));
    println!("regions: {}", finished.text.lines().last().unwrap_or_default());
    assert_eq!(finished.code, Some(0), "{}", finished.text);
    // Both kinds of changes were made, and requests with earlier routes were refused because of them.
    let reached = finished.text.lines().find(|line| line.starts_with("reached: ")).expect("a line of what was reached");
    for kind in ["'split'", "'merge'", "epoch_not_match", "key_not_in_region"] {
        assert!(reached.contains(kind), "no {kind}: {reached}");
    }
    cluster.assert_alive();
}

/// Runs a Python script, which must succeed.
fn script(peers: &Peers, path: &Path, args: &[&str]) -> String {
    let mut command = Command::new(&peers.python);
    command.arg(path).args(args);
    let finished = run(command, Duration::from_secs(1800));
    assert_eq!(finished.code, Some(0), "{}:\n{}", path.display(), finished.text);
    finished.text
}

/// Returns the configuration of a cluster that takes the tools' timestamps, which are ahead of PD's.
fn with_future_timestamps() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, b"[txn]\nrefuse_future_timestamps = false\n").expect("a write");
    file
}

/// **Goal**: transactional requests are answered as the decision tables say, and as real TiKV answers them. **Method**:
/// `wait_rows.py` sends every row of the tables to Armilla; `txn_diff.py`, `wider_diff.py` and `waits_diff.py` send
/// seeded requests to both.
#[test]
fn transactions_are_those_of_tikv() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(why) => return println!("skipped: real TiKV is not here ({why})"),
    };
    let config = with_future_timestamps();
    let mut cluster = Cluster::start(1, &["--config", config.path().to_str().expect("UTF-8")]);
    let tools = peers.tools.to_str().expect("UTF-8");
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wait_rows.py");
    let rows = script(&peers, &rows, &["--tools", tools, "--pd", cluster.addr(0)]);
    println!("{}", rows.lines().last().unwrap_or_default());
    assert!(rows.contains("rows passed"), "{rows}");
    cluster.assert_alive();
    // Scans of whole regions would find the keys of the rows, which TiKV does not have.
    drop(cluster);
    let mut cluster = Cluster::start(1, &["--config", config.path().to_str().expect("UTF-8")]);
    let tikv = Tikv::start(&peers, false);
    let ready = |peers: &Peers| {
        diff(peers, &tikv, cluster.addr(0), "1", &["txn", "--steps", "1", "--mvcc", "none"]).code == Some(0)
    };
    wait_until("TiKV serves", || ready(&peers));
    let seeds = std::env::var("ARMILLA_PEERS_SEEDS").map_or(40, |seeds| seeds.parse::<u32>().expect("a number"));
    let each = seeds.div_ceil(3);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/txn_diff.py");
    for keys in ["4", "8", "16"] {
        let args = ["--tools", tools, "--a", &tikv.pd, "--b", cluster.addr(0), "--keys", keys, "--seeds"];
        let text = script(&peers, &path, &[&args[..], &[&format!("1-{each}")]].concat());
        println!("{keys} keys: {}", text.lines().last().unwrap_or_default());
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (name, count) in [("wider_diff.py", seeds.div_ceil(2)), ("waits_diff.py", seeds.div_ceil(4))] {
        let args = ["--tools", tools, "--a", &tikv.pd, "--b", cluster.addr(0), "--seeds", &format!("1-{count}")];
        let text = script(&peers, &tests.join(name), &args);
        println!("{name}: {}", text.lines().last().unwrap_or_default());
    }
    cluster.assert_alive();
}

/// Runs `armilla ctl --json`, which must succeed.
fn ctl(pd: &str, args: &[&str]) -> serde_json::Value {
    let mut command = Command::new(binary());
    command.args(["ctl", "--pd", pd, "--hex", "--json"]).args(args);
    let finished = run(command, Duration::from_secs(60));
    assert_eq!(finished.code, Some(0), "ctl {args:?}: {finished:?}");
    serde_json::from_str(&finished.text).unwrap_or_else(|error| panic!("ctl {args:?}: {error}: {}", finished.text))
}

/// Moves the leader of every region to the next of its stores.
fn move_all_leaders(pd: &str) {
    for region in ctl(pd, &["regions"])["regions"].as_array().expect("regions") {
        let id = |value: &serde_json::Value| value.as_u64().map(|id| id.to_string()).unwrap_or_default();
        let peers = region["peers"].as_array().expect("peers");
        let stores: Vec<String> = peers.iter().map(|peer| id(&peer["store"])).collect();
        let leader = id(&region["leader"]["store"]);
        let at = stores.iter().position(|store| *store == leader).map_or(0, |at| (at + 1) % stores.len());
        wait_until("a leader moves", || {
            let mut command = Command::new(binary());
            command.args(["ctl", "--pd", pd, "transfer-leader", &id(&region["id"]), &stores[at]]);
            run(command, Duration::from_secs(60)).code == Some(0)
        });
    }
}

/// **Goal**: what transactions have left means the same after regions were split, leaders moved, and all nodes
/// restarted. **Method**: `moved_rows.py` brings the rows of the decision tables into their states before, and sends
/// their requests after.
#[test]
fn rows_pass_after_their_states_have_moved() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(why) => return println!("skipped: the rows are not here ({why})"),
    };
    let config = with_future_timestamps();
    let mut cluster = Cluster::start(3, &["--config", config.path().to_str().expect("UTF-8")]);
    let pd = cluster.addrs().join(",");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let tools = peers.tools.to_str().expect("UTF-8").to_owned();
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moved_rows.py");
    let first = cluster.addr(0).to_owned();
    let saved = script(&peers, &rows, &["--tools", &tools, "--pd", &first, "--save", &path]);
    println!("{}", saved.lines().last().unwrap_or_default());
    let lines = std::fs::read_to_string(&path).expect("the file of the rows");
    let prefixes: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(prefixes.len() > 350, "{} rows", prefixes.len());
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    };
    for prefix in prefixes.iter().skip(10).step_by(40) {
        let key = armilla::codec::txn_key::encode(&bytes(prefix));
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        ctl(&pd, &["region", "split", &hex]);
    }
    // A leader that moves while a request waits for a lock would make its row fail.
    for scheduler in ["balance-leader", "balance-region"] {
        ctl(&pd, &["scheduler", "pause", scheduler, "3600"]);
    }
    move_all_leaders(&pd);
    for node in 0..3 {
        cluster.kill(node);
        cluster.restart(node);
        cluster.wait_ready();
    }
    move_all_leaders(&pd);
    let text = script(&peers, &rows, &["--tools", &tools, "--pd", &first, "--load", &path]);
    println!("after moves: {}", text.lines().last().unwrap_or_default());
    assert!(text.contains(&format!("{0} of {0} rows passed", prefixes.len())), "{text}");
    cluster.assert_alive();
}

/// Returns which of the Go client's own tests do not pass that pass against real TiKV.
fn missed(peers: &Peers, pd: &str) -> Vec<String> {
    let mut command = Command::new(peers.tools.join("client-go-tests.sh"));
    command.arg(pd);
    let finished = run(command, Duration::from_secs(1000));
    let lines: Vec<&str> = finished.text.lines().filter(|line| !line.is_empty()).collect();
    let (total, missed) = lines.split_last().expect("a total");
    assert!(total.contains(" passed; log in "), "{}", finished.text);
    println!("the Go client's own tests: {total}");
    missed.iter().map(|name| name.to_string()).collect()
}

/// **Goal**: TiKV's Go client passes the same of its own integration tests as against TiKV. **Method**: those tests,
/// against a cluster of one node: some of them expect all leaders on store 1. A few allow a request microseconds, so a
/// test has failed if it failed twice.
#[test]
fn the_go_clients_own_tests_pass() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(why) => return println!("skipped: the Go client's tests are not here ({why})"),
    };
    let mut cluster = Cluster::start(1, &[]);
    let mut failed = missed(&peers, cluster.addr(0));
    if !failed.is_empty() {
        println!("once more, because of {failed:?}");
        let again = missed(&peers, cluster.addr(0));
        failed.retain(|name| again.contains(name));
    }
    assert!(failed.is_empty(), "{failed:?}");
    cluster.assert_alive();
}
