//! Tests of the commands as people type them: `up`, `ctl`, `bench`, `start --join`, against real processes.
//!
//! **Goal**: the examples of `README.md` and `docs/commands.md` work: a cluster in one process that finds its data
//! again, tables and JSON with the same contents, a fourth node that joins, a machine with few file descriptors.
//! **Method**: runs the binary and checks its output and exit code. Nothing depends on the machine's speed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Cluster, Finished, Written, binary, free_port, http, node_command, run, run_with_input, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A program in the background; killed when the test ends.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: &Path) -> Running {
        let file = std::fs::File::create(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file handle")).stderr(file).spawn();
        Running { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), log: log.to_owned() }
    }

    /// Returns everything that the program has printed.
    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the program has printed `what`.
    fn wait_for(&mut self, what: &str) {
        let log = self.log.clone();
        wait_until(&format!("it prints `{what}`"), || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none() || text.contains(what), "it ended ({ended:?}) without `{what}`:\n{text}");
            text.contains(what)
        });
    }

    /// Sends a signal, waits until the program ends, and returns its exit code.
    fn end_by(&mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
        let mut code = None;
        wait_until("it ends", || match self.child.try_wait().expect("a child can be waited for") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.text());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn armilla(args: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.args(args);
    run(command, LIMIT)
}

/// Runs `armilla ctl`, which must succeed, and returns its output.
fn ctl(pd: &str, args: &[&str]) -> String {
    let finished = armilla(&[&["ctl", "--pd", pd], args].concat());
    assert_eq!(finished.code, Some(0), "ctl {args:?}: {finished:?}");
    finished.text
}

/// Does the same with `--json`.
fn ctl_json(pd: &str, args: &[&str]) -> Value {
    let text = ctl(pd, &[&["--json"], args].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("ctl --json {args:?}: {error}: {text}"))
}

/// Returns the head and body of a page.
fn http_get(addr: &str, path: &str) -> Option<(String, String)> {
    http(addr, "GET", path, "")
}

/// Returns the value of a metric without labels.
fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Returns the first of three consecutive free ports.
fn three_ports() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..100)
        .map(|_| free_port())
        .find(|&port| port < 65_533 && (port..port + 3).all(free))
        .expect("three free ports in a row")
}

#[test]
fn up_serves_stops_at_ctrl_c_and_finds_its_data_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    let port = three_ports();
    let pd = format!("127.0.0.1:{port}");
    let mut command = Command::new(binary());
    command.args(["up", "--base-port", &port.to_string(), "--data"]).arg(&data);
    let mut up = Running::start(command, &dir.path().join("first.log"));
    up.wait_for("Ctrl-C stops the cluster");
    for part in ["a new cluster of 3 node(s)", "status page", "node n3", &format!("{pd}/metrics"), "tikv_client"] {
        assert!(up.text().contains(part), "`{part}` is missing:\n{}", up.text());
    }
    assert_eq!(ctl(&pd, &["put", "sun", "star"]).trim(), "ok");
    assert_eq!(up.end_by("-INT"), Some(0), "{}", up.text());
    assert!(up.text().contains("stopped; the data is in"), "{}", up.text());

    // The ports are stored in the directory.
    let mut command = Command::new(binary());
    command.arg("up").arg("--data").arg(&data);
    let mut up = Running::start(command, &dir.path().join("second.log"));
    up.wait_for("Ctrl-C stops the cluster");
    assert!(up.text().contains("the cluster of 3 node(s)"), "{}", up.text());
    assert_eq!(ctl(&pd, &["get", "sun"]).trim(), "star");
    assert_eq!(up.end_by("-TERM"), Some(0), "{}", up.text());
    assert!(!up.text().contains("panicked at"), "{}", up.text());
}

