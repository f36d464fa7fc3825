//! Plain HTTP for people, scrapers and probes.
//!
//! | path | response |
//! |---|---|
//! | `/` | a page that shows `/status` and refreshes itself |
//! | `/status` | the node, its peers, and the cluster as the placement driver's leader sees it: JSON |
//! | `/metrics` | Prometheus' text format |
//! | `/config` | the configuration in effect: JSON with the keys of the file |
//! | `/readyz`, `/ready`, `/healthz` | 200 while the node is ready to serve, else 503 with the reason |
//! | `/livez` | 200 unless the node has failed and must be restarted: then 503 with the reason |
//! | `/health` | the same as `/livez`, in etcd's JSON |
//! | `/pd/api/v1/…` | PD's HTTP interface: see [`super::pd_http`] |
//!
//! TiKV has `/status`, `/metrics`, `/config` and `/ready`, PD and etcd have `/health`, and Kubernetes' own servers have
//! `/livez` and `/readyz`, so probes and scrapers that are set up for them work.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};

use crate::arch;
use crate::codec::text;
use crate::proto::armilla::pd::{OverviewReply, RegionHeartbeat, RegionLoad, StoreOverview};
use crate::proto::metapb::{Peer, Region};
use crate::proto::pdpb::Member;
use crate::rt::{HttpHandler, HttpRequest, HttpResponse};
use crate::types::region;

use super::calls::Method;
use super::figures::FIGURES;
use super::layer::metrics::Metrics;
use super::pd_http::{PdHttp, PdHttpPeers};

/// What a node reports about itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// The node's address, `host:port`.
    pub address: String,
    /// The cluster's id; 0 before there is a cluster.
    pub cluster_id: u64,
    /// The id of the node's store; 0 before it has one.
    pub store_id: u64,
    /// Time since the node started.
    pub uptime: Duration,
    /// Whether the node is ready to serve.
    pub serving: bool,
    /// Why the node has stopped serving, if it has.
    pub poisoned: Option<String>,
    /// The cluster as PD's leader sees it, or why that is not known.
    pub overview: Result<OverviewReply, String>,
    /// This store's peers.
    pub peers: Vec<PeerStatus>,
    /// Statistics of the modules `raft`, `log` and `engine`; empty before the store runs.
    pub figures: BTreeMap<&'static str, Figures>,
}

/// Statistics of a module, by name.
pub type Figures = BTreeMap<&'static str, u64>;

/// One peer of this store.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer's region, as applied here.
    pub region: Region,
    /// The peer's id.
    pub peer: u64,
    /// The leader's peer id; 0 if unknown.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// The applied index.
    pub applied: u64,
}

/// The source of a node's information for [`handler`].
pub trait StatusSource: Send + Sync + 'static {
    /// Returns the node's status. Must answer within about a second, because a person is waiting.
    fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>>;

    /// Updates the metrics that [`handler`] is about to print. Must answer within about a second.
    fn measure(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Returns the configuration in effect, as one JSON object.
    fn config(&self) -> String;

    /// Returns how the placement driver is asked, once the node belongs to a cluster.
    fn placement_driver(&self) -> Option<Arc<dyn PdHttpPeers>>;

    /// Returns whether the node is ready to serve.
    ///
    /// # Errors
    /// Returns the reason why not, for people.
    fn serving(&self) -> Result<(), String>;

    /// Returns whether the node may become ready without a restart.
    ///
    /// # Errors
    /// Returns the reason why not, for people.
    fn alive(&self) -> Result<(), String>;
}

const PAGE: &str = include_str!("page.html");
/// The place in the page for the meaning of the statistics.
const PAGE_HELP: &str = "{/*figures*/}";

/// Returns the page, with the meaning of its statistics.
fn page() -> Bytes {
    let mut help: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for figure in FIGURES {
        help.entry(figure.room).or_default().insert(figure.name, figure.help);
    }
    PAGE.replace(PAGE_HELP, &json!(help).to_string()).into()
}

