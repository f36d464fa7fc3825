//! Tests of what people and scrapers see of transactions: `ctl txn`, `mvcc`, `locks`, `resolve`, `bench`, `/metrics`.
//!
//! **Goal**: the commands of `docs/commands.md` do what it says; the locks of dead clients are shown and finished as
//! their primary keys say. **Method**: three real processes; clients that die in the middle of a commit are made with
//! the project's own client. Nothing depends on the machine's speed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::process::Command;
use std::time::Duration;

use armilla::client::{PdClient, RawClient, RawOptions, Txn, TxnClient, TxnOptions};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use bytes::Bytes;
use common::{Cluster, Finished, Written, binary, http, run, run_with_input, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

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

/// Runs `armilla ctl` with this standard input.
fn ctl_with(pd: &str, args: &[&str], input: &str) -> Written {
    let mut command = Command::new(binary());
    command.args(["ctl", "--pd", pd]).args(args);
    run_with_input(command, input.as_bytes())
}

/// Starts three nodes with regions before and after `\x80`, and returns their addresses.
fn cluster() -> (Cluster, String) {
    let cluster = Cluster::start(3, &["--initial-regions", "2"]);
    let pd = cluster.addrs().join(",");
    (cluster, pd)
}

#[test]
fn keys_are_read_and_written() {
    let (_cluster, pd) = cluster();
    let pd = &pd;
    // The second key is in another region.
    let put = ctl_json(pd, &["txn", "put", "a", "1", "\\xf0", "two words", "c", "3"]);
    let committed: u64 = put["commit_ts"].as_str().and_then(|text| text.parse().ok()).expect("a timestamp in text");
    assert!(put["ok"] == true && committed > 0, "{put}");
    assert_eq!(ctl(pd, &["txn", "get", "a"]), "1");
    assert_eq!(ctl_json(pd, &["txn", "get", "\\xf0"]), json!({ "found": true, "value": "two words" }));
    // One of several keys does not exist.
    let several = armilla(&["ctl", "--pd", pd, "--json", "txn", "get", "a", "b", "c"]);
    let found: Value = serde_json::from_str(&several.text).expect("JSON");
    let wanted = json!([
        { "key": "a", "found": true, "value": "1" },
        { "key": "b", "found": false },
        { "key": "c", "found": true, "value": "3" },
    ]);
    assert_eq!((several.code, &found["keys"]), (Some(1), &wanted), "{several:?}");
    let table = ctl(pd, &["txn", "get", "a", "c"]);
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["KEY", "VALUE", "a", "1", "c", "3"]);
    let absent = armilla(&["ctl", "--pd", pd, "txn", "get", "b"]);
    assert!(absent.code == Some(1) && absent.text.contains("b does not exist"), "{absent:?}");
    // Raw keys are others.
    assert_eq!(armilla(&["ctl", "--pd", pd, "get", "a"]).code, Some(1));
    let half = armilla(&["ctl", "--pd", pd, "txn", "put", "a", "1", "b"]);
    assert!(half.code == Some(2) && half.text.contains("`b` has no value"), "{half:?}");
    let nobody = armilla(&["ctl", "--pd", "127.0.0.1:1", "--timeout", "1", "txn", "get", "a"]);
    assert!(nobody.code == Some(1) && nobody.text.contains("--pd"), "{nobody:?}");
}