/// Splits regions: the new ones are shown with their leaders, and data stays where it was found.
fn ctl_splits_regions(pd: &str) {
    let regions = |pd| ctl_json(pd, &["regions"])["regions"].as_array().expect("a list").len();
    let before = regions(pd);
    wait_until("every node knows how to split", || {
        armilla(&["ctl", "--pd", pd, "region", "split", "b"]).code == Some(0)
    });
    let new = ctl_json(pd, &["region", "split", "bb", "b", "c"]);
    let new = new["regions"].as_array().expect("a list");
    let starts: Vec<&str> = new.iter().map(|region| region["start"].as_str().expect("text")).collect();
    assert_eq!(starts, ["b", "bb", "c"]);
    assert!(new.iter().all(|region| region["leader"]["id"].is_number()), "{new:?}");
    assert_eq!(regions(pd), before + 3);
    assert_eq!(ctl(pd, &["get", "b"]).trim(), "2");
    assert_eq!(ctl_json(pd, &["checksum", "b", "z"])["pairs"], 2);
    let empty = armilla(&["ctl", "--pd", pd, "region", "split", ""]);
    assert!(empty.code == Some(2) && empty.text.contains("an empty key"), "{empty:?}");
}

#[test]
fn ctl_shows_the_cluster_and_reads_and_writes() {
    let cluster = Cluster::start(3, &["--initial-regions", "2"]);
    let pd = &cluster.addrs().join(",");

    let members = ctl_json(pd, &["members"]);
    let members = members["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3, "{members:?}");
    assert_eq!(members.iter().filter(|member| member["leader"] == true).count(), 1, "{members:?}");
    assert!(members.iter().all(|member| member["id"].is_string() && member["urls"][0].is_string()), "{members:?}");
    let table = ctl(pd, &["members"]);
    assert!(table.lines().next().is_some_and(|head| head.contains("NAME") && head.contains("LEADER")), "{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with("yes")).count(), 1, "{table}");

    let stores = ctl_json(pd, &["stores"]);
    let stores = stores["stores"].as_array().expect("a list");
    let mut addresses: Vec<&str> = stores.iter().map(|store| store["address"].as_str().expect("text")).collect();
    let mut wanted = cluster.addrs();
    addresses.sort_unstable();
    wanted.sort();
    assert_eq!(addresses, wanted);
    let table = ctl(pd, &["stores"]);
    assert!(cluster.addrs().iter().all(|addr| table.contains(addr.as_str())), "{table}");

    let regions = ctl_json(pd, &["regions"]);
    let regions = regions["regions"].as_array().expect("a list");
    assert!(regions.len() >= 2, "{regions:?}");
    assert_eq!(regions[0]["start"], "");
    for pair in regions.windows(2) {
        assert!(pair[1]["start_hex"].is_string() && pair[1]["start_decoded_hex"].is_string(), "{pair:?}");
        assert_eq!(pair[0]["end_hex"], pair[1]["start_hex"], "regions follow each other");
    }
    let table = ctl(pd, &["regions"]);
    assert_eq!(table.lines().count(), regions.len() + 1, "{table}");

    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        assert_eq!(ctl_json(pd, &["put", key, value])["ok"], true);
    }
    assert_eq!(ctl(pd, &["get", "b"]).trim(), "2");
    assert_eq!(ctl_json(pd, &["get", "b"]), serde_json::json!({ "found": true, "value": "2" }));
    assert_eq!(ctl(pd, &["--hex", "get", "62"]).trim(), "32");
    let absent = armilla(&["ctl", "--pd", pd, "get", "nothing"]);
    assert!(absent.code == Some(1) && absent.text.contains("does not exist"), "{absent:?}");
    let scan = ctl_json(pd, &["scan", "a", "z", "--limit", "2"]);
    let pairs = serde_json::json!([{ "key": "a", "value": "1" }, { "key": "b", "value": "2" }]);
    assert_eq!(scan, serde_json::json!({ "pairs": pairs, "more": true, "next_start": "c" }));
    let scan = ctl_json(pd, &["scan", "a", "c", "--limit", "2"]);
    assert_eq!(scan, serde_json::json!({ "pairs": pairs, "more": false }));
    let none = ctl_json(pd, &["scan", "x", "y"]);
    assert_eq!(none, serde_json::json!({ "pairs": [], "more": false }));
    let reverse = ctl(pd, &["scan", "a", "z", "--reverse", "--keys-only"]);
    assert_eq!(reverse.split_whitespace().collect::<Vec<_>>(), ["KEY", "c", "b", "a"]);
    assert_eq!(ctl_json(pd, &["cas", "a", "9", "--previous", "1"])["swapped"], true);
    assert_eq!(ctl_json(pd, &["checksum", "a", "z"])["pairs"], 3);
    let other = armilla(&["ctl", "--pd", pd, "--cf", "lock", "checksum"]);
    assert!(other.code == Some(2) && other.text.contains("column family"), "{other:?}");
    assert_eq!(ctl(pd, &["delete", "a"]).trim(), "ok");
    assert_eq!(armilla(&["ctl", "--pd", pd, "get", "a"]).code, Some(1));

    ctl_asks_queries(pd);
    ctl_splits_regions(pd);

    // Numbers above 2^53 are strings.
    let tso = ctl_json(pd, &["tso", "--count", "3"]);
    let number = |name: &str| tso[name].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a number in text");
    assert_eq!(number("last") - number("first"), 2);
    let mut status = Value::Null;
    // A new cluster may need a heartbeat or two until PD knows everything.
    wait_until("the cluster is well", || {
        let finished = armilla(&["ctl", "--pd", pd, "--json", "status"]);
        status = serde_json::from_str(&finished.text).unwrap_or_default();
        finished.code == Some(0)
    });
    assert!(status["well"] == true && status["cluster_id"].is_string() && status["stores"] == 3, "{status}");
    let nobody = armilla(&["ctl", "--pd", &format!("127.0.0.1:{}", free_port()), "--timeout", "1", "members"]);
    assert!(nobody.code == Some(1) && nobody.text.contains("--pd"), "{nobody:?}");
}

/// Tests `armilla ctl query` on separate keys.
fn ctl_asks_queries(pd: &str) {
    let docs = [
        ("json/a", r#"{"n":1,"tag":"x"}"#),
        ("json/b", r#"{"n":2.5,"tag":"y"}"#),
        ("json/c", "{ tag"),
        ("json/d", r#"{"n":3,"tag":"x"}"#),
    ];
    for (key, value) in docs {
        assert_eq!(ctl(pd, &["put", key, value]).trim(), "ok");
    }
    fn ask<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["query", "--start", "json/", "--end", "json0"][..], args].concat()
    }

    let table = ctl(pd, &ask(&["--where", "$.n >= 2", "--select", "$.n,$.tag"]));
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words[..9], ["key", "$.n", "$.tag", "json/b", "2.5", "y", "json/d", "3", "x"], "{table}");
    assert!(table.contains("2 of 4 rows"), "{table}");
    let table = ctl(pd, &ask(&["--aggregate", "count(*),sum($.n)", "--group-by", "$.tag"]));
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words[..9], ["$.tag", "count(*)", "sum($.n)", "x", "2", "4", "y", "1", "2.5"], "{table}");
    assert!(table.contains("3 of 4 rows") && table.contains("1 not JSON"), "{table}");

    let rows = ctl_json(pd, &ask(&["--where", "$.tag = 'x'", "--select", "$.n", "--limit", "1"]));
    assert_eq!(rows["rows"], serde_json::json!([{ "key": "json/a", "values": { "$.n": 1 } }]));
    assert_eq!((&rows["more"], &rows["next_start"], &rows["matched"]), (&true.into(), &"json/d".into(), &1.into()));
    let table = ctl(pd, &ask(&["--limit", "1"]));
    assert!(table.contains("there are more") && table.contains("--start json/b --end json0"), "{table}");
    let all = ctl_json(pd, &ask(&["--where", "$.tag = 'x'", "--limit", "2"]));
    assert_eq!((all["rows"].as_array().map(Vec::len), &all["more"]), (Some(2), &false.into()));
    let groups = ctl_json(pd, &ask(&["--aggregate", "max($.n)", "--group-by", "$.tag"]));
    let wanted = serde_json::json!([{ "$.tag": "x", "max($.n)": 3 }, { "$.tag": "y", "max($.n)": 2.5 }]);
    assert_eq!(groups["groups"], wanted);
    assert_eq!(groups["scanned"]["not_json"], 1);
    let none = ctl_json(pd, &ask(&["--where", "$.n > 9", "--aggregate", "count(*)", "--group-by", "$.tag"]));
    assert_eq!((&none["groups"], none.get("rows")), (&serde_json::json!([]), None), "{none}");
    let none = ctl_json(pd, &ask(&["--where", "$.n > 9"]));
    assert_eq!((&none["rows"], none.get("groups")), (&serde_json::json!([]), None), "{none}");
    let none = ctl_json(pd, &ask(&["--limit", "0"]));
    assert_eq!(none["rows"], serde_json::json!([]));
    let hex = ["--hex", "--json", "query", "--start", "6a736f6e2f", "--end", "6a736f6e30", "--where", "$.n = 1"];
    let rows: Value = serde_json::from_str(&ctl(pd, &hex)).expect("JSON");
    assert_eq!(rows["rows"][0]["key"], "6a736f6e2f61");

    let wrong = armilla(&[&["ctl", "--pd", pd], &ask(&["--where", "$.n >= ]"])[..]].concat());
    assert!(wrong.code == Some(2) && wrong.text.contains("where, line 1, column 8: expected a number"), "{wrong:?}");
    let wrong = armilla(&[&["ctl", "--pd", pd], &ask(&["--aggregate", "median($.n)"])[..]].concat());
    assert!(wrong.code == Some(2) && wrong.text.contains("median($.n)"), "{wrong:?}");
    for (key, _) in docs {
        ctl(pd, &["delete", key]);
    }
}