/// Creates the handler of all plain HTTP requests to a node's port.
pub fn handler(source: Arc<dyn StatusSource>, registry: Registry, metrics: Metrics) -> HttpHandler {
    let (page, pd_http) = (page(), PdHttp::default());
    Arc::new(move |request: HttpRequest| {
        let (source, registry, metrics, page) = (source.clone(), registry.clone(), metrics.clone(), page.clone());
        let pd_http = pd_http.clone();
        Box::pin(async move {
            if PdHttp::owns(&request.path) {
                return pd_http.serve(source.placement_driver(), request).await;
            }
            if !matches!(request.method.as_str(), "GET" | "HEAD") {
                return problem(405, "use GET or HEAD");
            }
            // The server drops the body of a response to HEAD, and keeps its length.
            match request.path.as_str() {
                "/" => ok("text/html; charset=utf-8", page),
                path => get(path, &*source, &registry, &metrics).await,
            }
        })
    })
}

async fn get(path: &str, source: &dyn StatusSource, registry: &Registry, metrics: &Metrics) -> HttpResponse {
    match path {
        "/status" => ok("application/json", document(&source.status().await, metrics).to_string()),
        "/metrics" => {
            source.measure().await;
            match TextEncoder::new().encode_to_string(&registry.gather()) {
                Ok(text) => ok("text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => problem(500, &error.to_string()),
            }
        }
        "/config" => ok("application/json", source.config()),
        "/readyz" | "/ready" | "/healthz" => probe(source.serving()),
        "/livez" => probe(source.alive()),
        "/health" => health(source.alive()),
        _ => problem(
            404,
            "no such page: the pages are /, /status, /metrics, /config, /livez, /readyz, /ready, /health and /healthz",
        ),
    }
}

fn ok(content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    HttpResponse { status: 200, content_type, body: body.into() }
}

fn problem(status: u16, why: &str) -> HttpResponse {
    HttpResponse { status, content_type: "application/json", body: json!({ "error": why }).to_string().into() }
}

/// Returns the response to a probe, which looks only at the status code.
fn probe(state: Result<(), String>) -> HttpResponse {
    match state {
        Ok(()) => ok("text/plain; charset=utf-8", "ok\n"),
        Err(why) => problem(503, &why),
    }
}

/// Returns the response of `/health`, in etcd's form.
fn health(alive: Result<(), String>) -> HttpResponse {
    let status = if alive.is_ok() { 200 } else { 503 };
    let body = json!({ "health": alive.is_ok().to_string(), "reason": alive.err().unwrap_or_default() });
    HttpResponse { status, content_type: "application/json", body: body.to_string().into() }
}

/// Returns the document at `/status`.
fn document(status: &NodeStatus, metrics: &Metrics) -> Value {
    let requests: BTreeMap<&str, u64> = Method::ALL
        .iter()
        .map(|&method| (method.name(), metrics.count(method)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let errors: BTreeMap<&str, u64> = Method::ALL
        .iter()
        .map(|&method| (method.name(), metrics.errors(method)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let figures = |room: &str| status.figures.get(room).cloned().unwrap_or_default();
    let mut out = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": status.name,
        "address": status.address,
        // Ids are strings, because most JSON readers are exact only up to 2^53.
        "cluster_id": status.cluster_id.to_string(),
        "store_id": status.store_id,
        "uptime_s": status.uptime.as_secs_f64(),
        "serving": status.serving,
        "poisoned": status.poisoned,
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "requests": requests,
        "errors": errors,
        "raft": figures("raft"),
        "log": figures("log"),
        "engine": figures("engine"),
        "load": figures("load"),
        "txn": figures("txn"),
        "pd": figures("pd"),
        "cpu": cpu(),
    });
    match &status.overview {
        Ok(overview) => {
            let leader = overview.leader.as_ref().map_or(0, |member| member.member_id);
            // A store with an older heartbeat is not alive.
            out["store_alive_ms"] = overview.store_alive_ms.into();
            out["members"] = overview.members.iter().map(|m| member(m, leader)).collect();
            out["stores"] = overview.stores.iter().map(store).collect();
            out["loads"] = overview.loads.iter().map(load).collect();
            out["regions"] = overview.regions.iter().map(|r| heartbeat(r, &overview.stores)).collect();
        }
        Err(why) => out["overview_error"] = why.as_str().into(),
    }
    out
}

fn member(member: &Member, leader: u64) -> Value {
    json!({
        "name": member.name,
        "id": member.member_id.to_string(),
        "urls": member.client_urls,
        "leader": leader != 0 && member.member_id == leader,
    })
}

fn store(overview: &StoreOverview) -> Value {
    let store = overview.store.clone().unwrap_or_default();
    json!({
        "id": store.id,
        "address": store.address,
        "state": format!("{:?}", store.state()),
        "version": store.version,
        "capacity_bytes": overview.capacity_bytes,
        "available_bytes": overview.available_bytes,
        "used_bytes": overview.used_bytes,
        "reads_per_s": overview.reads_per_s,
        "writes_per_s": overview.writes_per_s,
        "leaders": overview.leaders,
        "regions": overview.regions,
        // Absent if PD has had no heartbeat from the store since its leader changed.
        "heartbeat_age_ms": (overview.heartbeat_age_ms != u64::MAX).then_some(overview.heartbeat_age_ms),
    })
}

fn load(load: &RegionLoad) -> Value {
    json!({
        "region": load.region_id,
        "store": load.store_id,
        "leads": load.leads,
        "reads_per_s": load.reads,
        "read_keys_per_s": load.read_keys,
        "read_bytes_per_s": load.read_bytes,
        "writes_per_s": load.writes,
        "written_keys_per_s": load.written_keys,
        "written_bytes_per_s": load.written_bytes,
        // Hot from three on.
        "read_hits": load.read_hits,
        "write_hits": load.write_hits,
    })
}

fn heartbeat(heartbeat: &RegionHeartbeat, stores: &[StoreOverview]) -> Value {
    let region = heartbeat.region.clone().unwrap_or_default();
    let leader = heartbeat.leader.as_ref().map_or(0, |peer| peer.store_id);
    let address = stores.iter().filter_map(|s| s.store.as_ref()).find(|s| s.id == leader).map(|s| s.address.as_str());
    let mut out = descriptor(&region);
    out["leader_store"] = (leader != 0).then_some(leader).into();
    out["leader_address"] = address.into();
    out["term"] = heartbeat.term.into();
    out["approximate_bytes"] = heartbeat.approximate_bytes.into();
    out["approximate_keys"] = heartbeat.approximate_keys.into();
    out
}

fn peer(status: &PeerStatus) -> Value {
    let mut out = descriptor(&status.region);
    out["peer"] = status.peer.into();
    out["leader_peer"] = (status.leader != 0).then_some(status.leader).into();
    out["leads"] = (status.leader == status.peer).into();
    out["term"] = status.term.into();
    out["applied"] = status.applied.into();
    out
}

fn descriptor(region: &Region) -> Value {
    let epoch = region::epoch(region);
    json!({
        "id": region.id,
        // The form that `armilla ctl` prints and accepts.
        "start": text::boundary(&region.start_key),
        "end": text::boundary(&region.end_key),
        "epoch": { "conf_ver": epoch.conf_ver, "version": epoch.version },
        "peers": region.peers.iter().map(|Peer { id, store_id, .. }| json!({ "id": id, "store": store_id })).collect::<Vec<_>>(),
    })
}

/// Returns the instruction sets of this machine, and the tier that each kernel of [`crate::arch`] uses.
fn cpu() -> Value {
    let kernels: BTreeMap<&str, String> =
        arch::kernels().into_iter().map(|kernel| (kernel.name, kernel.tier)).collect();
    json!({
        "architecture": std::env::consts::ARCH,
        "features": arch::features(),
        "tier": arch::dispatch::active().name(),
        "kernels": kernels,
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    struct Fixed(NodeStatus);

    impl StatusSource for Fixed {
        fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
        fn measure(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }
        fn serving(&self) -> Result<(), String> {
            match &self.0.poisoned {
                Some(why) => Err(why.clone()),
                None if self.0.serving => Ok(()),
                None => Err("the node is starting".into()),
            }
        }
        fn config(&self) -> String {
            json!({ "name": self.0.name }).to_string()
        }
        fn placement_driver(&self) -> Option<Arc<dyn PdHttpPeers>> {
            None
        }
        fn alive(&self) -> Result<(), String> {
            self.0.poisoned.clone().map_or(Ok(()), Err)
        }
    }

    fn node() -> NodeStatus {
        let peer = |id, store_id| Peer { id, store_id, ..Peer::default() };
        let region = Region {
            id: 7,
            start_key: "a\n".into(),
            end_key: crate::codec::bytes::encode(b"user:7"),
            peers: vec![peer(8, 1), peer(9, 2)],
            ..Region::default()
        };
        let store = crate::proto::metapb::Store { id: 2, address: "h:2".into(), ..Default::default() };
        NodeStatus {
            name: "n1".into(),
            address: "h:1".into(),
            cluster_id: u64::MAX,
            store_id: 1,
            uptime: Duration::from_millis(1500),
            serving: true,
            poisoned: None,
            overview: Ok(OverviewReply {
                cluster_id: u64::MAX,
                members: vec![Member { name: "n1".into(), member_id: 5, ..Member::default() }],
                leader: Some(Member { member_id: 5, ..Member::default() }),
                stores: vec![StoreOverview {
                    store: Some(store),
                    heartbeat_age_ms: u64::MAX,
                    ..StoreOverview::default()
                }],
                regions: vec![RegionHeartbeat {
                    region: Some(region.clone()),
                    leader: Some(peer(9, 2)),
                    ..RegionHeartbeat::default()
                }],
                store_alive_ms: 5000,
                ..OverviewReply::default()
            }),
            peers: vec![PeerStatus { region, peer: 8, leader: 9, term: 3, applied: 11 }],
            figures: BTreeMap::from([("log", BTreeMap::from([("segments", 2)]))]),
        }
    }

    fn ask(node: NodeStatus, method: &str, path: &str) -> HttpResponse {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let handler = handler(Arc::new(Fixed(node)), registry, metrics);
        let request = HttpRequest { method: method.into(), path: path.into(), ..HttpRequest::default() };
        handler(request).now_or_never().unwrap()
    }

    #[test]
    fn the_document_says_who_leads_what() {
        let body = ask(node(), "GET", "/status").body;
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["cluster_id"], u64::MAX.to_string());
        assert_eq!(json["members"][0]["leader"], true);
        assert_eq!(json["regions"][0]["leader_store"], 2);
        assert_eq!(json["regions"][0]["leader_address"], "h:2");
        assert_eq!(
            (&json["regions"][0]["start"], &json["regions"][0]["end"]),
            (&"a\\n".into(), &"\\mem{user:7}".into())
        );
        assert_eq!(json["stores"][0]["heartbeat_age_ms"], Value::Null);
        assert_eq!(json["peers"][0]["leads"], false);
        assert_eq!(json["log"]["segments"], 2);
        assert_eq!(json["cpu"]["tier"], arch::dispatch::active().name());
        assert_eq!(json["cpu"]["kernels"].as_object().unwrap().len(), arch::kernels().len());
        assert_eq!(json["store_alive_ms"], 5000);
    }

    #[test]
    fn pages_and_what_is_none() {
        let page = ask(node(), "GET", "/").body;
        assert!(page.starts_with(b"<!doctype html>"));
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains(r#""syncs":"How often"#) && !page.contains(PAGE_HELP), "the statistics are explained");
        let head = ask(node(), "HEAD", "/status");
        assert_eq!((head.status, head.body), (200, ask(node(), "GET", "/status").body));
        assert!(ask(node(), "GET", "/metrics").body.windows(22).any(|w| w == b"armilla_batch_streams "));
        assert_eq!(ask(node(), "GET", "/nothing").status, 404);
        assert_eq!(ask(node(), "POST", "/status").status, 405);
        assert_eq!(ask(node(), "POST", "/pd/api/v1/operators").status, 503, "it does not belong to a cluster yet");
        assert_eq!(ask(node(), "GET", "/pd/api/v1/ping").status, 200);
        assert_eq!(ask(node(), "GET", "/config").body, r#"{"name":"n1"}"#);
    }

    #[test]
    fn probes_tell_a_start_from_an_end() {
        let probe = |node: NodeStatus, path: &str| {
            let answer = ask(node, "GET", path);
            (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
        };
        let starting = NodeStatus { serving: false, ..node() };
        let stopped = NodeStatus { serving: false, poisoned: Some("fsync failed".into()), ..node() };
        for path in ["/readyz", "/ready", "/healthz"] {
            assert_eq!(probe(node(), path), (200, "ok\n".into()));
            assert_eq!(probe(starting.clone(), path), (503, r#"{"error":"the node is starting"}"#.into()));
            assert_eq!(probe(stopped.clone(), path), (503, r#"{"error":"fsync failed"}"#.into()));
        }
        assert_eq!(probe(node(), "/health"), (200, r#"{"health":"true","reason":""}"#.into()));
        assert_eq!(probe(node(), "/livez"), (200, "ok\n".into()));
        assert_eq!(probe(starting.clone(), "/livez").0, 200, "a starting node is alive");
        assert_eq!(probe(stopped.clone(), "/livez"), (503, r#"{"error":"fsync failed"}"#.into()));
        assert_eq!(probe(starting, "/health").0, 200);
        assert_eq!(probe(stopped, "/health"), (503, r#"{"health":"false","reason":"fsync failed"}"#.into()));
    }

    #[test]
    fn without_the_overview_the_node_still_answers() {
        let mut alone = node();
        alone.overview = Err("no leader".into());
        let json: Value = serde_json::from_slice(&ask(alone, "GET", "/status").body).unwrap();
        assert_eq!(json["overview_error"], "no leader");
        assert_eq!(json["peers"][0]["id"], 7);
        assert!(json.get("regions").is_none());
    }

    /// Returns the contrast of two colors by their relative luminance, as WCAG 2.2 defines them.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |color: &str| {
            let digits: Vec<u32> = color.chars().skip(1).map(|c| c.to_digit(16).unwrap()).collect();
            let parts: Vec<u32> = match digits.len() {
                3 => digits.iter().map(|digit| digit * 17).collect(),
                _ => digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect(),
            };
            let linear = |part: u32| {
                let part = f64::from(part) / 255.0;
                if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(parts[0]) + 0.7152 * linear(parts[1]) + 0.0722 * linear(parts[2])
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn the_page_can_be_read_by_day_and_by_night() {
        assert!((contrast("#fff", "#000") - 21.0).abs() < 0.01 && (contrast("#777777", "#fff") - 4.48).abs() < 0.01);
        let schemes: Vec<&str> = PAGE.lines().filter(|line| line.contains("--ground:")).collect();
        assert_eq!(schemes.len(), 2, "light and dark");
        for scheme in schemes {
            let color = |name: &str| {
                let rest = scheme.split_once(&format!("--{name}: ")).unwrap_or_else(|| panic!("no {name}: {scheme}")).1;
                rest.split_once(';').unwrap().0
            };
            for ground in ["ground", "card"] {
                for (name, least) in [("text", 4.5), ("soft", 4.5), ("link", 4.5), ("good", 3.0), ("bad", 3.0)] {
                    let ratio = contrast(color(name), color(ground));
                    assert!(ratio >= least, "{name} on {ground} has {ratio:.2}:1, less than {least}:1: {scheme}");
                }
            }
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "<link"] {
            assert!(!PAGE.contains(outside), "the page refers to {outside}");
        }
    }
}
