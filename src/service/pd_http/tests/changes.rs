//! Requests for operators and splits: what is accepted, and PD's errors.

use serde_json::{Value, json};

use super::documents::{store, text, view};
use crate::pd::Wish;
use crate::pd::operators::{Action, Operator};
use crate::pd::view::View;
use crate::proto::metapb::StoreState;
use crate::service::pd_http::accept::{Accepted, accept, split_keys};
use crate::service::pd_http::request::Request;
use crate::types::limits::PD_HTTP_SPLIT_KEYS_MAX;

fn ask(view: &View, body: Value) -> Result<Accepted, (u16, String)> {
    let accepted = accept(view, body.as_object().unwrap());
    accepted.map_err(|answer| {
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, shown.as_str().unwrap_or_default().to_owned())
    })
}

fn refused(view: &View, body: Value, status: u16, why: &str) {
    assert_eq!(ask(view, body.clone()), Err((status, why.to_owned())), "{body}");
}

#[test]
fn operators_that_are_in_order() {
    let view = view();
    let transfer = json!({ "name": "transfer-leader", "region_id": 100, "to_store_id": 2 });
    let action = Action::TransferLeader { from: 1, to: 2 };
    assert_eq!(ask(&view, transfer), Ok(Accepted::Move { region: 100, action }));
    let mut four = view.clone();
    four.stores.push(store(4, StoreState::Up));
    let moving = json!({ "name": "transfer-peer", "region_id": 100, "from_store_id": 3, "to_store_id": 4 });
    let action = Action::MovePeer { from: 3, to: 4 };
    assert_eq!(ask(&four, moving), Ok(Accepted::Move { region: 100, action }));
    let merge = json!({ "name": "merge-region", "source_region_id": 100, "target_region_id": 200 });
    assert_eq!(
        ask(&view, merge),
        Ok(Accepted::Move { region: 100, action: Action::Merge { source: 100, target: 200 } })
    );
    let keys = json!(["6E", "6e", "73"]);
    let split = json!({ "name": "split-region", "region_id": 200, "policy": "usekey", "keys": keys });
    let keys = vec!["n".into(), "s".into()];
    assert_eq!(ask(&view, split), Ok(Accepted::Split { region: 200, version: 200, keys }));
}

#[test]
fn operators_that_are_not() {
    let view = view();
    let r = |body: Value, status: u16, why: &str| refused(&view, body, status, why);
    r(json!({}), 400, "missing operator name");
    r(json!({ "name": 1 }), 400, "missing operator name");
    r(json!({ "name": "dance" }), 400, "unknown operator");
    r(json!({ "name": "transfer-leader" }), 400, "missing region id");
    r(json!({ "name": "transfer-leader", "region_id": "100" }), 400, "missing region id");
    let transfer = |region: u64, to: u64| json!({ "name": "transfer-leader", "region_id": region, "to_store_id": to });
    let no_store = json!({ "name": "transfer-leader", "region_id": 100 });
    r(no_store, 400, "missing store id to transfer leader to");
    r(transfer(99999, 1), 500, "[PD:region:ErrRegionNotFound]region 99999 not found");
    r(transfer(100, 99), 500, "region has no voter in store 99");
    r(transfer(200, 1), 500, "region has no voter in store 1");
    r(transfer(100, 1), 500, "no operator step is built");
    let moving = |from: u64, to: u64| json!({ "name": "transfer-peer", "region_id": 100, "from_store_id": from, "to_store_id": to });
    r(
        json!({ "name": "transfer-peer", "region_id": 100, "to_store_id": 1 }),
        400,
        "invalid store id to transfer peer from",
    );
    r(
        json!({ "name": "transfer-peer", "region_id": 100, "from_store_id": 1 }),
        400,
        "invalid store id to transfer peer to",
    );
    r(moving(1, 55), 500, "[PD:core:ErrStoreNotFound]store 55 not found");
    r(moving(99, 2), 500, "region has no peer in store 99");
    r(moving(1, 2), 500, "cannot add peer store_id:2 : already have peer id:102 store_id:2 ");
    let split =
        |policy: &str, keys: Value| json!({ "name": "split-region", "region_id": 200, "policy": policy, "keys": keys });
    r(json!({ "name": "split-region", "region_id": 200 }), 400, "missing split policy");
    r(split("foo", json!([])), 500, "check policy foo is not supported");
    r(split("usekey", json!(["zz"])), 500, "split key zz is not in hex format");
    r(split("usekey", json!(["6D"])), 400, "split key 6D is not inside region 200");
    r(split("usekey", json!(["74"])), 400, "split key 74 is not inside region 200");
    assert_eq!(ask(&view, split("usekey", json!([]))).unwrap_err().0, 400);
    assert_eq!(ask(&view, split("usekey", json!([7]))).unwrap_err().0, 400);
    assert_eq!(ask(&view, split("scan", json!([]))).unwrap_err().0, 501);
    assert_eq!(ask(&view, json!({ "name": "add-learner" })).unwrap_err().0, 501);
    let merge =
        |from: u64, to: u64| json!({ "name": "merge-region", "source_region_id": from, "target_region_id": to });
    r(json!({ "name": "merge-region" }), 400, "invalid source region id to merge from");
    r(json!({ "name": "merge-region", "source_region_id": 1 }), 400, "invalid target region id to merge to");
    r(merge(100, 99999), 500, "[PD:region:ErrRegionNotFound]region 99999 not found");
    r(merge(100, 100), 500, "[PD:region:ErrRegionNotAdjacent]two regions are not adjacent");
}