#[test]
fn replicas_serve_what_there_was() {
    let (_cluster, pd) = cluster();
    let pd = &pd;
    ctl(pd, &["txn", "put", "a", "old", "\\xf0", "far"]);
    std::thread::sleep(Duration::from_secs(3));
    ctl(pd, &["txn", "put", "a", "new"]);
    ctl(pd, &["txn", "delete", "\\xf0"]);
    // Each asks another replica.
    for _ in 0..6 {
        assert_eq!(ctl(pd, &["txn", "get", "a", "--ago", "0"]), "new");
        assert_eq!(ctl(pd, &["txn", "get", "a", "--ago", "2"]), "old");
        let then = ctl_json(pd, &["txn", "scan", "--ago", "2"]);
        let keys: Vec<_> = then["pairs"].as_array().into_iter().flatten().map(|pair| pair["key"].clone()).collect();
        assert_eq!((keys.len(), &keys[0]), (2, &json!("a")), "{then}");
    }
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "a", "--ago", "3600"]).code, Some(1));
    let never = armilla(&["ctl", "--pd", pd, "txn", "get", "a", "--ago=-1"]);
    assert!(never.code == Some(2) && never.text.contains("0 or more"), "{never:?}");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (safe, now, by_any) = runtime.block_on(async {
        let Env { net, clock, .. } = Env::real();
        let client = PdClient::new(net.clone(), clock.clone(), pd.split(',').map(str::to_owned).collect());
        let raw = RawClient::new(client.clone(), net, clock, Rng::new(7), RawOptions::default());
        let client_of_txns = TxnClient::new(raw);
        let safe = client_of_txns.safe_ts().await.expect("all stores answer");
        let now = client.tso(1).await.expect("a timestamp");
        let mut by_any = Vec::new();
        for _ in 0..6 {
            let txn = client_of_txns.reading_anywhere().begin(TxnOptions::default()).await.expect("it begins");
            by_any.push(txn.get(&Bytes::from("a")).await.expect("it is read"));
        }
        (safe, now, by_any)
    });
    assert!(safe < now && now.physical_ms() - safe.physical_ms() < 60_000, "{safe} {now}");
    assert_eq!(by_any, vec![Some(Bytes::from("new")); 6]);
}

#[test]
fn scans_are_of_one_moment_and_say_where_they_stop() {
    let (_cluster, pd) = cluster();
    let pd = &pd;
    ctl(pd, &["txn", "put", "a", "1", "b", "2", "\\xf0", "3"]);
    let pairs = json!([{ "key": "a", "value": "1" }, { "key": "b", "value": "2" }]);
    let scan = ctl_json(pd, &["txn", "scan", "--limit", "2"]);
    assert_eq!(scan, json!({ "pairs": pairs, "more": true, "next_start_hex": "f0" }));
    assert_eq!(ctl_json(pd, &["txn", "scan", "a", "c"]), json!({ "pairs": pairs, "more": false }));
    assert_eq!(ctl_json(pd, &["txn", "scan", "--prefix", "b"])["pairs"][0]["key"], "b");
    let back = ctl(pd, &["txn", "scan", "--reverse"]);
    let words: Vec<&str> = back.split_whitespace().collect();
    assert_eq!(words, ["KEY", "VALUE", "\\xf0", "3", "b", "2", "a", "1"]);
    let told = ctl_with(pd, &["txn", "scan", "--limit", "1"], "");
    assert!(told.err.contains("`txn scan b`"), "{told:?}");
    ctl(pd, &["txn", "delete", "a", "\\xf0"]);
    assert_eq!(ctl_json(pd, &["txn", "scan"])["pairs"], json!([{ "key": "b", "value": "2" }]));
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "a"]).code, Some(1));
    // Values that do not fit into one message together.
    let file = "v".repeat(60_000);
    for n in 0..20 {
        let written = ctl_with(pd, &["txn", "put", &format!("big{n:02}"), "-"], &file);
        assert_eq!(written.code, Some(0), "{written:?}");
    }
    assert_eq!(ctl_json(pd, &["txn", "scan", "--prefix", "big"])["pairs"].as_array().map(Vec::len), Some(20));
}

