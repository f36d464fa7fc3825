//! Members, stores, regions, checks, operators and configuration: one document of each, and the errors.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::pd::cluster::{ClusterOptions, RegionInfo};
use crate::pd::operators::{Action, Operator, Outcome};
use crate::pd::view::{MemberView, RegionView, StoreView, View};
use crate::proto::armilla::pd::SchedulerKind::{BalanceHotRegion, BalanceLeader};
use crate::proto::armilla::pd::{Barrier, RegionLoad, Scheduler, SchedulerKind, Settings};
use crate::proto::keyspacepb::{KeyspaceMeta, KeyspaceState};
use crate::proto::metapb::{NodeState, Peer, PeerRole, Region, RegionEpoch, Store, StoreLabel, StoreState};
use crate::proto::pdpb::{Member, PeerStats};
use crate::service::pd_http::answer::{Answer, Answered};
use crate::service::pd_http::keyspaces;
use crate::service::pd_http::request::{Request, parse_query};
use crate::service::pd_http::routes::{self, Call};
use crate::types::Api;

/// When the views of these tests were made: 2026-11-29 07:50:11 UTC.
const NOW_MS: u64 = 1_795_938_611_000;

pub(super) fn store(id: u64, state: StoreState) -> StoreView {
    let node_state = match state {
        StoreState::Up => NodeState::Serving,
        StoreState::Offline => NodeState::Removing,
        StoreState::Tombstone => NodeState::Removed,
    };
    let record = Store {
        id,
        address: format!("h:{id}"),
        state: state as i32,
        version: "8.5.0".into(),
        start_timestamp: 1_795_938_590,
        last_heartbeat: 1_795_938_610_500_000_000,
        node_state: node_state as i32,
        ..Store::default()
    };
    StoreView {
        store: record,
        heartbeat_age_ms: Some(500),
        silent_ms: 500,
        capacity_bytes: 270_553_174_016,
        available_bytes: 56_613_863_424,
        used_bytes: 0,
    }
}

pub(super) fn region(id: u64, start: &'static str, end: &'static str, stores: &[u64]) -> RegionView {
    let peer = |store_id: &u64| Peer { id: id + store_id, store_id: *store_id, ..Peer::default() };
    let region = Region {
        id,
        start_key: start.into(),
        end_key: end.into(),
        region_epoch: Some(RegionEpoch { conf_ver: 1, version: id }),
        peers: stores.iter().map(peer).collect(),
        ..Region::default()
    };
    let leader = region.peers.first().copied();
    RegionView {
        info: RegionInfo { region, leader, down: vec![] },
        size: Some((0, 0)),
        newest: true,
        ..RegionView::default()
    }
}

/// A scheduler that runs.
pub(super) fn scheduler(kind: SchedulerKind) -> Scheduler {
    Scheduler { kind: kind as i32, exists: Some(true), ..Scheduler::default() }
}

/// A cluster of three stores with three regions: 100 up to "m", 200 up to "t", 300 behind it.
pub(super) fn view() -> View {
    let member = |n: u64| MemberView {
        member: Member {
            name: format!("n{n}"),
            member_id: n,
            peer_urls: vec![format!("http://h:{n}")],
            client_urls: vec![format!("http://h:{n}")],
            binary_version: "8.5.0".into(),
            ..Member::default()
        },
        store: n,
        healthy: n != 3,
    };
    let mut middle = region(200, "m", "t", &[2, 3]);
    middle.size = Some((5 << 20, 2500));
    (middle.written_bytes, middle.writes, middle.reads) = (700, 7, 9);
    middle.info.region.peers.push(Peer { id: 201, store_id: 1, role: PeerRole::Learner as i32, is_witness: false });
    let lost = middle.info.region.peers[1];
    middle.info.down.push(PeerStats { peer: Some(lost), down_seconds: 40 });
    View {
        paused_checkers: Vec::new(),
        cluster_id: u64::MAX,
        wall_ms: NOW_MS,
        members: (1..=3).map(member).collect(),
        leader: member(1).member,
        bootstrapped: true,
        stores: (1..=3).map(|id| store(id, StoreState::Up)).collect(),
        regions: vec![region(100, "", "m", &[1, 2, 3]), middle, region(300, "t", "", &[1, 2, 3])],
        loads: vec![],
        operators: vec![],
        gc_safe_point: 7,
        barriers: vec![Barrier { name: "backup".into(), at: 5, until_ms: 9_000, is_global: false }],
        keyspaces: vec![],
        options: ClusterOptions::default(),
        settings: Settings {
            schedulers: vec![scheduler(BalanceLeader), scheduler(BalanceHotRegion)],
            ..Settings::default()
        },
    }
}