#[test]
fn replicas_that_are_asked_for() {
    let mut view = view();
    view.stores.push(store(4, StoreState::Up));
    let add = |region: u64, store: u64| json!({ "name": "add-peer", "region_id": region, "store_id": store });
    let remove = |region: u64, store: u64| json!({ "name": "remove-peer", "region_id": region, "store_id": store });
    assert_eq!(ask(&view, add(100, 4)), Ok(Accepted::Replicas { region: 100, wish: Wish::Add(4) }));
    assert_eq!(ask(&view, remove(100, 3)), Ok(Accepted::Replicas { region: 100, wish: Wish::Remove(3) }));
    let r = |body: Value, status: u16, why: &str| refused(&view, body, status, why);
    r(json!({ "name": "add-peer" }), 400, "missing region id");
    r(json!({ "name": "add-peer", "region_id": 100 }), 400, "invalid store id to transfer peer to");
    r(json!({ "name": "remove-peer", "region_id": 100 }), 400, "invalid store id to transfer peer to");
    r(add(99999, 2), 500, "[PD:region:ErrRegionNotFound]region 99999 not found");
    r(add(100, 2), 500, "region already has peer in store 2");
    r(add(100, 99), 500, "[PD:core:ErrStoreNotFound]store 99 not found");
    r(remove(100, 99), 500, "region has no peer in store 99");
    let place = |stores: Value, roles: Value| json!({ "name": "transfer-region", "region_id": 100, "to_store_ids": stores, "peer_roles": roles });
    let wish = Wish::Place { stores: [1, 2, 4].into(), leader: Some(2) };
    let ok = place(json!([4, 2, 1]), json!(["voter", "leader", "follower"]));
    assert_eq!(ask(&view, ok), Ok(Accepted::Replicas { region: 100, wish }));
    let no_role = "transfer region without peer role is not supported when placement rules enabled";
    r(json!({ "name": "transfer-region", "region_id": 100 }), 400, "invalid store ids to transfer region to");
    r(place(json!(["x"]), json!([])), 400, "invalid store ids to transfer region to");
    r(place(json!([1, 2]), json!([])), 500, no_role);
    r(place(json!([1]), json!(["foo"])), 500, "region need at least 1 voter or leader");
    r(place(json!([1, 99]), json!(["leader", "voter"])), 500, "[PD:core:ErrStoreNotFound]store 99 not found");
    let many = |ids: Value| json!({ "name": "scatter-regions", "region_ids": ids, "group": "g" });
    let scatter = Accepted::Scatter { ids: vec![100, 7], group: "g".into(), many: true };
    assert_eq!(ask(&view, many(json!([100, 7]))), Ok(scatter));
    r(many(json!("x")), 400, "region_ids is invalid");
    let one = json!({ "name": "scatter-region", "region_id": 99999 });
    r(one, 500, "[PD:region:ErrRegionNotFound]region 99999 not found");
}

#[test]
fn a_region_has_one_operator_of_a_person() {
    let mut view = view();
    let (action, epoch) = (Action::TransferLeader { from: 1, to: 3 }, (1, 1));
    let running = Operator { region: 100, action, by_admin: false, epoch, begun_ms: 0, ended: None };
    view.operators = vec![running.clone()];
    let transfer = json!({ "name": "transfer-leader", "region_id": 100, "to_store_id": 2 });
    assert!(ask(&view, transfer.clone()).is_ok(), "a person's comes before the scheduler's");
    view.operators = vec![Operator { by_admin: true, ..running }];
    let busy = "[PD:operator:ErrAddOperator]failed to add operator, maybe already have one";
    refused(&view, transfer, 500, busy);
}

#[test]
fn keys_to_split_at() {
    let keys = |body: &str| split_keys(&Request { body: body.to_owned().into(), ..Request::default() });
    assert_eq!(keys(r#"{"split_keys":["7480","61","7480"],"retry_limit":2}"#).unwrap(), [&b"a"[..], b"t\x80"]);
    for (body, status, why) in [
        ("{}", 400, "split_keys should be provided."),
        (r#"{"split_keys":[]}"#, 400, "empty split keys."),
        (r#"{"split_keys":"a"}"#, 400, "a list of texts"),
        (r#"{"split_keys":[7]}"#, 400, "a list of texts"),
        (r#"{"split_keys":[""]}"#, 400, "an empty split key"),
        (r#"{"split_keys":["zz"]}"#, 500, "encoding/hex: invalid byte: U+007A 'z'"),
        ("x", 400, "invalid character"),
    ] {
        let refused = keys(body).unwrap_err();
        assert!(refused.status == status && text(&refused).contains(why), "{body}: {}", text(&refused));
    }
    let many = |count: usize| json!({ "split_keys": vec!["61"; count] }).to_string();
    assert_eq!(keys(&many(PD_HTTP_SPLIT_KEYS_MAX)).unwrap().len(), 1);
    assert_eq!(keys(&many(PD_HTTP_SPLIT_KEYS_MAX + 1)).unwrap_err().status, 400);
}