/// Runs `armilla ctl` with this standard input.
fn ctl_with(pd: &str, args: &[&str], input: &[u8]) -> Written {
    let mut command = Command::new(binary());
    command.args(["ctl", "--pd", pd]).args(args);
    run_with_input(command, input)
}

/// Runs `armilla ctl`, which must succeed, and returns its standard output.
fn ctl_bytes(pd: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let written = ctl_with(pd, args, input);
    assert_eq!(written.code, Some(0), "ctl {args:?}: {written:?}");
    written.out
}

#[test]
fn ctl_gives_bytes_back_as_they_went_in() {
    let cluster = Cluster::start(1, &["--split-keys", "g,m5"]);
    let pd = cluster.addr(0);

    // Values: nothing is added and nothing is escaped.
    let value = r#"{"text":"a \"b\"\n","путь":"C:\\dir"}"#;
    ctl(pd, &["put", "j", value]);
    assert_eq!(ctl_bytes(pd, &["get", "j"], b""), value.as_bytes());
    assert_eq!(ctl_json(pd, &["get", "j"])["value"], value);
    let all: Vec<u8> = (0..=255).chain(*b"\n").collect();
    assert_eq!(ctl_bytes(pd, &["put", "all", "-"], &all), b"ok\n");
    assert_eq!(ctl_bytes(pd, &["get", "all"], b""), all);
    let hex: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ctl_json(pd, &["get", "all"]), serde_json::json!({ "found": true, "value_hex": hex }));
    ctl_bytes(pd, &["--hex", "put", "62", "-"], format!("{hex}\n").as_bytes());
    assert_eq!(ctl_bytes(pd, &["get", "b"], b""), all);
    let escaped = ctl_bytes(pd, &["--escape", "get", "all"], b"");
    ctl_bytes(pd, &["--escape", "put", "c", "-"], &escaped);
    assert_eq!(ctl_bytes(pd, &["get", "c"], b""), all);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("value");
    std::fs::write(&file, &all).expect("a file");
    ctl(pd, &["put", "d", "--file", file.to_str().expect("UTF-8")]);
    assert_eq!(ctl_bytes(pd, &["get", "d"], b""), all);
    ctl(pd, &["put", "empty", ""]);
    assert_eq!(ctl_bytes(pd, &["get", "empty"], b""), b"");
    assert_eq!(ctl_json(pd, &["get", "empty"])["value"], "");

    // Keys: printed keys are accepted as arguments.
    ctl(pd, &["--hex", "put", "00ff5c20", "01"]);
    let table = ctl(pd, &["scan", "--limit", "1"]);
    let key = table.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("a row");
    assert_eq!(key, r"\x00\xff\\\x20");
    assert_eq!(ctl_bytes(pd, &["get", key], b""), [1]);
    ctl(pd, &["put", key, "new"]);
    assert_eq!(ctl_bytes(pd, &["--hex", "get", "00ff5c20"], b""), b"6e6577\n");
    assert_eq!(ctl_json(pd, &["scan", "--limit", "1"])["pairs"][0]["key_hex"], "00ff5c20");
    ctl(pd, &["delete", key]);
    assert_eq!(armilla(&["ctl", "--pd", pd, "--hex", "get", "00ff5c20"]).code, Some(1));
    let wrong = ctl_with(pd, &["get", r"C:\dir"], b"");
    assert!(wrong.code == Some(2) && wrong.err.contains(r"`\d` is not an escape"), "{wrong:?}");

    // Compare-and-swap with a time to live.
    let other = ctl_with(pd, &["cas", "j", "x", "--previous", "y"], b"");
    assert!(other.code == Some(1) && String::from_utf8_lossy(&other.out).contains("not swapped"), "{other:?}");
    assert_eq!(ctl_json(pd, &["cas", "j", "next", "--previous", value, "--ttl", "1000"])["previous"], value);
    let ttl_s = ctl_json(pd, &["ttl", "j"])["ttl_s"].as_u64().expect("seconds");
    assert!((900..=1000).contains(&ttl_s), "{ttl_s}");
}

