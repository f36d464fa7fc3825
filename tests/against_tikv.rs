//! Tests of Armilla's own client against real TiKV: `ctl` and `bench` speak the protocol, not only to our own servers.
//!
//! **Goal**: commands that work against Armilla work against TiKV; commands that need Armilla fail there with an error
//! that says so. **Method**: a cluster of three real TiKV stores with several regions and a real PD, started by
//! `../shared/peers/run-tikv` (or in ARMILLA_PEERS); skipped with a message where it is missing.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Written, binary, free_port, http, run_with_input, wait_until};
use serde_json::{Value, json};

/// Returns the path of the script that runs TiKV, or why it cannot run.
fn peers() -> Result<PathBuf, String> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/peers");
    let peers = std::env::var_os("ARMILLA_PEERS").map_or_else(beside, PathBuf::from);
    let script = peers.join("run-tikv");
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let programs = std::env::var_os("PEERS").map_or_else(|| home.join(".cache/armilla/peers"), PathBuf::from);
    for needed in [&script, &programs.join("tikv-server"), &programs.join("pd-server")] {
        if !needed.exists() {
            return Err(format!("{} is not there (ARMILLA_PEERS names the folder of run-tikv)", needed.display()));
        }
    }
    Ok(script)
}

/// Real TiKV with a real PD; ended when dropped.
struct Tikv {
    child: Child,
    pd: String,
    dir: tempfile::TempDir,
}