#[test]
fn scripts_run_line_by_line() {
    let (_cluster, pd) = cluster();
    let pd = &pd;
    let script = "\
        begin\n\
        put a 1\n\
        put \\xf0 'two words'\n\
        scan ''          # sees its own writes\n\
        commit\n\
        begin pessimistic\n\
        lock a b\n\
        put a 2\n\
        get a\n\
        insert c 3\n\
        delete \\xf0\n\
        commit\n\
        begin\n\
        put a never\n\
        rollback\n\
        begin\n\
        scan a z limit 1 reverse\n\
        commit\n";
    let ran = ctl_with(pd, &["--json", "txn", "run"], script);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran: Value = serde_json::from_slice(&ran.out).expect("JSON");
    let line = |number: u64| {
        let lines = ran["lines"].as_array().expect("a list");
        lines.iter().find(|line| line["line"] == number).unwrap_or_else(|| panic!("no line {number}: {ran}")).clone()
    };
    assert_eq!(line(4)["pairs"].as_array().map(Vec::len), Some(2), "{ran}");
    assert_eq!(line(7)["keys"][0]["value"], "1");
    assert_eq!(line(7)["keys"][1]["found"], false);
    assert_eq!(line(9)["keys"][0]["value"], "2");
    assert!(line(12)["commit_ts"].is_string(), "{ran}");
    assert_eq!(line(15)["rolled_back"], true);
    assert_eq!(line(17)["pairs"][0]["key"], "c");
    assert_eq!(ctl(pd, &["txn", "get", "a"]), "2");
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "\\xf0"]).code, Some(1));

    // A mistake is told before anything is done; a failure ends the script, and undoes its transaction.
    let wrong = ctl_with(pd, &["txn", "run"], "begin\nput a 5\ncommit\nbegin\nput a\n");
    assert!(wrong.code == Some(2) && wrong.err.contains("line 5: `put` needs a key and a value"), "{wrong:?}");
    assert_eq!(ctl(pd, &["txn", "get", "a"]), "2");
    let exists = ctl_with(pd, &["txn", "run"], "begin\nput d 4\ncommit\nbegin\nput e 5\ninsert c 3\ncommit\n");
    assert!(
        exists.code == Some(1) && exists.err.contains("line 7: aborted: a key to be inserted exists"),
        "{exists:?}"
    );
    assert_eq!(ctl(pd, &["txn", "get", "d"]), "4");
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "e"]).code, Some(1));
    assert_eq!(ctl_json(pd, &["locks"])["count"], 0);
}

/// Runs a transaction whose client dies after this many requests.
async fn die_after(client: &TxnClient, requests: u32, ttl_ms: u64, pairs: &[(&'static str, &'static str)]) {
    let options = TxnOptions { ttl_ms, ..TxnOptions::default() };
    let mut txn = client.dying_after(requests).begin(options).await.expect("it has not died yet");
    for (key, value) in pairs {
        txn.put(Bytes::from(*key), Bytes::from(*value));
    }
    txn.commit().await.ok();
}

/// Returns a client for transactions.
fn transactions(cluster: &Cluster) -> TxnClient {
    let env = Env::real();
    let asks = PdClient::new(env.net.clone(), env.clock.clone(), cluster.addrs());
    TxnClient::new(RawClient::new(asks, env.net, env.clock, Rng::new(1), RawOptions::default()))
}