#[test]
fn ctl_lists_counts_and_removes_ranges() {
    let cluster = Cluster::start(1, &["--split-keys", "g,m5"]);
    let pd = cluster.addr(0);
    let keys: Vec<String> = (0..120).map(|n| format!("m{n:03}")).collect();
    for key in &keys {
        ctl(pd, &["put", key, "v"]);
    }
    for key in ["a", "l", "n", "z"] {
        ctl(pd, &["put", key, "v"]);
    }

    // A listing that ends at its limit reports it, and how to continue.
    let table = ctl_with(pd, &["scan", "m", "n"], b"");
    assert_eq!(String::from_utf8_lossy(&table.out).lines().count(), 101);
    assert!(table.err.contains("there are more") && table.err.contains("`scan m100 n`"), "{table:?}");
    let whole = ctl_with(pd, &["scan", "m", "n", "--limit", "120"], b"");
    assert!(whole.err.is_empty() && String::from_utf8_lossy(&whole.out).lines().count() == 121, "{whole:?}");
    let (mut found, mut from) = (Vec::new(), "m".to_owned());
    loop {
        let page = ctl_json(pd, &["scan", &from, "n", "--limit", "50", "--keys-only"]);
        found.extend(
            page["pairs"].as_array().expect("a list").iter().map(|pair| pair["key"].as_str().expect("text").to_owned()),
        );
        match page["next_start"].as_str() {
            Some(next) => next.clone_into(&mut from),
            None => break assert_eq!(page["more"], false),
        }
    }
    assert_eq!(found, keys);
    let back = ctl_with(pd, &["scan", "--prefix", "m", "--reverse", "--limit", "2"], b"");
    assert!(back.err.contains("`scan m m118 --reverse`"), "{back:?}");
    let next = ctl_json(pd, &["scan", "m", "m118", "--reverse", "--limit", "1"]);
    assert_eq!((&next["pairs"][0]["key"], &next["next_end"]), (&"m117".into(), &"m117".into()));

    // Regions: their boundaries are decoded, and accepted as arguments.
    let table = ctl(pd, &["regions"]);
    assert!(table.contains(r"\mem{g}") && table.contains(r"\mem{m5}") && table.contains('∞'), "{table}");
    for region in ctl_json(pd, &["regions"])["regions"].as_array().expect("a list") {
        let id = &region["id"];
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(&id.to_string())).expect("a row");
        let from = line.split_whitespace().nth(1).expect("a boundary");
        let from = if from == "-∞" { "" } else { from };
        assert_eq!(&ctl_json(pd, &["leader", from])["region"], id, "{line}");
        assert_eq!(ctl_json(pd, &["regions", from, "--limit", "1"])["regions"][0]["id"], *id, "{line}");
    }
    let first = ctl_with(pd, &["regions", "--limit", "1"], b"");
    assert!(first.err.contains("there are more"), "{first:?}");
    assert_eq!(ctl_json(pd, &["regions", "--limit", "1"])["more"], true);
    assert_eq!(ctl_json(pd, &["regions", "", "a"])["regions"].as_array().map(Vec::len), Some(1));

    // Counting and deleting.
    let count = |args: &[&str]| ctl(pd, &[&["count"], args].concat()).trim().parse::<u64>().expect("a number");
    assert_eq!((count(&[]), count(&["--prefix", "m"]), count(&["m0", "m1"]), count(&["z", "a"])), (124, 120, 100, 0));
    assert_eq!(ctl_json(pd, &["count", "--prefix", "m11"])["keys"], 10);
    for unclear in
        [&["delete-range"][..], &["delete-range", "a"], &["delete-range", "", ""], &["delete-range", "--prefix", ""]]
    {
        assert_eq!(ctl_with(pd, unclear, b"").code, Some(2), "{unclear:?}");
    }
    assert_eq!(count(&[]), 124, "nothing is gone yet");
    assert_eq!(ctl(pd, &["delete-range", "m000", "m060"]).trim(), "ok");
    assert_eq!((count(&[]), count(&["--prefix", "m"])), (64, 60));
    assert_eq!(ctl_json(pd, &["delete-range", "--prefix", "m"])["ok"], true);
    assert_eq!(count(&[]), 4);
    assert_eq!(ctl(pd, &["delete-range", "--everything"]).trim(), "ok");
    assert_eq!(count(&[]), 0);

    // Together the values are larger than the maximum size of a message.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("value");
    std::fs::write(&file, vec![b'v'; 5 << 20]).expect("a file");
    for n in 0..13 {
        ctl(pd, &["put", &format!("big{n:02}"), "--file", file.to_str().expect("UTF-8")]);
    }
    let scan = ctl_with(pd, &["scan"], b"");
    let rows = String::from_utf8_lossy(&scan.out).into_owned();
    assert!(
        scan.code == Some(0) && rows.lines().count() == 14 && rows.contains("5242880 characters"),
        "{rows} {}",
        scan.err
    );
}

