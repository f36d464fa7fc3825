//! Keyspaces: crates.io's `tikv-client` in a cluster with API version 2, raw and transactional, in two keyspaces whose
//! keys are the same, and the commands of `armilla ctl` beside it.

use std::process::Command;
use std::time::Duration;

use tikv_client::{BoundRange, Config, Key, KvPair, RawClient, TransactionClient};

use super::common::{Cluster, binary, free_port, http, run, starts, wait_until};
use super::{runtime, steadfast, turn};

fn pairs(found: Vec<KvPair>) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    found.into_iter().map(|pair| (text(Vec::from(Key::clone(pair.key()))), text(pair.into_value()))).collect()
}

fn named(from: usize, to: usize, value: &str) -> Vec<(String, String)> {
    (from..to).map(|n| (format!("k{n:02}"), format!("{value} {n}"))).collect()
}

fn ctl(cluster: &Cluster, args: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(["ctl", "--pd", cluster.addr(0)]).args(args);
    let ended = run(command, Duration::from_secs(60));
    assert_eq!(ended.code, Some(0), "ctl {args:?}: {}", ended.text);
    ended.text
}

/// Calls raw requests over several regions.
async fn every_raw_call(client: &RawClient, value: &str) {
    for (key, value) in named(0, 20, value) {
        client.put(key, value).await.expect("put");
    }
    assert_eq!(client.get("k07".to_owned()).await.expect("get"), Some(format!("{value} 7").into_bytes()));
    let keys = ["k03", "none", "k17"].map(str::to_owned);
    let mut found = pairs(client.batch_get(keys).await.expect("batch_get"));
    found.sort();
    assert_eq!(found, [named(3, 4, value), named(17, 18, value)].concat());
    let range = |from: &str, to: &str| -> BoundRange { (from.to_owned()..to.to_owned()).into() };
    assert_eq!(pairs(client.scan(range("k05", "k15"), 100).await.expect("scan")), named(5, 15, value));
    let all: BoundRange = (..).into();
    assert_eq!(pairs(client.scan(all, 100).await.expect("scan of everything")), named(0, 20, value));
    // The crate asks the region of the lower end for all of the range: it must be in one region.
    let mut down = pairs(client.scan_reverse(range("k05", "k09"), 100).await.expect("scan_reverse"));
    down.reverse();
    assert_eq!(down, named(5, 9, value));
    client.delete_range(range("k10", "k12")).await.expect("delete_range");
    client.batch_delete(["k12", "k13"].map(str::to_owned)).await.expect("batch_delete");
    let left = pairs(client.scan(range("k08", "k16"), 100).await.expect("scan"));
    assert_eq!(left, [named(8, 10, value), named(14, 16, value)].concat());
    client.batch_put(named(10, 14, value)).await.expect("batch_put");
    let atomic = client.with_atomic_for_cas();
    let swap = |previous: &str, new: &str| {
        atomic.compare_and_swap("k00".to_owned(), Some(previous.as_bytes().to_vec()), new.to_owned())
    };
    assert!(!swap("other", "new").await.expect("compare_and_swap").1);
    assert!(swap(&format!("{value} 0"), "new").await.expect("compare_and_swap").1);
    atomic.put("k00".to_owned(), format!("{value} 0")).await.expect("put");
}

/// Commits transactions over several regions.
async fn every_transaction(client: &TransactionClient, value: &str) {
    let mut txn = client.begin_optimistic().await.expect("begin");
    for (key, value) in named(0, 20, value) {
        txn.put(key, value).await.expect("put");
    }
    txn.commit().await.expect("commit");
    let mut txn = client.begin_pessimistic().await.expect("begin");
    let seen = txn.get_for_update("k07".to_owned()).await.expect("get_for_update");
    assert_eq!(seen, Some(format!("{value} 7").into_bytes()));
    let found: Vec<KvPair> = txn.scan("k05".to_owned().."k15".to_owned(), 100).await.expect("scan").collect();
    assert_eq!(pairs(found), named(5, 15, value));
    txn.delete("k07".to_owned()).await.expect("delete");
    txn.commit().await.expect("commit");
    let mut txn = client.begin_optimistic().await.expect("begin");
    assert_eq!(txn.get("k07".to_owned()).await.expect("get"), None);
    txn.rollback().await.expect("rollback");
}