/// Returns a transaction that locked a key for three seconds, four seconds ago.
async fn slow(client: &TxnClient, key: &'static str, heartbeats: bool) -> Txn {
    let options = TxnOptions { pessimistic: true, ttl_ms: 3000, heartbeats, ..TxnOptions::default() };
    let mut txn = client.begin(options).await.expect("a timestamp");
    txn.lock(&Bytes::from(key), false).await.expect("nobody else locks it");
    txn.put(Bytes::from(key), Bytes::from("slow"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    txn
}

#[test]
fn locks_last_as_long_as_their_client_sends_heartbeats() {
    let cluster = Cluster::start(1, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = transactions(&cluster);
        for (key, heartbeats) in [("kept", true), ("lost", false)] {
            let slow = slow(&client, key, heartbeats).await;
            let options = TxnOptions { patience: Duration::from_millis(300), ..TxnOptions::default() };
            let mut other = client.begin(options).await.expect("a timestamp");
            other.put(Bytes::from(key), Bytes::from("other"));
            assert_eq!(other.commit().await.is_ok(), !heartbeats, "{key}: the other transaction");
            let ended = slow.commit().await;
            assert_eq!(ended.is_ok(), heartbeats, "{key}: {ended:?}");
        }
    });
}

#[test]
fn locks_of_the_dead_are_shown_and_finished() {
    // The servers would finish them after some seconds.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("armilla.toml");
    std::fs::write(&config, "[txn]\nend_after_ms = 86400000\n").expect("a file");
    let options = ["--initial-regions", "2", "--config", config.to_str().expect("UTF-8")];
    let cluster = Cluster::start(3, &options);
    let pd = &cluster.addrs().join(",");
    ctl(pd, &["txn", "put", "a", "old", "~", "old"]);
    wait_until("every node knows how to split", || {
        armilla(&["ctl", "--pd", pd, "region", "split", "\\mem{m}"]).code == Some(0)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = transactions(&cluster);
        // Start, prewrite, commit timestamp, primary key: the other key keeps its lock, and is committed.
        die_after(&client, 4, 1, &[("a", "committed"), ("~", "committed")]).await;
        // Start, prewrite: nothing is decided.
        die_after(&client, 2, 1, &[("b", "rolled back"), ("y", "rolled back")]).await;
        die_after(&client, 2, 600_000, &[("alive", "not yet")]).await;
    });

    let locks = ctl_json(pd, &["locks"]);
    let found = locks["locks"].as_array().expect("a list");
    let keys: Vec<&str> = found.iter().map(|lock| lock["key"].as_str().expect("text")).collect();
    assert_eq!((keys, &locks["count"], &locks["more"]), (vec!["~", "b", "y", "alive"], &4.into(), &false.into()));
    assert_eq!(
        (&found[0]["primary"], &found[0]["type"], &found[0]["expired"]),
        (&"a".into(), &"put".into(), &true.into())
    );
    assert_eq!((&found[3]["ttl_ms"], &found[3]["expired"]), (&600_000.into(), &false.into()));
    assert!(found[0]["region"] != found[1]["region"], "{locks}");
    let region = found[1]["region"].to_string();
    assert_eq!(ctl_json(pd, &["locks", "--region", &region])["count"], 2, "b and alive");
    assert_eq!(ctl_json(pd, &["locks", "m", "z"])["locks"][0]["key"], "y");
    let table = ctl_with(pd, &["locks", "--limit", "1"], "");
    let text = String::from_utf8_lossy(&table.out).into_owned();
    assert!(
        text.contains("(expired)") && text.lines().count() == 2 && table.err.contains("there are 4 locks"),
        "{text}"
    );

    let before = ctl_json(pd, &["mvcc", "~"]);
    assert_eq!((&before["lock"]["type"], &before["lock"]["value"]), (&"put".into(), &"committed".into()));
    assert_eq!(before["versions"][0]["value"], "old");
    let part = ctl_json(pd, &["resolve", "--region", &region]);
    assert_eq!(part, json!({ "committed": 0, "rolled_back": 1, "alive": 1 }));
    let rest = ctl(pd, &["resolve"]);
    assert_eq!(rest.trim(), "locks: 1 committed, 1 rolled back, 1 of transactions that are alive");
    assert_eq!(ctl_json(pd, &["locks"])["count"], 1);
    assert_eq!(ctl(pd, &["txn", "get", "~"]), "committed");
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "b"]).code, Some(1));

    let after = ctl_json(pd, &["mvcc", "~"]);
    let versions = after["versions"].as_array().expect("a list");
    assert!(after["lock"].is_null() && versions.len() == 2, "{after}");
    assert_eq!((&versions[0]["value"], &versions[1]["value"]), (&"committed".into(), &"old".into()));
    assert!(
        versions[0]["commit_utc"].as_str().is_some_and(|time| time.starts_with("20") && time.len() == 23),
        "{after}"
    );
    let start = versions[0]["start_ts"].as_str().expect("text");
    let written = ctl_json(pd, &["mvcc", "--start-ts", start]);
    let keys: Vec<&Value> = written["keys"].as_array().expect("a list").iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["a", "~"]);
    let table = ctl(pd, &["mvcc", "~"]);
    assert!(table.contains("COMMITTED (UTC)") && table.contains("put"), "{table}");
    assert_eq!(ctl_json(pd, &["mvcc", "b"])["versions"][0]["type"], "rollback");
    let nothing = armilla(&["ctl", "--pd", pd, "mvcc", "nothing"]);
    assert!(nothing.code == Some(1) && nothing.text.contains("no lock and no version"), "{nothing:?}");
}

