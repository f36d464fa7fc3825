//! Settings, schedulers, weights and limits: what is accepted, what is shown, and PD's errors, as PD 8.0 was seen to
//! answer.

use serde_json::{Map, Value, json};

use super::documents::{get, scheduler, text, view};
use crate::pd::view::View;
use crate::proto::armilla::pd::{
    ChangeScheduler, ChangeSettings, Pause, Scheduler, SchedulerKind, Settings, StoreSettings,
};
use crate::proto::metapb::StoreLabel;
use crate::service::pd_http::answer::Answer;
use crate::service::pd_http::schedulers::{adding, pausing, removing};
use crate::service::pd_http::settings::{Scope, all_limited, configured, limited, weighed};

fn object(body: &Value) -> &Map<String, Value> {
    body.as_object().unwrap()
}

/// Returns the status and the sentence of an error.
fn error<T>(result: Result<T, Answer>) -> (u16, String) {
    let Err(answer) = result else { panic!("it was accepted") };
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    let shown = value.as_str().or_else(|| value["msg"].as_str()).unwrap_or_default().to_owned();
    (answer.status, shown)
}

fn set(view: &View, scope: Scope, body: &Value) -> Settings {
    configured(view, scope, object(body)).ok().unwrap().set.unwrap()
}

#[test]
fn items_of_the_configuration() {
    let view = view();
    let body = json!({ "leader-schedule-limit": 8, "max-store-down-time": "1h", "max-merge-region-size": 20 });
    let wanted = Settings {
        leader_orders_max: Some(8),
        max_down_ms: Some(3_600_000),
        merge_below_bytes: Some(20 << 20),
        ..Settings::default()
    };
    assert_eq!(set(&view, Scope::Schedule, &body), wanted);
    assert_eq!(set(&view, Scope::All, &body), wanted);
    let replicas = set(&view, Scope::All, &json!({ "replication.max-replicas": 5, "location-labels": "zone, rack" }));
    assert_eq!(replicas.replicas, Some(5));
    assert_eq!(replicas.location_labels.unwrap().keys, ["zone", "rack"]);
    let nothing = Settings::default();
    assert_eq!(set(&view, Scope::Schedule, &json!({ "foo": 1, "max-replicas": 5 })), nothing, "as PD");
    let same = json!({ "enable-joint-consensus": true, "enable-witness": "false" });
    assert_eq!(set(&view, Scope::All, &same), nothing, "that is in effect anyway");
}

#[test]
fn items_that_are_not() {
    let view = view();
    let why = |scope, body: Value| error(configured(&view, scope, object(&body)));
    let of = |what: &str| {
        format!(
            "json: cannot unmarshal {what} into Go struct field ScheduleConfig.leader-schedule-limit of type uint64"
        )
    };
    let limit = |value: Value| json!({ "leader-schedule-limit": value });
    assert_eq!(why(Scope::All, json!({ "foo": 1 })), (400, "config item foo not found".into()));
    assert_eq!(why(Scope::All, json!({ "schedule.foo": 1 })), (400, "config item foo not found".into()));
    assert_eq!(why(Scope::All, limit(json!("x"))), (400, of("string")));
    assert_eq!(why(Scope::All, limit(json!(-1))), (400, of("number -1")));
    assert_eq!(why(Scope::Schedule, limit(json!(1.5))), (400, of("number 1.5")));
    assert_eq!(why(Scope::All, json!({ "max-store-down-time": 5 })), (400, "invalid syntax".into()));
    let unit = "time: unknown unit \"x\" in duration \"5x\"";
    assert_eq!(why(Scope::All, json!({ "max-store-down-time": "5x" })), (400, unit.into()));
    assert_eq!(why(Scope::All, json!({ "location-labels": ["zone"] })), (400, "invalid syntax".into()));
    assert!(why(Scope::All, json!({ "location-labels": "a a" })).1.starts_with("a a does not match format"));
    let none = "[PD:placement:ErrRuleContent]invalid rule content, invalid count 0";
    assert_eq!(why(Scope::All, json!({ "max-replicas": 0 })), (400, none.into()));
    assert_eq!(why(Scope::Replicate, json!({ "max-replicas": 0 })), (500, none.into()));
    for unbuilt in ["low-space-ratio", "strictly-match-label", "pd-server.metric-storage"] {
        let (status, why) = why(Scope::All, json!({ unbuilt: "1" }));
        assert!(status == 501 && why.contains(unbuilt) && why.contains("max-replicas"), "{why}");
    }
}