/// Answers a request that reads.
pub(super) fn get(view: &View, path_and_query: &str) -> Answer {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let (call, params) = match routes::find("GET", &format!("/pd/api/v1/{path}")) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let request = Request { params, query: parse_query(query), body: Bytes::new() };
    match call {
        Call::Read(read) | Call::ReadCluster(read) => read(view, &request).unwrap_or_else(|answer| answer),
        _ => panic!("{path} does not read"),
    }
}

pub(super) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

fn json(view: &View, path: &str) -> Value {
    let answer = get(view, path);
    assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Returns the status and the JSON string of an error.
fn error(view: &View, path: &str) -> (u16, String) {
    let answer = get(view, path);
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    let shown = value.as_str().or_else(|| value["msg"].as_str()).unwrap_or_default();
    (answer.status, shown.to_owned())
}

fn ids(view: &View, path: &str) -> Vec<u64> {
    let regions = json(view, path);
    let list = regions["regions"].as_array().unwrap();
    assert_eq!(regions["count"], list.len());
    list.iter().map(|region| region["id"].as_u64().unwrap()).collect()
}

#[test]
fn members_and_the_cluster() {
    let view = view();
    assert_eq!(
        text(&get(&view, "leader")),
        "{\n  \"name\": \"n1\",\n  \"member_id\": 1,\n  \"peer_urls\": [\n    \"http://h:1\"\n  ],\n  \
         \"client_urls\": [\n    \"http://h:1\"\n  ]\n}\n"
    );
    let members = json(&view, "members");
    assert_eq!(members["header"]["cluster_id"], u64::MAX);
    assert_eq!((&members["leader"]["name"], &members["etcd_leader"]["member_id"]), (&"n1".into(), &1.into()));
    assert_eq!(members["members"][2]["binary_version"], "8.5.0");
    let health = json(&view, "health");
    assert_eq!((&health[0]["health"], &health[2]["health"]), (&true.into(), &false.into()));
    assert_eq!(json(&view, "cluster")["max_peer_count"], 3);
    assert_eq!(json(&view, "cluster/status")["is_initialized"], true);
    assert_eq!(json(&view, "version")["version"], "v8.5.0");
    assert_eq!(json(&view, "gc/safepoint")["gc_safe_point"], 7);
    let service = &json(&view, "gc/safepoint")["service_gc_safe_points"][0];
    assert_eq!((&service["service_id"], &service["safe_point"]), (&"backup".into(), &5.into()));
    assert_eq!(json(&view, "status")["start_timestamp"], 1_795_938_590);
}

#[test]
fn a_stores_document() {
    let mut view = view();
    view.stores[0].store.labels.push(StoreLabel { key: "zone".into(), value: "z1".into() });
    let shown = text(&get(&view, "store/1"));
    let fields: Vec<&str> =
        shown.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": ")).map(|(n, _)| n).collect();
    assert_eq!(
        fields,
        [
            "store",
            "id",
            "address",
            "labels",
            "key",
            "value",
            "version",
            "start_timestamp",
            "last_heartbeat",
            "node_state",
            "state_name",
            "status",
            "capacity",
            "available",
            "used_size",
            "leader_count",
            "leader_weight",
            "leader_score",
            "leader_size",
            "region_count",
            "region_weight",
            "region_score",
            "region_size",
            "slow_score",
            "start_ts",
            "last_heartbeat_ts",
            "uptime"
        ]
    );
    let store = json(&view, "store/1");
    assert_eq!(store["status"]["capacity"], "252GiB");
    assert_eq!(store["status"]["used_size"], "0B");
    assert_eq!((&store["status"]["leader_count"], &store["status"]["region_count"]), (&2.into(), &3.into()));
    assert_eq!((&store["status"]["leader_size"], &store["status"]["region_size"]), (&2.into(), &7.into()));
    assert_eq!(store["status"]["last_heartbeat_ts"], "2026-11-29T07:50:10.5Z");
    assert_eq!(store["status"]["uptime"], "20.5s");
    assert_eq!(json(&view, "labels"), serde_json::json!([{ "key": "zone", "value": "z1" }]));
    assert_eq!(json(&view, "labels/stores?name=zone")["count"], 1);
    assert_eq!(json(&view, "labels/stores?name=zone&value=z2")["count"], 0);
    view.stores[0].store.labels.clear();
    assert_eq!(text(&get(&view, "labels")), "null\n");
}

