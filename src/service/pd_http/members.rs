//! Answers about the placement driver itself: members, leader, health, version, cluster.
//!
//! A view of the cluster comes **in**, PD's documents go **out**. **Never**: a member that counts as healthy although
//! its node is silent.

use serde::Serialize;

use super::answer::{Answer, Answered};
use super::request::Request;
use super::text;
use crate::pd::view::{MemberView, View};
use crate::proto::armilla::pd::Barrier;
use crate::proto::pdpb;
use crate::types::version::{BUILD, TIKV_VERSION};

#[derive(Serialize)]
struct Header {
    cluster_id: u64,
}

#[derive(Serialize)]
struct Member<'v> {
    name: &'v str,
    member_id: u64,
    peer_urls: &'v [String],
    client_urls: &'v [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    deploy_path: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    binary_version: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_hash: &'v str,
}

#[derive(Serialize)]
struct Members<'v> {
    header: Header,
    members: Vec<Member<'v>>,
    leader: Member<'v>,
    etcd_leader: Member<'v>,
}

#[derive(Serialize)]
struct Health<'v> {
    name: &'v str,
    member_id: u64,
    client_urls: &'v [String],
    health: bool,
}

#[derive(Serialize)]
struct Version {
    version: String,
    build_time: &'static str,
    hash: &'static str,
    branch: &'static str,
}

#[derive(Serialize)]
struct Status {
    build_ts: &'static str,
    version: String,
    git_hash: &'static str,
    start_timestamp: i64,
}

#[derive(Serialize)]
struct Cluster {
    id: u64,
    max_peer_count: usize,
}

#[derive(Serialize)]
struct ClusterStatus {
    raft_bootstrap_time: &'static str,
    is_initialized: bool,
    replication_status: &'static str,
}

#[derive(Serialize)]
struct SafePoints<'a> {
    service_gc_safe_points: Vec<ServiceSafePoint<'a>>,
    gc_safe_point: u64,
}

#[derive(Serialize)]
struct ServiceSafePoint<'a> {
    service_id: &'a str,
    /// Unix seconds.
    expired_at: i64,
    safe_point: u64,
}

fn member(member: &pdpb::Member) -> Member<'_> {
    Member {
        name: &member.name,
        member_id: member.member_id,
        peer_urls: &member.peer_urls,
        client_urls: &member.client_urls,
        deploy_path: &member.deploy_path,
        binary_version: &member.binary_version,
        git_hash: &member.git_hash,
    }
}

/// `GET /members`
pub(super) fn members(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&Members {
        header: Header { cluster_id: view.cluster_id },
        members: view.members.iter().map(|one| member(&one.member)).collect(),
        leader: member(&view.leader),
        etcd_leader: member(&view.leader),
    }))
}

/// `GET /leader`
pub(super) fn leader(view: &View, _: &Request) -> Answered {
    let leader = Member { deploy_path: "", binary_version: "", git_hash: "", ..member(&view.leader) };
    Ok(Answer::json(&leader))
}

/// `GET /health`
pub(super) fn health(view: &View, _: &Request) -> Answered {
    let all = view.members.iter().map(|one| Health {
        name: &one.member.name,
        member_id: one.member.member_id,
        client_urls: &one.member.client_urls,
        health: one.healthy,
    });
    Ok(Answer::json(&all.collect::<Vec<_>>()))
}

/// Returns the version of PD whose interface this is, in PD's form.
fn pd_version() -> String {
    format!("v{TIKV_VERSION}")
}

/// `GET /version`
pub(super) fn version(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&Version { version: pd_version(), build_time: "", hash: BUILD, branch: "" }))
}

/// `GET /status`
pub(super) fn status(view: &View, _: &Request) -> Answered {
    let leads = |one: &&MemberView| one.member.member_id == view.leader.member_id;
    let store = view.members.iter().find(leads).map_or(0, |one| one.store);
    let store = view.stores.iter().find(|other| other.store.id == store);
    Ok(Answer::json(&Status {
        build_ts: "None",
        version: pd_version(),
        git_hash: BUILD,
        start_timestamp: store.map_or(0, |store| store.store.start_timestamp),
    }))
}

/// `GET /cluster`
pub(super) fn cluster(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&Cluster { id: view.cluster_id, max_peer_count: view.options.replicas }))
}

/// `GET /cluster/status`
pub(super) fn cluster_status(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&ClusterStatus {
        // The time is not recorded. This is how PD writes a time that it does not know.
        raft_bootstrap_time: "0001-01-01T00:00:00Z",
        is_initialized: view.bootstrapped,
        replication_status: "",
    }))
}

fn service_safe_point(barrier: &Barrier) -> ServiceSafePoint<'_> {
    ServiceSafePoint {
        service_id: &barrier.name,
        expired_at: if barrier.until_ms == 0 { i64::MAX } else { (barrier.until_ms / 1000) as i64 },
        safe_point: barrier.at,
    }
}

/// `GET /gc/safepoint`
pub(super) fn safe_point(view: &View, _: &Request) -> Answered {
    let service_gc_safe_points = view.barriers.iter().map(service_safe_point).collect();
    Ok(Answer::json(&SafePoints { service_gc_safe_points, gc_safe_point: view.gc_safe_point }))
}

/// `DELETE /members/name/NAME`
pub(super) fn remove_by_name(view: &View, request: &Request) -> Answered {
    let name = request.name(0);
    match view.members.iter().find(|one| one.member.name == name) {
        Some(_) => Err(cannot_remove(&name)),
        None => Err(Answer::error(404, format!("not found, pd: {name}"))),
    }
}

/// `DELETE /members/id/ID`
pub(super) fn remove_by_id(view: &View, request: &Request) -> Answered {
    let id = text::parse_uint(request.param(0)).map_err(|why| Answer::error(400, why))?;
    match view.members.iter().find(|one| one.member.member_id == id) {
        Some(one) => Err(cannot_remove(&one.member.name)),
        None => {
            let why = "etcdserver: member not found";
            Err(Answer::error(500, format!("[PD:etcd:ErrEtcdMemberRemove]{why}: {why}")))
        }
    }
}

fn cannot_remove(name: &str) -> Answer {
    Answer::unbuilt(&format!(
        "Armilla cannot remove the member {name} of its placement driver yet: replace the node's disk instead"
    ))
}