#[test]
fn weights_and_limits() {
    let mut view = view();
    let own = |change: ChangeSettings| change.set.unwrap().stores;
    let weights = own(weighed(&view, 2, object(&json!({ "leader": 0.5, "region": 2 }))).ok().unwrap());
    let wanted =
        StoreSettings { store_id: 2, leader_weight: Some(500), region_weight: Some(2000), ..StoreSettings::default() };
    assert_eq!(weights, [wanted]);
    let weight = |store, body: Value| error(weighed(&view, store, object(&body)));
    assert_eq!(weight(1, json!({ "leader": 1 })), (400, "region weight unset".into()));
    assert_eq!(weight(1, json!({ "region": 1 })), (400, "leader weight unset".into()));
    assert_eq!(weight(1, json!({ "leader": -1, "region": 1 })), (400, "bad format leader weight".into()));
    assert_eq!(weight(1, json!({ "leader": 1, "region": "x" })), (400, "bad format region weight".into()));
    let unknown = "[PD:core:ErrStoreNotFound]store 99 not found";
    assert_eq!(weight(99, json!({ "leader": 1, "region": 1 })), (500, unknown.into()));
    let one = own(limited(&view, 3, object(&json!({ "type": "add-peer", "rate": 20 }))).ok().unwrap());
    assert_eq!((one[0].add_peer_per_minute, one[0].remove_peer_per_minute), (Some(20), None));
    let limit = |store, body: Value| error(limited(&view, store, object(&body)));
    assert_eq!(limit(1, json!({})), (400, "rate unset".into()));
    assert_eq!(limit(1, json!({ "rate": 0 })), (400, "invalid rate which should be larger than 0".into()));
    assert_eq!(limit(1, json!({ "rate": 1, "type": "foo" })), (400, "unknown type".into()));
    assert_eq!(limit(1, json!({ "rate": 1, "type": 7 })), (400, "bad format type".into()));
    assert_eq!(limit(99, json!({ "rate": 1 })), (500, unknown.into()));
    view.stores[1].store.labels = vec![StoreLabel { key: "zone".into(), value: "z".into() }];
    let all = |body: Value| {
        let stores = own(all_limited(&view, object(&body)).ok().unwrap());
        stores.iter().map(|store| store.store_id).collect::<Vec<_>>()
    };
    assert_eq!(all(json!({ "rate": 15 })), [1, 2, 3]);
    assert_eq!(all(json!({ "rate": 15, "labels": { "zone": "z" } })), [2]);
    view.settings.stores = [weights, one].concat();
    let json = |path: &str| serde_json::from_slice::<Value>(&get(&view, path).body).unwrap();
    let status = &json("store/2")["status"];
    assert_eq!((&status["leader_weight"], &status["region_weight"]), (&json!(0.5), &json!(2)));
    assert_eq!((&status["leader_count"], &status["leader_score"]), (&json!(1), &json!(2)));
    let limits = json("stores/limit");
    assert_eq!(limits["3"], json!({ "add-peer": 20, "remove-peer": 100_000_000 }));
}

