//! Answers about regions: the documents, and the lists of them.
//!
//! A view of the cluster comes **in**, PD's documents go **out**. **Never**: keys in another form than upper-case hex
//! of what the store has; an error for a region that does not exist, where PD answers with an empty one.

use std::cmp::Reverse;

use bytes::Bytes;
use serde::Serialize;

use super::answer::{Answer, Answered, region_not_found};
use super::request::Request;
use super::text;
use crate::pd::view::{RegionView, View};
use crate::proto::metapb::{self, PeerRole};
use crate::types::region;

/// How many regions a list has if the request does not say.
const LIMIT: i64 = 16;

#[derive(Serialize)]
struct Epoch {
    conf_ver: u64,
    version: u64,
}

#[derive(Default, Serialize)]
pub(super) struct Peer {
    role_name: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    store_id: u64,
    #[serde(skip_serializing_if = "is_none")]
    role: i32,
}

#[derive(Serialize)]
struct DownPeer {
    peer: Peer,
    down_seconds: u64,
}

#[derive(Default, Serialize)]
pub(super) struct Region {
    id: u64,
    start_key: String,
    end_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Peer>,
    leader: Peer,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    down_peers: Vec<DownPeer>,
    cpu_usage: u64,
    written_bytes: u64,
    read_bytes: u64,
    written_keys: u64,
    read_keys: u64,
    approximate_size: u64,
    approximate_keys: u64,
}

#[derive(Serialize)]
struct Regions {
    count: usize,
    regions: Vec<Region>,
}

#[derive(Serialize)]
struct Count {
    count: usize,
    regions: Option<Vec<Region>>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none(role: &i32) -> bool {
    *role == 0
}

fn peer(peer: &metapb::Peer) -> Peer {
    let role_name = match peer.role() {
        PeerRole::Voter => "Voter",
        PeerRole::Learner => "Learner",
        PeerRole::IncomingVoter => "IncomingVoter",
        PeerRole::DemotingVoter => "DemotingVoter",
    };
    Peer {
        role_name,
        is_learner: peer.role() == PeerRole::Learner,
        id: peer.id,
        store_id: peer.store_id,
        role: peer.role,
    }
}

/// Returns a region's size as PD shows it, in MiB; 0 if its leader has not reported it.
pub(super) fn size_mib(view: &RegionView) -> u64 {
    view.size.map_or(0, |(bytes, _)| text::mib(bytes))
}

/// Returns a region's keys; 0 if its leader has not reported them.
pub(super) fn keys(view: &RegionView) -> u64 {
    view.size.map_or(0, |(_, keys)| keys)
}

/// Returns the document of a region.
fn document(view: &RegionView) -> Region {
    let region = &view.info.region;
    let epoch = region::epoch(region);
    let down = view
        .info
        .down
        .iter()
        .filter_map(|stats| Some(DownPeer { peer: peer(stats.peer.as_ref()?), down_seconds: stats.down_seconds }));
    Region {
        id: region.id,
        start_key: text::hex(&region.start_key),
        end_key: text::hex(&region.end_key),
        epoch: Some(Epoch { conf_ver: epoch.conf_ver, version: epoch.version }),
        peers: region.peers.iter().map(peer).collect(),
        leader: view.info.leader.as_ref().map(peer).unwrap_or_default(),
        down_peers: down.collect(),
        written_bytes: view.written_bytes,
        read_bytes: view.read_bytes,
        written_keys: view.written_keys,
        read_keys: view.read_keys,
        approximate_size: size_mib(view),
        approximate_keys: keys(view),
        ..Region::default()
    }
}

/// Returns the answer with the region, or with PD's document of none.
fn answer(found: Option<&RegionView>) -> Answer {
    Answer::regions(&found.map(document).unwrap_or_default())
}

/// Returns the answer with these regions.
pub(super) fn list<'v>(found: impl IntoIterator<Item = &'v RegionView>) -> Answer {
    let regions: Vec<Region> = found.into_iter().map(document).collect();
    Answer::regions(&Regions { count: regions.len(), regions })
}

/// Returns all regions, each once.
pub(super) fn each(view: &View) -> impl Iterator<Item = &RegionView> {
    view.regions.iter().filter(|region| region.newest)
}

/// Returns the region with this ID.
pub(super) fn find(view: &View, id: u64) -> Option<&RegionView> {
    each(view).find(|region| region.info.region.id == id)
}

/// Returns the position of the region that holds `key`, or of the first one after it.
fn position(view: &View, key: &[u8]) -> usize {
    view.regions.partition_point(|region| {
        let end = &region.info.region.end_key;
        !end.is_empty() && &end[..] <= key
    })
}