impl Tikv {
    fn start(script: &Path) -> Tikv {
        let dir = tempfile::Builder::new().prefix("armilla-tikv-").tempdir().expect("a temporary folder");
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let port = (0..100)
            .map(|_| free_port())
            .find(|port| [0, 1, 11, 12, 13, 51, 52, 53].iter().all(|more| free(port + more)))
            .expect("free ports");
        let log = std::fs::File::create(dir.path().join("run.log")).expect("a log file");
        let mut command = Command::new(script);
        command.arg(dir.path().join("data")).args([&port.to_string(), "3", "--ttl"]).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file handle")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Tikv { child, pd: format!("127.0.0.1:{port}"), dir }
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Written {
        let mut command = Command::new(binary());
        command.arg(args[0]).args(["--pd", &self.pd]).args(&args[1..]);
        run_with_input(command, input)
    }

    /// Runs `armilla ctl`, which must succeed, and returns its standard output.
    fn ctl(&self, args: &[&str]) -> String {
        let written = self.run(&[&["ctl"], args].concat(), b"");
        assert_eq!(written.code, Some(0), "ctl {args:?}: {written:?}");
        String::from_utf8(written.out).expect("UTF-8")
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ctl(&[&["--json"], args].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ctl --json {args:?}: {error}: {text}"))
    }

    /// Runs `armilla ctl`, which must fail, and returns its standard error.
    fn refused(&self, args: &[&str]) -> String {
        let written = self.run(&[&["ctl"], args].concat(), b"");
        assert_eq!(written.code, Some(1), "ctl {args:?}: {written:?}");
        written.err
    }

    fn regions(&self) -> usize {
        self.json(&["regions"])["regions"].as_array().map_or(0, Vec::len)
    }

    /// Returns whether a region begins at `key`.
    fn has_boundary(&self, key: &str) -> bool {
        let regions = self.json(&["regions"]);
        regions["regions"].as_array().is_some_and(|regions| regions.iter().any(|region| region["start"] == key))
    }
}

impl Drop for Tikv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}", std::fs::read_to_string(self.dir.path().join("run.log")).unwrap_or_default());
        }
        // The script stops its programs when it is asked to end.
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn our_client_works_against_tikv() {
    let script = match peers() {
        Ok(script) => script,
        Err(why) => return println!("skipped: {why}"),
    };
    let tikv = Tikv::start(&script);
    wait_until("three stores of TiKV are up", || {
        let status = tikv.run(&["ctl", "--timeout", "2", "--json", "status"], b"");
        let status: Value = serde_json::from_slice(&status.out).unwrap_or_default();
        status["well"] == true && status["stores"] == 3
    });
    // A region boundary for ranges to cross, in addition to the four that PD makes by itself. PD splits only regions
    // that have all their replicas, which takes up to a minute; a split under load would be an error of a request.
    let began = Instant::now();
    while !(tikv.has_boundary("m") && tikv.regions() >= 6) {
        assert!(began.elapsed() < Duration::from_secs(180), "the regions are not split");
        http(&tikv.pd, "POST", "/pd/api/v1/regions/split", r#"{"split_keys":["6D"],"retry_limit":2}"#);
        std::thread::sleep(Duration::from_secs(1));
    }
    the_cluster(&tikv);
    keys_and_ranges(&tikv);
    what_only_armilla_has(&tikv);
    load(&tikv);
}

fn the_cluster(tikv: &Tikv) {
    let members = tikv.json(&["members"]);
    assert_eq!(members["members"][0]["leader"], true, "{members}");
    let stores = tikv.json(&["stores"]);
    assert_eq!(stores["stores"].as_array().map(Vec::len), Some(3), "{stores}");
    let table = tikv.ctl(&["regions"]);
    assert!(table.lines().any(|line| line.split_whitespace().nth(1) == Some("m")), "{table}");
    let status = tikv.ctl(&["status"]);
    assert!(status.contains(": healthy") && status.contains("regions   ") && status.contains("unknown"), "{status}");
    let (below, above) = (tikv.json(&["leader", "a"]), tikv.json(&["leader", "z"]));
    assert!(below["region"] != above["region"] && below["address"].is_string(), "{below} {above}");
    let tso = tikv.json(&["tso", "--count", "3"]);
    assert!(tso["last"].is_string() && tso["physical_ms"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{tso}");
    assert!(tikv.json(&["tso"])["last"].as_str() > tso["last"].as_str());
}

fn keys_and_ranges(tikv: &Tikv) {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(tikv.run(&["ctl", "put", r"\x00\xff", "-"], &all).code, Some(0));
    assert_eq!(tikv.run(&["ctl", "get", r"\x00\xff"], b"").out, all);
    tikv.ctl(&["delete", r"\x00\xff"]);
    assert!(tikv.refused(&["get", r"\x00\xff"]).contains("does not exist"));

    for key in ["a", "l", "m", "n", "z"] {
        tikv.ctl(&["put", key, &format!("value of {key}")]);
    }
    let keys = |args: &[&str]| -> Vec<String> {
        let table = tikv.ctl(&[&["scan", "--keys-only"], args].concat());
        table.lines().skip(1).map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(keys(&[]), ["a", "l", "m", "n", "z"]);
    assert_eq!(keys(&["b", "n"]), ["l", "m"]);
    assert_eq!(keys(&["--reverse"]), ["z", "n", "m", "l", "a"]);
    assert_eq!(keys(&["b", "n", "--reverse"]), ["m", "l"]);
    assert_eq!(keys(&["--prefix", "m"]), ["m"]);
    let two = tikv.json(&["scan", "--limit", "2"]);
    assert_eq!(
        (&two["more"], &two["next_start"], &two["pairs"][1]["value"]),
        (&json!(true), &json!("m"), &json!("value of l"))
    );
    assert_eq!(tikv.ctl(&["count"]).trim(), "5");
    let sum = tikv.json(&["checksum"]);
    assert_eq!((&sum["pairs"], &sum["bytes"]), (&json!(5), &json!(5 + 5 * "value of a".len())));

    assert_eq!(tikv.json(&["cas", "m", "new", "--previous", "value of m"])["swapped"], true);
    let other = tikv.run(&["ctl", "cas", "m", "newer", "--previous", "value of m"], b"");
    assert!(other.code == Some(1) && String::from_utf8_lossy(&other.out).contains("the value was new"), "{other:?}");
    assert_eq!(tikv.json(&["cas", "fresh", "v", "--ttl", "500"])["swapped"], true);
    let ttl_s = tikv.json(&["ttl", "fresh"])["ttl_s"].as_u64().expect("seconds");
    assert!((400..=500).contains(&ttl_s), "{ttl_s}");
    assert_eq!(tikv.json(&["ttl", "m"])["ttl_s"], 0);

    tikv.ctl(&["delete-range", "l", "n"]);
    assert_eq!(keys(&[]), ["a", "fresh", "n", "z"]);
    tikv.ctl(&["delete-range", "--everything"]);
    assert_eq!(tikv.ctl(&["count"]).trim(), "0");
}

fn what_only_armilla_has(tikv: &Tikv) {
    let query = tikv.refused(&["query", "--where", "$.n > 3"]);
    assert!(query.contains("query is a call that only Armilla has") && query.contains("what to do"), "{query}");
    let transfer = tikv.refused(&["transfer-leader", "2", "1"]);
    assert!(transfer.contains("only Armilla has") && transfer.contains("pd-ctl"), "{transfer}");
}

fn load(tikv: &Tikv) {
    let base = ["bench", "--json", "--clients", "8", "--keys", "500", "--duration", "500ms", "--warmup", "100ms"];
    for extra in [
        &["--workload", "put"][..],
        &["--workload", "mixed"],
        &["--workload", "scan", "--scan-limit", "10"],
        &["--workload", "put", "--batch"],
        &["--workload", "mixed", "--batch"],
        &["--workload", "scan", "--scan-limit", "10", "--batch", "--clean"],
    ] {
        let finished = tikv.run(&[&base[..], extra].concat(), b"");
        let report: Value = serde_json::from_slice(&finished.out).unwrap_or_default();
        assert!(finished.code == Some(0) && report["errors"] == 0, "{extra:?}: {finished:?}");
        assert!(report["ops"].as_u64().is_some_and(|ops| ops > 10), "{extra:?}: {report}");
    }
    assert_eq!(tikv.ctl(&["count"]).trim(), "0", "the last run has removed the keys of all runs");
}