#[test]
fn crate_tikv_client_in_keyspaces() {
    let _turn = turn();
    let runtime = runtime();
    let cluster = Cluster::start(3, &["--api-version", "2", "--split-keys", "k05,k10"]);
    let first = starts(&runtime, &cluster).len();
    assert_eq!(first, 1 + 4 + 2 * 2 + 1, "the boundaries of the keyspace DEFAULT, and two keys of each mode");
    let created = ctl(&cluster, &["keyspace", "create", "mine"]);
    assert!(created.contains("mine") && created.contains("enabled"), "{created}");
    ctl(&cluster, &["--keyspace", "mine", "region", "split", "k09"]);
    // Two more boundaries for the keyspace, and one key of each mode.
    wait_until("the placement driver knows the new regions", || starts(&runtime, &cluster).len() == first + 2 + 2);
    let raw = |config: Config| {
        let addrs = cluster.addrs();
        async move { RawClient::new_with_config(addrs, config).await }
    };
    let txn = |config: Config| {
        let addrs = cluster.addrs();
        async move { TransactionClient::new_with_config(addrs, config).await }
    };
    let (one, other) = (|| Config::default().with_default_keyspace(), || Config::default().with_keyspace("mine"));
    runtime.block_on(async {
        let raws = [
            (steadfast("connect", || raw(one())).await, "default"),
            (steadfast("connect", || raw(other())).await, "mine"),
        ];
        let txns = [
            (steadfast("connect", || txn(one())).await, "default txn"),
            (steadfast("connect", || txn(other())).await, "mine txn"),
        ];
        for (client, value) in &raws {
            every_raw_call(client, value).await;
        }
        for (client, value) in &txns {
            every_transaction(client, value).await;
        }
        // None of the four sees another one's keys.
        for (client, value) in &raws {
            let all: BoundRange = (..).into();
            assert_eq!(pairs(client.scan(all, 100).await.expect("scan")), named(0, 20, value));
        }
        for (client, value) in &txns {
            let mut txn = client.begin_optimistic().await.expect("begin");
            let found: Vec<KvPair> = txn.scan(.., 100).await.expect("scan").collect();
            assert_eq!(pairs(found), [named(0, 7, value), named(8, 20, value)].concat());
            txn.rollback().await.expect("rollback");
        }
        let missing = raw(Config::default().with_keyspace("missing")).await.err().expect("there is no such keyspace");
        assert!(["exist", "missing"].iter().any(|word| format!("{missing:?}").contains(word)), "{missing:?}");
        let old = steadfast("connect", || raw(Config::default())).await;
        let refused = old.put("k".to_owned(), "v".to_owned()).await.unwrap_err();
        assert!(format!("{refused:?}").contains("serves version 2"), "{refused:?}");
    });
    commands(&cluster);
}

/// Looks at the same keys with `armilla ctl`, and at the keyspaces by HTTP.
fn commands(cluster: &Cluster) {
    assert_eq!(ctl(cluster, &["get", "k03"]), "default 3");
    assert_eq!(ctl(cluster, &["--keyspace", "mine", "get", "k03"]), "mine 3");
    assert_eq!(ctl(cluster, &["--keyspace", "mine", "count"]).trim(), "20");
    assert!(ctl(cluster, &["--keyspace", "mine", "txn", "get", "k03"]).contains("mine txn 3"));
    assert!(ctl(cluster, &["mvcc", "k03"]).contains("default txn 3"));
    assert!(ctl(cluster, &["txn", "scan", "--limit", "3"]).contains("k02"));
    assert!(ctl(cluster, &["keyspace", "list"]).contains("DEFAULT"));
    let (head, body) = http(cluster.addr(1), "GET", "/pd/api/v2/keyspaces/mine", "").expect("an answer");
    assert!(head.contains("200") && body.contains("\"ENABLED\""), "{head}\n{body}");
    let (head, body) = http(cluster.addr(1), "POST", "/pd/api/v2/keyspaces", r#"{"name":"third"}"#).expect("an answer");
    assert!(head.contains("200") && body.contains("\"third\""), "{head}\n{body}");
    let (_, body) = http(cluster.addr(2), "GET", "/pd/api/v1/regions/keyspace/id/2", "").expect("an answer");
    assert!(body.starts_with("{\"count\":2"), "regions of their own: {body}");
    // A node that is configured for the other version does not join.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(binary());
    command.args(["start", "--name", "n9", "--addr", &format!("127.0.0.1:{}", free_port())]);
    command.args(["--join", cluster.addr(0), "--api-version", "1"]).arg("--data").arg(elsewhere.path());
    let refused = run(command, Duration::from_secs(60));
    assert!(refused.code != Some(0) && refused.text.contains("api_version is 1"), "{}", refused.text);
}