#[test]
fn old_versions_go_and_dead_clients_are_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("armilla.toml");
    let text = "[pd]\nkeep_versions_ms = 1500\nsafe_point_step_ms = 300\n[txn]\nend_after_ms = 100\n";
    std::fs::write(&config, text).expect("a file");
    let cluster = Cluster::start(3, &["--initial-regions", "2", "--config", config.to_str().expect("UTF-8")]);
    let pd = &cluster.addrs().join(",");
    let long = "x".repeat(400);
    for n in 0..5 {
        ctl(pd, &["txn", "put", "a", &n.to_string(), "\\xf0", &format!("{long}{n}"), "gone", "soon"]);
    }
    ctl(pd, &["txn", "delete", "gone"]);
    assert_eq!(ctl_json(pd, &["mvcc", "gone"])["versions"][0]["type"], "delete");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = transactions(&cluster);
        die_after(&client, 4, 1, &[("b", "committed"), ("~", "committed")]).await;
        die_after(&client, 2, 1, &[("c", "rolled back"), ("y", "rolled back")]).await;
    });
    let count = |key: &str| ctl_json(pd, &["mvcc", key])["versions"].as_array().map_or(0, Vec::len);
    wait_until("old versions are removed", || count("a") == 1 && count("\\xf0") == 1);
    wait_until("a deletion goes when nothing is left below it", || {
        armilla(&["ctl", "--pd", pd, "mvcc", "gone"]).code == Some(1)
    });
    wait_until("the locks of dead clients are ended", || ctl_json(pd, &["locks"])["count"] == 0);
    assert_eq!(ctl(pd, &["txn", "get", "a"]), "4");
    assert_eq!(ctl(pd, &["txn", "get", "\\xf0"]), format!("{long}4"));
    assert_eq!(ctl(pd, &["txn", "get", "~"]), "committed");
    assert_eq!(armilla(&["ctl", "--pd", pd, "txn", "get", "c"]).code, Some(1));
    let gc = ctl_json(pd, &["gc"]);
    let number = |name: &str| gc[name].as_u64().expect("a number");
    assert!(number("txn_safe_point") >= number("collected_safe_point") && number("collected_safe_point") > 0, "{gc}");
    assert_eq!((&gc["keep_versions_ms"], &gc["barriers"]), (&1500.into(), &json!([])));
    let held: u64 = ctl_json(pd, &["gc", "hold", "backup", "--for", "600"])["timestamp"]
        .as_str()
        .expect("text")
        .parse()
        .expect("a number");
    ctl(pd, &["txn", "put", "a", "5"]);
    ctl(pd, &["txn", "put", "later", "1"]);
    ctl(pd, &["txn", "put", "later", "2"]);
    wait_until("the safe point moves up to the barrier", || {
        ctl_json(pd, &["gc"])["collected_safe_point"].as_u64() == Some(held)
    });
    assert_eq!(count("a"), 2, "what could be read then is kept");
    assert_eq!(ctl_json(pd, &["gc"])["barriers"][0]["name"], "backup");
    assert!(ctl(pd, &["gc", "release", "backup"]).contains(&held.to_string()));
    wait_until("the rest goes after the release", || count("a") == 1);
    assert_eq!(armilla(&["ctl", "--pd", pd, "gc", "release", "backup"]).code, Some(1));
    let text = ctl(pd, &["gc"]);
    assert!(text.contains("Versions are kept for") && text.contains("1.5 s"), "{text}");
}