#[test]
fn stores_by_their_states() {
    let mut view = view();
    view.stores.push(store(4, StoreState::Tombstone));
    view.stores.push(store(5, StoreState::Offline));
    (view.stores[0].silent_ms, view.stores[1].silent_ms) = (20_000, 30 * 60 * 1000);
    (view.stores[2].heartbeat_age_ms, view.stores[2].silent_ms) = (None, 5);
    let names = |path: &str| -> BTreeMap<u64, String> {
        let stores = json(&view, path)["stores"].as_array().unwrap().clone();
        let name =
            |s: Value| (s["store"]["id"].as_u64().unwrap(), s["store"]["state_name"].as_str().unwrap().to_owned());
        stores.into_iter().map(name).collect()
    };
    let all: Vec<_> = names("stores").into_iter().collect();
    let expected = [(1, "Disconnected"), (2, "Down"), (3, "Disconnected"), (5, "Offline")];
    assert_eq!(all, expected.map(|(id, name)| (id, name.to_owned())));
    assert_eq!(names("stores?state=2").into_keys().collect::<Vec<_>>(), [4]);
    assert_eq!(names("stores?state=0&state=1").into_keys().collect::<Vec<_>>(), [1, 2, 3, 5]);
    assert_eq!(names("stores/check?state=disconnected").into_keys().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(names("stores/check?state=Down").into_keys().collect::<Vec<_>>(), [2]);
    assert_eq!(names("stores/check?state=up").len(), 0);
    assert_eq!(json(&view, "store/4")["store"]["state"], 2);
    assert_eq!(error(&view, "stores?state=7"), (500, "unknown StoreState: 7".into()));
    assert_eq!(error(&view, "stores/check?state=foo"), (400, "unknown StoreState: foo".into()));
    assert_eq!(error(&view, "store/99"), (404, "[PD:core:ErrStoreNotFound]store 99 not found".into()));
    assert_eq!(error(&view, "store/abc"), (400, "strconv.ParseUint: parsing \"abc\": invalid syntax".into()));
    assert!(text(&get(&view, "store/abc")).contains("\"code\": \"input\""));
    assert_eq!(json(&view, "stores/limit")["5"]["add-peer"], 100_000_000);
    assert_eq!(get(&view, "stores/progress?action=removing").status, 501, "a store is being removed");
}

#[test]
fn a_regions_document() {
    let view = view();
    let answer = get(&view, "region/id/200");
    assert_eq!(crate::service::pd_http::answer::content_type(answer.content), "application/octet-stream");
    assert_eq!(
        text(&answer),
        "{\"id\":200,\"start_key\":\"6D\",\"end_key\":\"74\",\"epoch\":{\"conf_ver\":1,\"version\":200},\
         \"peers\":[{\"role_name\":\"Voter\",\"id\":202,\"store_id\":2},{\"role_name\":\"Voter\",\"id\":203,\
         \"store_id\":3},{\"role_name\":\"Learner\",\"is_learner\":true,\"id\":201,\"store_id\":1,\"role\":1}],\
         \"leader\":{\"role_name\":\"Voter\",\"id\":202,\"store_id\":2},\"down_peers\":[{\"peer\":{\"role_name\":\
         \"Voter\",\"id\":203,\"store_id\":3},\"down_seconds\":40}],\"cpu_usage\":0,\"written_bytes\":700,\
         \"read_bytes\":0,\"written_keys\":0,\"read_keys\":0,\"approximate_size\":5,\"approximate_keys\":2500}"
    );
    let none = "{\"id\":0,\"start_key\":\"\",\"end_key\":\"\",\"leader\":{\"role_name\":\"\"},\"cpu_usage\":0,\
                \"written_bytes\":0,\"read_bytes\":0,\"written_keys\":0,\"read_keys\":0,\"approximate_size\":0,\
                \"approximate_keys\":0}";
    assert_eq!(text(&get(&view, "region/id/99999")), none);
    assert_eq!(error(&view, "region/id/abc"), (400, "strconv.ParseUint: parsing \"abc\": invalid syntax".into()));
    assert_eq!(json(&view, "region/id/100")["approximate_size"], 1, "an empty region");
    for (key, id) in [("a", 100), ("m", 200), ("%6d%00", 200), ("t", 300), ("%ff%ff", 300), ("+", 100)] {
        assert_eq!(json(&view, &format!("region/key/{key}"))["id"], id, "{key}");
    }
    assert_eq!(json(&view, "region/key/6d00?format=hex")["id"], 200);
    assert_eq!(error(&view, "region/key/zz?format=hex"), (400, "encoding/hex: invalid byte: U+007A 'z'".into()));
}

#[test]
fn lists_of_regions() {
    let view = view();
    assert_eq!(ids(&view, "regions"), [100, 200, 300]);
    assert_eq!(text(&get(&view, "regions/count")), "{\n  \"count\": 3,\n  \"regions\": null\n}\n");
    assert_eq!(ids(&view, "regions/key?key=n"), [200, 300]);
    assert_eq!(ids(&view, "regions/key?key=n&end_key=t"), [200]);
    assert_eq!(ids(&view, "regions/key?limit=1"), [100]);
    assert_eq!(ids(&view, "regions/key?limit=-1"), [100, 200, 300]);
    assert_eq!(ids(&view, "regions/key?key=%ff&limit="), [300]);
    assert_eq!(error(&view, "regions/key?limit=abc"), (400, "strconv.Atoi: parsing \"abc\": invalid syntax".into()));
    assert_eq!(ids(&view, "regions/store/3"), [100, 200, 300]);
    assert_eq!(text(&get(&view, "regions/store/99")), "{\"count\":0,\"regions\":[]}");
    assert_eq!(ids(&view, "regions/sibling/200"), [100, 300]);
    assert_eq!(ids(&view, "regions/sibling/100"), [0, 200]);
    assert_eq!(ids(&view, "regions/sibling/300"), [200, 0]);
    let unknown = (404, "[PD:region:ErrRegionNotFound]region 99999 not found".to_owned());
    assert_eq!(error(&view, "regions/sibling/99999"), unknown);
    assert_eq!(ids(&view, "regions/size?limit=1"), [200]);
    assert_eq!(ids(&view, "regions/keys?limit=1"), [200]);
    for by in ["writeflow", "writequery", "readquery"] {
        assert_eq!(ids(&view, &format!("regions/{by}?limit=1")), [200]);
    }
    assert_eq!(ids(&view, "regions/version?limit=2"), [300, 200]);
    assert!(ids(&view, "regions/confver?limit=0").is_empty());
    assert_eq!(ids(&view, "regions/confver").len(), 3);
}

#[test]
fn what_newer_regions_left_of_an_older_one_is_listed_once() {
    let mut view = view();
    let mut left = region(300, "x", "", &[1]);
    left.newest = false;
    view.regions[2].info.region.end_key = "x".into();
    view.regions.push(left);
    assert_eq!(ids(&view, "regions"), [100, 200, 300]);
    assert_eq!(json(&view, "region/key/y")["id"], 300, "the keys have a region");
    assert_eq!(ids(&view, "regions/sibling/300"), [200, 300]);
    assert_eq!(json(&view, "stats/region")["count"], 3);
}

#[test]
fn checks_and_sums() {
    let mut view = view();
    assert_eq!(ids(&view, "regions/check/down-peer"), [200]);
    assert_eq!(ids(&view, "regions/check/learner-peer"), [200]);
    assert_eq!(ids(&view, "regions/check/empty-region"), [100, 300]);
    assert_eq!(text(&get(&view, "regions/check/miss-peer")), "{\"count\":0,\"regions\":[]}");
    view.regions[0].info.region.peers.pop();
    view.stores[1].store.set_state(StoreState::Offline);
    assert_eq!(ids(&view, "regions/check/miss-peer"), [100]);
    assert_eq!(ids(&view, "regions/check/offline-peer"), [100, 200, 300]);
    view.options.replicas = 2;
    assert_eq!(ids(&view, "regions/check/extra-peer"), [200, 300]);
    assert_eq!(
        json(&view, "regions/check/hist-size"),
        serde_json::json!([{ "start": 1, "end": 1, "count": 2 }, { "start": 5, "end": 5, "count": 1 }])
    );
    assert_eq!(
        json(&view, "regions/check/hist-keys")[1],
        serde_json::json!({ "start": 2000, "end": 2999, "count": 1 })
    );
    assert_eq!(json(&view, "regions/check/hist-size?bound=10")[0]["count"], 3);
    let largest = format!("regions/check/hist-size?bound={}", i64::MAX);
    assert_eq!(json(&view, &largest)[0]["end"], i64::MAX - 1);
    assert_eq!(text(&get(&view, "regions/range-holes")), "[]\n");
    view.regions.remove(1);
    assert_eq!(json(&view, "regions/range-holes"), serde_json::json!([["6D", "74"]]));
    assert_eq!(json(&view, "region/key/n")["id"], 0);
    let sums = json(&view, "stats/region?start_key=t&end_key=");
    assert_eq!((&sums["count"], &sums["empty_count"], &sums["storage_size"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(sums["store_peer_count"], serde_json::json!({ "1": 1, "2": 1, "3": 1 }));
    assert_eq!(json(&view, "stats/region?count")["store_peer_count"], Value::Null);
    assert_eq!(json(&view, "regions/replicated?startKey=&endKey="), "INPROGRESS");
    assert_eq!(get(&view, "regions/replicated").status, 404);
}

#[test]
fn operators_as_texts_and_objects() {
    let mut view = view();
    assert_eq!(text(&get(&view, "operators")), "[]\n");
    assert_eq!(text(&get(&view, "operators?kind=admin")), "null\n");
    let not_found = (500, "[PD:operator:ErrOperatorNotFound]operator not found".to_owned());
    assert_eq!(error(&view, "operators/100"), not_found);
    let ended = Some((NOW_MS + 250, Outcome::Success));
    let action = Action::TransferLeader { from: 1, to: 2 };
    let one = Operator { region: 100, action, by_admin: true, epoch: (5, 4), begun_ms: NOW_MS, ended };
    view.operators.push(one.clone());
    view.operators.push(Operator { region: 200, by_admin: false, ended: None, ..one });
    let described = "admin-transfer-leader {transfer leader: store 1 to 2} (kind:admin,leader, region:100(5, 4), \
                     createAt:2026-11-29 07:50:11 +0000 UTC, startAt:2026-11-29 07:50:11 +0000 UTC, currentStep:1, \
                     size:1, steps:[0:{transfer leader from store 1 to store 2}], timeout:[10s]) finished";
    assert_eq!(json(&view, "operators/100"), format!("status: SUCCESS, operator: {described}"));
    let record = format!("{described} (finishAt:2026-11-29 07:50:11.25 +0000 UTC, duration:250ms)");
    assert_eq!(json(&view, "operators/records"), serde_json::json!([record]));
    assert_eq!(json(&view, &format!("operators/records?from={}", NOW_MS / 1000 + 1)), serde_json::json!([]));
    assert!(json(&view, "operators/200").as_str().unwrap().starts_with("status: RUNNING, operator: balance-leader {"));
    assert_eq!(json(&view, "operators").as_array().unwrap().len(), 1, "one is running");
    let object = &json(&view, "operators?object=true&kind=leader")[0];
    assert_eq!((&object["kind"], &object["region_id"], &object["status"]), (&128.into(), &200.into(), &1.into()));
    assert_eq!(object["brief"], "transfer leader: store 1 to 2");
    assert_eq!(error(&view, "operators/abc").0, 400);
}

#[test]
fn configuration_says_what_is_in_effect() {
    let view = view();
    assert_eq!(
        text(&get(&view, "config/replicate")),
        "{\n  \"max-replicas\": 3,\n  \"location-labels\": \"zone,rack,host\",\n  \"strictly-match-label\": \"false\",\n  \
         \"enable-placement-rules\": \"true\",\n  \"enable-placement-rules-cache\": \"false\",\n  \
         \"isolation-level\": \"\"\n}\n"
    );
    let schedule = json(&view, "config/schedule");
    assert_eq!((&schedule["max-store-down-time"], &schedule["leader-schedule-limit"]), (&"30m0s".into(), &4.into()));
    assert_eq!(schedule["region-schedule-limit"], 4, "whether the balance exists is a matter of schedulers");
    assert_eq!(json(&view, "config")["replication"]["max-replicas"], 3);
    assert_eq!(json(&view, "config/cluster-version"), "8.5.0");
    assert_eq!(json(&view, "config/rules")[0]["count"], 3);
    assert_eq!(json(&view, "config/placement-rule")[0]["rules"], json(&view, "config/rules"));
    assert_eq!(json(&view, "config/rule/pd/default"), json(&view, "config/rules")[0]);
    assert_eq!(get(&view, "config/rule/pd/other").status, 404);
    assert_eq!(json(&view, "config/rules/group/other"), Value::Null);
    assert_eq!(error(&view, "config/rules/region/7").0, 404);
    let running = serde_json::json!(["balance-hot-region-scheduler", "balance-leader-scheduler"]);
    assert_eq!(json(&view, "schedulers"), running);
    assert_eq!(json(&view, "schedulers?status=disabled"), serde_json::json!(["balance-region-scheduler"]));
    assert_eq!(json(&view, "schedulers?status=paused"), serde_json::json!([]));
}

#[test]
fn hot_regions_are_shown_where_they_are_borne() {
    let load = |region_id, store_id, leads, reads, writes, hits| RegionLoad {
        region_id,
        store_id,
        leads,
        reads,
        read_keys: 2 * reads,
        read_bytes: 100 * reads,
        writes,
        written_keys: writes,
        written_bytes: 50 * writes,
        read_hits: hits,
        write_hits: hits,
        age_ms: 611_000,
    };
    let loads = vec![load(100, 1, true, 500, 40, 3), load(200, 2, true, 7, 9, 2), load(100, 3, false, 300, 0, 5)];
    let view = View { loads, ..view() };
    let json = |path: &str| -> Value { serde_json::from_slice(&get(&view, path).body).unwrap() };
    let reads = json("hotspot/regions/read");
    let hot = &reads["as_leader"]["1"];
    assert_eq!(
        (&hot["store_query"], &hot["total_flow_bytes"], &hot["regions_count"]),
        (&500.into(), &50_000.into(), &1.into())
    );
    let one = &hot["statistics"][0];
    assert_eq!((&one["region_id"], &one["hot_degree"], &one["flow_keys"]), (&100.into(), &3.into(), &1000.into()));
    assert_eq!((&one["is_leader"], &one["stores"]), (&true.into(), &vec![1, 2, 3].into()));
    assert_eq!(one["last_update_time"], "2026-11-29T07:40:00Z");
    assert_eq!(reads["as_leader"]["2"]["store_query"], 7, "not hot, but load all the same");
    assert_eq!(reads["as_leader"]["2"]["statistics"], Value::Array(vec![]));
    assert_eq!(reads["as_leader"]["3"]["store_query"], 0, "a replica's");
    assert_eq!(reads["as_peer"]["3"]["statistics"][0]["is_leader"], false);
    let writes = json("hotspot/regions/write?store_id=3");
    let borne = &writes["as_peer"]["3"];
    assert_eq!((&borne["store_bytes"], &borne["regions_count"]), (&2450.into(), &1.into()));
    assert_eq!((&writes["as_leader"]["3"]["store_bytes"], &writes["as_leader"]["1"]), (&0.into(), &Value::Null));
    let stores = json("hotspot/stores");
    assert_eq!(stores["query-read-rate"], serde_json::json!({ "1": 500, "2": 7, "3": 300 }));
    assert_eq!(stores["query-write-rate"], serde_json::json!({ "1": 40, "2": 9, "3": 0 }));
    assert_eq!(stores["bytes-write-rate"], serde_json::json!({ "1": 2450, "2": 2450, "3": 2450 }));
    let unknown = get(&view, "hotspot/regions/read?store_id=9");
    assert_eq!(unknown.status, 500);
    assert!(String::from_utf8_lossy(&unknown.body).contains("store 9 not found"));
    assert_eq!(get(&view, "hotspot/regions/write?store_id=x").status, 400);
}

/// Goal: keyspaces in PD's forms, page by page, and PD's errors. Method: a view with three of them.
#[test]
fn keyspaces_are_shown_as_pd_shows_them() {
    let meta = |id, name: &str| KeyspaceMeta { id, name: name.into(), created_at: 5, ..KeyspaceMeta::default() };
    let mut view = view();
    view.options.api = Api::V2;
    view.keyspaces = vec![meta(0, "DEFAULT"), meta(1, "one"), meta(4, "four")];
    view.keyspaces[1].config = [("a".to_owned(), "b".to_owned())].into();
    view.keyspaces[1].set_state(KeyspaceState::Disabled);
    let ask = |read: fn(&View, &Request) -> Answered, param: &str, query: &str| {
        let params = vec![Bytes::copy_from_slice(param.as_bytes())];
        let request = Request { params, query: parse_query(query), body: Bytes::new() };
        let answer = read(&view, &request).unwrap_or_else(|answer| answer);
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let one = json!({ "id": 1, "name": "one", "state": "DISABLED", "created_at": 5, "state_changed_at": 0,
        "config": { "a": "b" } });
    assert_eq!(ask(keyspaces::by_name, "one", ""), (200, one.clone()));
    assert_eq!(ask(keyspaces::by_id, "1", ""), (200, one.clone()));
    assert_eq!(ask(keyspaces::by_name, "none", ""), (500, json!("keyspace does not exist")));
    assert_eq!(ask(keyspaces::by_id, "x", ""), (500, json!("invalid keyspace id")));
    let page = ask(keyspaces::all, "", "page_token=1&limit=1").1;
    assert_eq!(page, json!({ "keyspaces": [one], "next_page_token": "4" }));
    assert_eq!(ask(keyspaces::all, "", "page_token=9").1, json!({ "keyspaces": null, "next_page_token": "" }));
    assert_eq!(ask(keyspaces::all, "", "limit=0").1["keyspaces"].as_array().map(Vec::len), Some(3));
    assert_eq!(ask(keyspaces::all, "", "page_token=x").0, 400);
    assert_eq!(ask(keyspaces::regions, "1", "").1["count"], 2);
    view.options.api = Api::V1;
    let request = Request::default();
    assert_eq!(keyspaces::all(&view, &request).unwrap_err().status, 501);
}