#[test]
fn bench_gives_up_on_a_dead_address_and_removes_what_it_wrote() {
    let began = Instant::now();
    let dead = armilla(&["bench", "--pd", &format!("127.0.0.1:{}", free_port()), "--duration", "1s"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(dead.code == Some(1) && dead.text.contains("refused") && dead.text.contains("--pd"), "{dead:?}");

    let cluster = Cluster::start(1, &[]);
    let pd = cluster.addr(0);
    ctl(pd, &["put", "mine", "v"]);
    let count = || ctl(pd, &["count"]).trim().parse::<u64>().expect("a number");
    let bench = |args: &[&str]| {
        let base = ["bench", "--pd", pd, "--keys", "3000", "--clients", "4", "--duration", "200ms", "--warmup", "0s"];
        let finished = armilla(&[&base[..], args].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
    };
    bench(&["--workload", "get"]);
    assert_eq!(count(), 3001);
    bench(&["--workload", "clean"]);
    assert_eq!(count(), 1);
    bench(&["--workload", "mixed", "--clean"]);
    assert_eq!(count(), 1);
    bench(&["--batch", "--clean"]);
    assert_eq!((count(), ctl(pd, &["get", "mine"]).as_str()), (1, "v"));
}

#[test]
fn unknown_log_levels_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let addr = format!("127.0.0.1:{}", free_port());
    let members = format!("n1={addr}");
    let start = ["start", "--data", data, "--addr", &addr, "--initial-cluster", &members];
    let up = ["up", "--data", data];
    for (args, variable) in [
        ([&start[..], &["--log-level", "lod"]].concat(), None),
        ([&up[..], &["--log-level", "infos"]].concat(), None),
        (start.to_vec(), Some("verbose")),
        (up.to_vec(), Some("info,armilla=loud")),
    ] {
        let mut command = Command::new(binary());
        command.args(&args);
        if let Some(level) = variable {
            command.env("ARMILLA_LOG", level);
        }
        let finished = run(command, LIMIT);
        assert!(finished.code == Some(2), "{args:?}: {finished:?}");
        assert!(finished.text.contains("levels are off, error, warn, info, debug, trace"), "{args:?}: {finished:?}");
    }
    assert!(!Path::new(data).exists(), "nothing was written");
}

#[test]
fn probes_and_scrapers_find_what_they_look_for() {
    let status = |addr: &str, path: &str| {
        let (head, body) = http_get(addr, path)?;
        Some((head.split_whitespace().nth(1)?.parse::<u16>().ok()?, body))
    };
    // One of three founders alone is alive but not ready.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let addr = format!("127.0.0.1:{}", free_port());
    let members = format!("n1={addr},n2=127.0.0.1:{},n3=127.0.0.1:{}", free_port(), free_port());
    let alone = Running::start(node_command("n1", &dir.path().join("n1"), &addr, &members), &dir.path().join("n1.log"));
    wait_until("it listens", || TcpStream::connect(&addr).is_ok());
    let (code, body) = status(&addr, "/ready").expect("an answer");
    assert!(code == 503 && body.contains("starting"), "{code} {body}");
    assert_eq!(status(&addr, "/health").expect("an answer").0, 200);
    assert_eq!(status(&addr, "/config").expect("an answer").0, 200);
    drop(alone);

    let cluster = Cluster::start(1, &["--log-level", "warn"]);
    let addr = cluster.addr(0);
    wait_until("it is ready", || status(addr, "/ready").is_some_and(|(code, _)| code == 200));
    assert_eq!(status(addr, "/health"), Some((200, r#"{"health":"true","reason":""}"#.into())));
    let config: Value = serde_json::from_str(&status(addr, "/config").expect("an answer").1).expect("JSON");
    assert_eq!((&config["addr"], &config["log"]["level"]), (&addr.into(), &"warn".into()));
    assert!(config["raft"]["election_ticks"].is_u64() && config["initial_cluster"].is_array(), "{config}");

    let page = status(addr, "/metrics").expect("an answer").1;
    for name in [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
    ] {
        assert!(metric(&page, name).is_some_and(|value| value > 0.0), "{name}:\n{page}");
    }
    let started_s = metric(&page, "process_start_time_seconds").expect("a number");
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((now_s - 120.0..now_s + 5.0).contains(&started_s), "{started_s} {now_s}");
    let unexplained: Vec<&str> =
        page.lines().filter(|line| line.starts_with("# HELP") && line.contains("of /status")).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[test]
fn bench_measures_and_metrics_follow() {
    let cluster = Cluster::start(3, &[]);
    let pd = &cluster.addrs().join(",");
    let common = ["bench", "--pd", pd, "--clients", "4", "--keys", "200", "--warmup", "50ms", "--json"];
    for extra in [&["--workload", "mixed", "--duration", "300ms"][..], &["--batch", "--duration", "300ms"]] {
        let finished = armilla(&[&common[..], extra].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let report: Value = serde_json::from_str(&finished.text).expect("JSON and nothing else");
        for field in ["ops", "ops_per_s", "seconds", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
            assert!(report[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {report}");
        }
        assert_eq!(
            (&report["clients"], &report["errors"], &report["first_error"]),
            (&4.into(), &0.into(), &Value::Null)
        );
        assert_eq!(report["batch"], extra.contains(&"--batch"));
    }

    // The measured load appears in the metrics.
    let pages: Vec<String> =
        cluster.addrs().iter().map(|addr| http_get(addr, "/metrics").expect("an answer").1).collect();
    for page in &pages {
        for (name, positive) in [
            ("armilla_serving", true),
            ("armilla_poisoned", false),
            ("armilla_raft_groups", true),
            ("armilla_raft_leader_changes_total", true),
            ("armilla_log_segments", true),
            ("armilla_log_syncs_total", true),
            ("armilla_log_bytes_written_total", true),
            ("armilla_engine_memtable_bytes", true),
        ] {
            let value = metric(page, name).unwrap_or_else(|| panic!("no {name}:\n{page}"));
            assert_eq!(value > 0.0, positive, "{name} {value}");
        }
    }
    let total = |name: &str| pages.iter().filter_map(|page| metric(page, name)).sum::<f64>();
    assert!(total("armilla_raft_proposals_total") > 0.0 && total("armilla_raft_leaders") > 1.0);
    assert!(total("armilla_raft_reads_by_lease_total") + total("armilla_raft_reads_by_quorum_total") > 0.0);

    // An interrupted run prints the statistics so far and exits with the code for it.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(binary());
    command.args([
        "bench",
        "--pd",
        pd,
        "--clients",
        "4",
        "--keys",
        "200",
        "--warmup",
        "0ms",
        "--duration",
        "10m",
        "--json",
    ]);
    let puts = || -> u64 {
        let of = |addr: &String| -> Option<u64> {
            let status: Value = serde_json::from_str(&http_get(addr, "/status")?.1).ok()?;
            status["requests"]["RawPut"].as_u64()
        };
        cluster.addrs().iter().filter_map(of).sum()
    };
    let before = puts();
    let mut bench = Running::start(command, &dir.path().join("bench.log"));
    wait_until("the load is there", || puts() > before + 500);
    assert_eq!(bench.end_by("-INT"), Some(130), "{}", bench.text());
    let report: Value = serde_json::from_str(&bench.text()).expect("JSON and nothing else");
    assert!(report["ops"].as_u64().is_some_and(|ops| ops > 0), "{report}");
}

#[test]
fn a_fourth_node_joins() {
    let cluster = Cluster::start(3, &[]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let addr = format!("127.0.0.1:{}", free_port());
    let start = || {
        let mut command = Command::new(binary());
        command.args(["start", "--name", "n4", "--addr", &addr, "--join", cluster.addr(0), "--data"]);
        command.arg(dir.path().join("n4"));
        command
    };
    let listed = || {
        let stores = ctl_json(cluster.addr(1), &["stores"]);
        let stores = stores["stores"].as_array().expect("a list").clone();
        (stores.len(), stores.into_iter().find(|store| store["address"] == addr.as_str()))
    };
    let healthy = || http_get(&addr, "/healthz").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"));
    let mut node = Running::start(start(), &dir.path().join("first.log"));
    wait_until("the fourth store is listed", || listed().1.is_some());
    wait_until("the fourth node is healthy", healthy);
    let (count, store) = listed();
    assert_eq!(count, 4);
    // Any node returns the placement driver's members, also one without a member.
    assert_eq!(ctl_json(&addr, &["members"])["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(ctl(&addr, &["put", "k", "v"]).trim(), "ok");
    assert_eq!(node.end_by("-TERM"), Some(0), "{}", node.text());

    // After a restart it is the same store.
    let mut node = Running::start(start(), &dir.path().join("second.log"));
    wait_until("the fourth node is healthy again", healthy);
    let (count, again) = listed();
    assert_eq!((count, again.map(|s| s["id"].clone())), (4, store.map(|s| s["id"].clone())));
    assert_eq!(node.end_by("-TERM"), Some(0), "{}", node.text());
}

#[test]
fn clients_that_hang_up_do_not_end_a_node() {
    let mut cluster = Cluster::start(1, &[]);
    for turn in 0..300u64 {
        let mut stream = TcpStream::connect(cluster.addr(0)).expect("the node listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", cluster.addr(0));
        stream.write_all(request.repeat(20).as_bytes()).expect("sent");
        // In the middle of the first response, or of a later one.
        std::thread::sleep(Duration::from_micros(turn % 30 * 100));
        stream.shutdown(std::net::Shutdown::Write).expect("the connection is there");
        std::thread::sleep(Duration::from_micros(turn % 7 * 200));
        // Closed with unread responses: the node's further writes fail.
        drop(stream);
    }
    cluster.assert_alive();
    assert_eq!(cluster.terminate(0), Some(0), "{}", cluster.log(0));
}

#[test]
fn few_file_descriptors_cost_a_warning_and_not_the_service() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let addr = format!("127.0.0.1:{}", free_port());
    let plain = node_command("n1", &dir.path().join("n1"), &addr, &format!("n1={addr}"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    let mut node = Running::start(command, &dir.path().join("n1.log"));
    node.wait_for("200 file descriptors");
    assert!(node.text().contains("ulimit -n"), "{}", node.text());
    wait_until("it serves", || armilla(&["ctl", "--pd", &addr, "--timeout", "2", "put", "k", "v"]).code == Some(0));
    assert_eq!(ctl(&addr, &["get", "k"]).trim(), "v");
    // More connections than it has descriptors: further ones wait, and the node keeps serving.
    let crowd: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(&addr).ok()).collect();
    assert!(crowd.len() > 100, "{}", crowd.len());
    drop(crowd);
    wait_until("it serves again", || armilla(&["ctl", "--pd", &addr, "--timeout", "2", "get", "k"]).code == Some(0));
    assert_eq!(node.end_by("-TERM"), Some(0), "{}", node.text());
}