/// Returns the sum of a metric over all nodes. `name` includes the labels.
fn metric(cluster: &Cluster, name: &str) -> f64 {
    let one = |addr: &String| {
        let page = http(addr, "GET", "/metrics", "").expect("an answer").1;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name}:\n{page}"))
    };
    cluster.addrs().iter().map(one).sum()
}

#[test]
fn bench_runs_transactions_and_metrics_follow() {
    let (cluster, pd) = cluster();
    let pd = &pd;
    let base = ["bench", "--pd", pd, "--clients", "8", "--warmup", "50ms", "--duration", "400ms", "--json"];
    let bench = |args: &[&str]| -> Value {
        let finished = armilla(&[&base[..], args].concat());
        assert_eq!(finished.code, Some(0), "{args:?}: {finished:?}");
        serde_json::from_str(&finished.text).unwrap_or_else(|error| panic!("{error}: {}", finished.text))
    };
    for mode in ["optimistic", "pessimistic"] {
        for workload in ["txn-put", "txn-get", "txn-insert", "txn-rmw", "txn-transfer", "txn-scan"] {
            let keys: &[&str] = if workload == "txn-insert" { &["20000", "--no-preload"] } else { &["300"] };
            let report = bench(&[&["--workload", workload, "--mode", mode, "--clean", "--keys"], keys].concat());
            assert!(report["ops"].as_u64().is_some_and(|ops| ops > 0), "{report}");
            assert_eq!((&report["mode"], &report["errors"]), (&mode.into(), &0.into()), "{report}");
            assert_eq!(ctl_json(pd, &["txn", "scan"])["pairs"], json!([]), "it has removed its keys");
        }
    }
    // A few keys that all want.
    let report = bench(&["--workload", "txn-rmw", "--keys", "2", "--distribution", "zipfian", "--clean"]);
    assert!(report["retries"].as_u64().is_some_and(|retries| retries > 0), "{report}");
    assert!(report["conflicts"].as_u64().is_some_and(|conflicts| conflicts > 0), "{report}");
    // All keys are there long before the time is over.
    let all = ["bench", "--pd", pd, "--workload", "txn-insert", "--keys", "100", "--warmup", "0s", "--duration", "1m"];
    let all = armilla(&all);
    assert_eq!(all.code, Some(0), "{all:?}");
    assert_eq!(ctl_json(pd, &["txn", "scan", "--limit", "1000"])["pairs"].as_array().map(Vec::len), Some(100));
    let removed = armilla(&["bench", "--pd", pd, "--workload", "txn-clean", "--keys", "100"]);
    assert!(removed.code == Some(0) && removed.text.contains("removed the 100 keys"), "{removed:?}");
    assert_eq!(ctl_json(pd, &["txn", "scan"])["pairs"], json!([]));
    let refused = armilla(&["bench", "--pd", pd, "--workload", "txn-put", "--batch"]);
    assert!(refused.code == Some(2) && refused.text.contains("--batch"), "{refused:?}");

    assert!(metric(&cluster, "armilla_txn_key_errors_total{kind=\"write_conflict\"}") > 0.0);
    assert!(metric(&cluster, "armilla_txn_latch_wait_seconds_count") > 0.0);
    assert_eq!(metric(&cluster, "armilla_txn_key_errors_total{kind=\"assertion_failed\"}"), 0.0);
    metric(&cluster, "armilla_txn_deadlocks_total");
    wait_until("no request waits, and no lock stands in memory", || {
        metric(&cluster, "armilla_txn_lock_waiters") + metric(&cluster, "armilla_txn_locks_in_memory") == 0.0
    });
}