/// Returns the region that holds `key`.
pub(super) fn holding<'v>(view: &'v View, key: &[u8]) -> Option<&'v RegionView> {
    view.regions.get(position(view, key)).filter(|region| region::holds(&region.info.region, key))
}

/// Returns the regions that overlap `[start, end)`, in order. An empty `end` is infinity.
pub(super) fn between<'v>(view: &'v View, start: &[u8], end: &'v [u8]) -> impl Iterator<Item = &'v RegionView> {
    let first = position(view, start).min(view.regions.len());
    view.regions[first..].iter().take_while(move |region| end.is_empty() || &region.info.region.start_key[..] < end)
}

/// `GET /region/id/R`
pub(super) fn by_id(view: &View, request: &Request) -> Answered {
    let id = request.region_id()?;
    Ok(answer(find(view, id)))
}

/// `GET /region/key/K`
pub(super) fn by_key(view: &View, request: &Request) -> Answered {
    let key = Bytes::copy_from_slice(request.param(0));
    let is_hex = request.query("format").is_some_and(|format| format == "hex");
    let key = if is_hex { text::parse_hex(&key).map_err(|why| Answer::error(400, why))? } else { key };
    Ok(answer(holding(view, &key)))
}

/// `GET /regions`
pub(super) fn all(view: &View, _: &Request) -> Answered {
    Ok(list(each(view)))
}

/// `GET /regions/count`
pub(super) fn count(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&Count { count: each(view).count(), regions: None }))
}

/// `GET /regions/key?key=K&end_key=K&limit=N`
pub(super) fn scan(view: &View, request: &Request) -> Answered {
    let limit = request.number_of("limit", LIMIT)?;
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (start, end) = (request.query_or_empty("key"), request.query_or_empty("end_key"));
    Ok(list(between(view, &start, &end).take(limit)))
}

/// `GET /regions/store/S`
pub(super) fn of_store(view: &View, request: &Request) -> Answered {
    let store = request.number()?;
    Ok(list(each(view).filter(|view| region::peer_on(&view.info.region, store).is_some())))
}

/// `GET /regions/sibling/R`
pub(super) fn siblings(view: &View, request: &Request) -> Answered {
    let id = request.number()?;
    let at = view.regions.iter().position(|region| region.newest && region.info.region.id == id);
    let at = at.ok_or_else(|| region_not_found(404, id))?;
    let (own, before) = (&view.regions[at].info.region, at.checked_sub(1).and_then(|at| view.regions.get(at)));
    let left = before.filter(|left| left.info.region.end_key == own.start_key);
    let right = view.regions.get(at + 1).filter(|right| right.info.region.start_key == own.end_key);
    let regions: Vec<Region> = [left, right].map(|found| found.map(document).unwrap_or_default()).into();
    Ok(Answer::regions(&Regions { count: regions.len(), regions }))
}

/// Returns the regions of which `rank` is largest.
fn top(view: &View, request: &Request, rank: impl Fn(&RegionView) -> u64) -> Answered {
    let limit = usize::try_from(request.number_of("limit", LIMIT)?).unwrap_or(0);
    let mut regions: Vec<&RegionView> = each(view).collect();
    regions.sort_by_key(|region| Reverse(rank(region)));
    regions.truncate(limit);
    Ok(list(regions))
}

/// `GET /regions/size`
pub(super) fn largest(view: &View, request: &Request) -> Answered {
    top(view, request, |region| region.size.map_or(0, |(bytes, _)| bytes))
}

/// `GET /regions/keys`
pub(super) fn fullest(view: &View, request: &Request) -> Answered {
    top(view, request, keys)
}

/// `GET /regions/confver`
pub(super) fn most_moved(view: &View, request: &Request) -> Answered {
    top(view, request, |view| region::epoch(&view.info.region).conf_ver)
}

/// `GET /regions/version`
pub(super) fn most_split(view: &View, request: &Request) -> Answered {
    top(view, request, |view| region::epoch(&view.info.region).version)
}

/// `GET /regions/writeflow`
pub(super) fn most_written(view: &View, request: &Request) -> Answered {
    top(view, request, |region| region.written_bytes)
}

/// `GET /regions/readflow`
pub(super) fn most_read(view: &View, request: &Request) -> Answered {
    top(view, request, |region| region.read_bytes)
}

/// `GET /regions/writequery`
pub(super) fn most_writes(view: &View, request: &Request) -> Answered {
    top(view, request, |region| region.writes)
}

/// `GET /regions/readquery`
pub(super) fn most_reads(view: &View, request: &Request) -> Answered {
    top(view, request, |region| region.reads)
}