#[test]
fn schedulers_under_pds_names() {
    use SchedulerKind::{BalanceLeader, EvictLeader};
    let mut view = view();
    let named = |name: &str, store: u64| json!({ "name": name, "store_id": store });
    let why = |view: &View, body: Value| error(adding(view, object(&body)));
    assert_eq!(why(&view, json!({})), (400, "missing scheduler name".into()));
    assert_eq!(why(&view, json!({ "name": "foo" })), (400, "unknown scheduler".into()));
    assert_eq!(why(&view, json!({ "name": "random-merge-scheduler" })).0, 501);
    let existed = "[PD:scheduler:ErrSchedulerExisted]scheduler existed";
    assert_eq!(why(&view, json!({ "name": "balance-leader-scheduler" })), (500, existed.into()));
    assert_eq!(why(&view, json!({ "name": "evict-leader-scheduler" })), (400, "missing store id".into()));
    let unknown = "[PD:core:ErrStoreNotFound]store 99 not found";
    assert_eq!(why(&view, named("evict-leader-scheduler", 99)), (500, unknown.into()));
    let (change, done) = adding(&view, object(&named("evict-leader-scheduler", 2))).ok().unwrap();
    let wanted = ChangeScheduler { kind: EvictLeader as i32, exists: Some(true), stores: vec![2], pause: None };
    assert_eq!((change.schedulers, &text(&done)[..]), (vec![wanted], "\"The scheduler is created.\"\n"));
    view.settings.schedulers.push(Scheduler { stores: vec![1, 2], ..scheduler(EvictLeader) });
    let (_, done) = adding(&view, object(&named("evict-leader-scheduler", 3))).ok().unwrap();
    assert_eq!(text(&done), "\"The scheduler has been applied to the store.\"\n");
    let busy = "[PD:core:ErrPauseLeaderTransfer]store 1 is paused for leader transfer";
    assert_eq!(why(&view, named("grant-leader-scheduler", 1)), (500, busy.into()));
    let not_found = (404, "[PD:scheduler:ErrSchedulerNotFound]scheduler not found".to_owned());
    let gone = |name: &str| removing(&view, name);
    assert_eq!((error(gone("foo")), error(gone("grant-leader-scheduler"))), (not_found.clone(), not_found));
    assert_eq!(error(gone("evict-leader-scheduler-99")), (404, String::new()), "null");
    let (change, done) = gone("evict-leader-scheduler-2").ok().unwrap();
    assert_eq!((&change.schedulers[0].stores[..], &text(&done)[..]), (&[2][..], "null\n"));
    let pause = |name: &str, body: Value| pausing(&view, name, object(&body));
    assert_eq!(error(pause("balance-leader-scheduler", json!({}))), (400, "missing pause time".into()));
    assert_eq!(error(pause("foo", json!({ "delay": 3 }))).0, 500);
    assert_eq!(pause("all", json!({ "delay": 0 })).ok().unwrap().schedulers.len(), 3);
    let change = pause("balance-leader-scheduler", json!({ "delay": 30 })).ok().unwrap();
    let Some(Pause { at_ms, until_ms }) = change.schedulers[0].pause else { panic!("no pause") };
    assert_eq!((at_ms, until_ms - at_ms), (view.wall_ms, 30_000));
    let leader = view.settings.schedulers.iter_mut().find(|one| one.kind() == BalanceLeader).unwrap();
    (leader.paused_at_ms, leader.paused_until_ms) = (at_ms, until_ms);
    let json = |path: &str| serde_json::from_slice::<Value>(&get(&view, path).body).unwrap();
    let all = json!(["balance-hot-region-scheduler", "balance-leader-scheduler", "evict-leader-scheduler"]);
    assert_eq!(json("schedulers"), all);
    assert_eq!(json("schedulers?status=paused"), json!(["balance-leader-scheduler"]));
    let times = &json("schedulers?status=paused&timestamp=true")[0];
    assert_eq!(
        (&times["paused_at"], &times["resume_at"]),
        (&json!("2026-11-29T07:50:11Z"), &json!("2026-11-29T07:50:41Z"))
    );
    assert_eq!(json("schedulers?status=disabled"), json!(["balance-region-scheduler"]));
    let stores = json("scheduler-config/evict-leader-scheduler/list");
    assert_eq!(stores["store-id-ranges"]["2"], json!([{ "start-key": "", "end-key": "" }]));
}
