//! PD's HTTP interface, as `pd-ctl` uses it, against real nodes.
//!
//! **Goal**: a node that does not lead the placement driver answers with the leader's real state, in PD's form; changes
//! take effect; bad requests get PD's errors and leave the node in service. **Method**: plain HTTP to such a node, and
//! a look at what became of each change.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use common::{Cluster, http, wait_until};
use serde_json::{Value, json};

/// Returns the status, the head and the body.
fn ask(addr: &str, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let answer = http(addr, method, &format!("/pd/api/v1/{path}"), body);
    let (head, body) = answer.unwrap_or_else(|| panic!("no answer to {method} {path}"));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head, body)
}

fn get(addr: &str, path: &str) -> Value {
    let (status, _, body) = ask(addr, "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Asks for something whose answer is a JSON string.
fn told(addr: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let (status, _, answer) = ask(addr, method, path, body);
    let text: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"));
    (status, text.as_str().unwrap_or_else(|| text["msg"].as_str().expect("a text")).to_owned())
}

/// Returns the address of a node that does not lead the placement driver, and its name.
fn follower(cluster: &Cluster) -> (String, String) {
    let leader = get(cluster.addr(0), "leader")["name"].as_str().expect("a name").to_owned();
    let node = (0..3).find(|node| format!("n{}", node + 1) != leader).expect("another node");
    (cluster.addr(node).to_owned(), format!("n{}", node + 1))
}

/// Returns the store that leads a region; 0 if none does.
fn leader_of(addr: &str, region: u64) -> u64 {
    get(addr, &format!("region/id/{region}"))["leader"]["store_id"].as_u64().unwrap_or(0)
}

fn reads(cluster: &Cluster, addr: &str) {
    let members = get(addr, "members");
    assert_eq!(members["members"].as_array().map(Vec::len), Some(3));
    assert!(members["header"]["cluster_id"].as_u64().is_some_and(|id| id > 0));
    wait_until("all members are healthy", || {
        get(addr, "health").as_array().expect("a list").iter().all(|member| member["health"] == true)
    });
    assert_eq!(get(addr, "cluster")["max_peer_count"], 3);
    assert_eq!(get(addr, "cluster/status")["is_initialized"], true);

    wait_until("all stores are up", || get(addr, "stores/check?state=up")["count"] == 3);
    let stores = get(addr, "stores");
    let mut addresses: Vec<&str> = stores["stores"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["store"]["address"].as_str().expect("text"))
        .collect();
    addresses.sort_unstable();
    let mut wanted = cluster.addrs();
    wanted.sort();
    assert_eq!(addresses, wanted);
    let store = get(addr, "store/1");
    assert!(store["status"]["capacity"].as_str().is_some_and(|text| text.ends_with("iB")), "{store}");
    assert!(store["status"]["region_count"].as_u64().is_some_and(|count| count > 0), "{store}");

    let (_, head, body) = ask(addr, "GET", "regions/key?limit=0", "");
    assert!(head.to_lowercase().contains("content-type: application/octet-stream"), "{head}");
    let regions: Value = serde_json::from_str(&body).expect("JSON");
    let regions = regions["regions"].as_array().expect("a list");
    assert_eq!(regions.len() as u64, get(addr, "regions/count")["count"].as_u64().expect("a number"));
    assert_eq!((&regions[0]["start_key"], &regions[regions.len() - 1]["end_key"]), (&"".into(), &"".into()));
    for pair in regions.windows(2) {
        assert_eq!(pair[0]["end_key"], pair[1]["start_key"], "regions follow each other");
    }
    let start = regions[1]["start_key"].as_str().expect("hex");
    let encoded: String =
        start.as_bytes().chunks(2).map(|pair| format!("%{}", String::from_utf8_lossy(pair))).collect();
    assert_eq!(get(addr, &format!("region/key/{encoded}"))["id"], regions[1]["id"]);
    assert_eq!(get(addr, &format!("region/key/{start}?format=hex"))["id"], regions[1]["id"]);
    assert_eq!(get(addr, "regions/range-holes"), json!([]));
    assert_eq!(get(addr, "stats/region")["count"], regions.len());
    assert_eq!(
        get(addr, "schedulers"),
        json!(["balance-hot-region-scheduler", "balance-leader-scheduler", "balance-region-scheduler"])
    );
}

fn errors(addr: &str) {
    let not_found = |what: &str| format!("[PD:core:ErrStoreNotFound]store {what} not found");
    for (method, path, body, status, why) in [
        ("GET", "store/99", "", 404, not_found("99")),
        ("GET", "store/abc", "", 400, "strconv.ParseUint: parsing \"abc\": invalid syntax".into()),
        ("DELETE", "store/99", "", 404, not_found("99")),
        ("POST", "store/1/state?state=foo", "", 400, "invalid state foo".into()),
        ("POST", "operators", "{}", 400, "missing operator name".into()),
        ("POST", "operators", "x", 400, "invalid character 'x' looking for beginning of value".into()),
        ("GET", "operators/7", "", 500, "[PD:operator:ErrOperatorNotFound]operator not found".into()),
        ("POST", "leader/transfer/nobody", "", 500, "no valid pd to transfer etcd leader".into()),
        ("DELETE", "members/name/nobody", "", 404, "not found, pd: nobody".into()),
        ("GET", "checker/priority", "", 500, "[PD:checker:ErrCheckerNotFound]checker not found".into()),
        ("POST", "checker/merge", "{}", 400, "missing pause time".into()),
        ("POST", "checker/merge", r#"{"delay":-5}"#, 400, "delay cannot be negative".into()),
        (
            "POST",
            "checker/merge",
            r#"{"delay":"x"}"#,
            400,
            "json: cannot unmarshal string into Go value of type int".into(),
        ),
    ] {
        assert_eq!(told(addr, method, path, body), (status, why), "{method} {path}");
    }
    let (status, why) = told(addr, "DELETE", "store/1", "");
    let expected = "can not remove store 1 since the number of up stores would be 2 while need 3";
    assert!(status == 400 && why.ends_with(expected), "{status} {why}");
    let (status, _, body) = ask(addr, "GET", "nothing", "");
    assert_eq!((status, &body[..]), (404, "404 page not found\n"));
    assert_eq!(ask(addr, "PUT", "stores", "").0, 405);
    assert_eq!(told(addr, "GET", "regions/cpu", "").0, 501);
    assert_eq!(ask(addr, "GET", "region/key/%zz", "").0, 400);
    assert_eq!(ask(addr, "POST", "operators", &"[".repeat(200_000)).0, 400, "deep JSON");
    assert_eq!(ask(addr, "POST", "operators", &"x".repeat((1 << 20) + 1)).0, 413, "a body that is too long");
    assert_eq!(get(addr, "stores")["count"], 3, "the node still answers");
}

/// Stores are added to a scheduler and taken from it, as `pd-ctl scheduler` does.
fn schedulers(addr: &str) {
    let evict = |store: u64| json!({ "name": "evict-leader-scheduler", "store_id": store }).to_string();
    let of = "scheduler-config/evict-leader-scheduler";
    let mut answer = (0, String::new());
    wait_until("every node knows settings", || {
        answer = told(addr, "POST", "schedulers", &evict(1));
        !answer.1.contains("cannot be changed while the cluster runs yet")
    });
    assert_eq!(answer, (200, "The scheduler is created.".into()));
    let applied = (200, "The scheduler has been applied to the store.".into());
    assert_eq!(told(addr, "POST", &format!("{of}/config"), &evict(2)), applied);
    let all = json!([{ "start-key": "", "end-key": "" }]);
    assert_eq!(get(addr, &format!("{of}/list")), json!({ "store-id-ranges": { "1": all, "2": all } }));
    let absent = (404, "[PD:scheduler:ErrScheduleConfigNotExist]the config does not exist".into());
    assert_eq!(told(addr, "DELETE", &format!("{of}/delete/3"), ""), absent);
    assert_eq!(ask(addr, "DELETE", &format!("{of}/delete/2"), "").2.trim(), "null");
    let last = (200, "The last store has been deleted".into());
    assert_eq!(told(addr, "DELETE", &format!("{of}/delete/1"), ""), last);
    assert_eq!(ask(addr, "GET", &format!("{of}/list"), "").0, 404);

    let pause = json!({ "delay": 60 }).to_string();
    assert_eq!(told(addr, "POST", "schedulers/balance-leader-scheduler", &pause).0, 200);
    assert_eq!(get(addr, "schedulers/diagnostic/balance-leader-scheduler")["status"], "paused");
    assert_eq!(told(addr, "POST", "schedulers/balance-leader-scheduler", r#"{"delay":0}"#).0, 200);
    assert_eq!(get(addr, "schedulers/diagnostic/balance-leader-scheduler")["status"], "normal");

    let mut answer = (0, String::new());
    wait_until("every node knows the schedulers that shuffle", || {
        answer = told(addr, "POST", "schedulers", r#"{"name":"shuffle-leader-scheduler"}"#);
        !answer.1.contains("cannot be added yet")
    });
    assert_eq!(answer, (200, "The scheduler is created.".into()));
    let running = get(addr, "schedulers");
    assert!(running.as_array().is_some_and(|all| all.contains(&"shuffle-leader-scheduler".into())), "{running}");
    let removed = (200, "The scheduler is removed.".into());
    assert_eq!(told(addr, "DELETE", "schedulers/shuffle-leader-scheduler", ""), removed);
}

#[test]
fn a_node_that_does_not_lead_answers_as_the_leader() {
    let mut cluster = Cluster::start(3, &["--initial-regions", "2"]);
    let (addr, name) = follower(&cluster);
    reads(&cluster, &addr);
    errors(&addr);

    // A leader moves.
    let region = get(&addr, "regions/key?limit=1")["regions"][0].clone();
    let id = region["id"].as_u64().expect("an ID");
    wait_until("the region has a leader", || leader_of(&addr, id) != 0);
    let to = 1 + leader_of(&addr, id) % 3;
    let body = json!({ "name": "transfer-leader", "region_id": id, "to_store_id": to }).to_string();
    assert_eq!(told(&addr, "POST", "operators", &body), (200, "The operator is created.".into()));
    wait_until("the leader has moved", || leader_of(&addr, id) == to);
    wait_until("the operator ends", || {
        let (_, text) = told(&addr, "GET", &format!("operators/{id}"), "");
        text.starts_with("status: SUCCESS, operator: admin-transfer-leader {transfer leader: store ")
    });
    let records = get(&addr, "operators/records");
    assert!(records.as_array().is_some_and(|all| !all.is_empty()), "{records}");
    let body = json!({ "name": "transfer-leader", "region_id": id, "to_store_id": 99 }).to_string();
    assert_eq!(told(&addr, "POST", "operators", &body), (500, "region has no voter in store 99".into()));

    // Labels.
    let mut answer = (0, String::new());
    wait_until("every node knows labels", || {
        answer = told(&addr, "POST", "store/2/label", r#"{"zone":"z1","host":"h2"}"#);
        !answer.1.contains("cannot be set yet")
    });
    assert_eq!(answer, (200, "The store's label is updated.".into()));
    assert_eq!(get(&addr, "labels/stores?name=zone&value=z1")["stores"][0]["store"]["id"], 2);
    let deleted = (200, "The label zone is deleted for store 2.".into());
    assert_eq!(told(&addr, "DELETE", "store/2/label", "\"zone\""), deleted);
    assert_eq!(get(&addr, "labels"), json!([{ "key": "host", "value": "h2" }]));
    let (status, why) = told(&addr, "POST", "store/2/label", r#"{"zo ne":"z1"}"#);
    assert!(status == 400 && why.starts_with("zo ne does not match format"), "{status} {why}");

    schedulers(&addr);

    // Regions are split, at keys in the form in which stores have them.
    let body = json!({ "split_keys": ["41", "42ff"] }).to_string();
    wait_until("every node knows how to split", || {
        let (status, _, body) = ask(&addr, "POST", "regions/split", &body);
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, 200, "{answer}");
        answer["processed-percentage"] == 100 && answer["regions-id"].as_array().map(Vec::len) == Some(2)
    });
    // Each piece is reported by its own leader.
    wait_until("the placement driver knows the pieces", || {
        get(&addr, "region/key/B%FF")["start_key"] == "42FF" && get(&addr, "region/key/B")["start_key"] == "41"
    });
    let id = get(&addr, "region/key/B")["id"].as_u64().expect("an ID");
    wait_until("the piece has a leader", || leader_of(&addr, id) != 0);
    let split = json!({ "name": "split-region", "region_id": id, "policy": "usekey", "keys": ["4180"] }).to_string();
    assert_eq!(told(&addr, "POST", "operators", &split), (200, "The operator is created.".into()));
    wait_until("the region was split", || get(&addr, "region/key/A%80")["start_key"] == "4180");

    // The placement driver's own leader moves to the node that is asked.
    assert_eq!(
        told(&addr, "POST", &format!("leader/transfer/{name}"), ""),
        (200, "The transfer command is submitted.".into())
    );
    wait_until("the node leads the placement driver", || {
        let (status, _, body) = ask(&addr, "GET", "leader", "");
        status == 200 && body.contains(&format!("\"name\": \"{name}\""))
    });
    cluster.assert_alive();
}

#[test]
fn a_store_leaves_and_a_replica_moves() {
    let mut cluster = Cluster::start(3, &[]);
    let node = cluster.join();
    let (addr, _) = follower(&cluster);
    wait_until("the fourth store is up", || get(&addr, "stores/check?state=up")["count"] == 4);
    let fourth = get(&addr, "stores")["stores"]
        .as_array()
        .and_then(|stores| stores.iter().find(|store| store["store"]["address"] == cluster.addr(node)))
        .and_then(|store| store["store"]["id"].as_u64())
        .expect("the fourth store");

    // The fourth node has no member of the placement driver, and answers all the same.
    assert_eq!(get(cluster.addr(node), "members")["members"].as_array().map(Vec::len), Some(3));

    let region = get(&addr, "regions/key?limit=1")["regions"][0]["id"].as_u64().expect("an ID");
    let peers = || {
        let peers = get(&addr, &format!("region/id/{region}"))["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().filter(|p| p["role_name"] == "Voter").filter_map(|p| p["store_id"].as_u64()).collect::<Vec<_>>()
    };
    if !peers().contains(&fourth) {
        let from = peers()[0];
        let ids = json!({ "region_id": region, "from_store_id": from, "to_store_id": fourth });
        let mut body = ids.clone();
        body["name"] = "transfer-peer".into();
        let mut answer = (0, String::new());
        wait_until("every node knows how to move replicas", || {
            answer = told(&addr, "POST", "operators", &body.to_string());
            !answer.1.contains("cannot be moved yet")
        });
        // The scheduler may have had the same idea.
        assert!(answer.0 == 200 || peers().contains(&fourth), "{answer:?}");
        wait_until("the replica has arrived", || peers().contains(&fourth));
    }

    // A removal is taken back. Meanwhile nothing leaves: the checker that moves replicas is paused.
    let path = format!("store/{fourth}");
    let paused = |delay: u64| told(&addr, "POST", "checker/rule", &json!({ "delay": delay }).to_string());
    assert_eq!(paused(600), (200, "Pause the checker successfully.".into()));
    assert_eq!(get(&addr, "checker/rule"), json!({ "paused": true }));
    let mut answer = (0, String::new());
    assert_eq!(told(&addr, "DELETE", &path, "").0, 200);
    assert_eq!(get(&addr, &path)["store"]["state"], 1);
    wait_until("every node knows how to take a removal back", || {
        answer = told(&addr, "POST", &format!("{path}/state?state=Up"), "");
        !answer.1.contains("cannot be taken back yet")
    });
    assert_eq!(answer, (200, "The store's state is updated.".into()));
    assert_eq!(get(&addr, &path)["store"]["state_name"], "Up");
    assert!(peers().contains(&fourth), "its replica stays");
    assert_eq!(paused(0), (200, "Resume the checker successfully.".into()));
    assert_eq!(get(&addr, "checker/rule"), json!({ "paused": false }));

    assert_eq!(told(&addr, "DELETE", &path, ""), (200, "The store is set as Offline.".into()));
    let (state, node_state) =
        (get(&addr, &path)["store"]["state"].clone(), get(&addr, &path)["store"]["node_state"].clone());
    assert!(state == 1 && node_state == 2 || state == 2, "{state} {node_state}");
    wait_until("the store has no replica any more", || get(&addr, &path)["store"]["state_name"] == "Tombstone");
    let removed = (410, format!("[PD:core:ErrStoreRemoved]store {fourth} has been removed"));
    assert_eq!(told(&addr, "DELETE", &path, ""), removed);
    assert_eq!(get(&addr, "stores")["count"], 3, "without the removed one");
    assert_eq!(get(&addr, "stores?state=2")["count"], 1);

    // The others are needed.
    let (status, why) = told(&addr, "DELETE", "store/1", "");
    assert!(status == 400 && why.contains("since the number of up stores would be 2 while need 3"), "{status} {why}");
}
