//! **Goal**: a client's cache converges on what servers say, and never goes back. **Method**: handmade regions, one
//! error each.

use super::*;
use crate::proto::errorpb::{EpochNotMatch, Error, NotLeader, RegionNotFound, ServerIsBusy, UndeterminedResult};
use crate::proto::metapb::RegionEpoch;

fn peer(id: u64) -> Peer {
    Peer { id, store_id: id % 10, ..Default::default() }
}

/// Returns the region `id` over `[start, end)` with the peers id*10+1..=id*10+3 on the stores 1..=3.
fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
    Region {
        id,
        start_key: Bytes::copy_from_slice(start.as_bytes()),
        end_key: Bytes::copy_from_slice(end.as_bytes()),
        region_epoch: Some(RegionEpoch { conf_ver: 1, version }),
        peers: (1..=3).map(|store| peer(id * 10 + store)).collect(),
        ..Default::default()
    }
}

fn cache() -> RegionCache {
    let mut cache = RegionCache::new();
    assert!(cache.insert(region(1, "", "g", 1), Some(&peer(12))));
    assert!(cache.insert(region(2, "g", "p", 1), Some(&peer(21))));
    assert!(cache.insert(region(3, "p", "", 1), None));
    cache
}

fn id_at(cache: &RegionCache, key: &str) -> Option<u64> {
    cache.locate(key.as_bytes()).map(|located| located.region.id)
}

#[test]
fn locates_by_key_and_by_upper_bound() {
    let cache = cache();
    assert_eq!(
        [id_at(&cache, ""), id_at(&cache, "f"), id_at(&cache, "g"), id_at(&cache, "zz")],
        [1, 1, 2, 3].map(Some)
    );
    let before = |upper: &str| cache.locate_before(upper.as_bytes()).map(|located| located.region.id);
    assert_eq!([before("g"), before("ga"), before("p"), before("pa"), before("z")], [1, 2, 2, 3, 3].map(Some));
    assert_eq!(before(""), None, "nothing lies below the empty key");
    assert_eq!(cache.locate(b"a").unwrap().peer, peer(12));
}

#[test]
fn a_gap_is_not_covered_by_its_neighbour() {
    let mut cache = cache();
    cache.forget(2);
    assert_eq!(id_at(&cache, "h"), None);
    assert_eq!(cache.locate_before(b"p"), None);
    assert_eq!(id_at(&cache, "p"), Some(3));
}

#[test]
fn a_newer_epoch_replaces_what_it_overlaps_and_an_older_one_does_not() {
    let mut cache = cache();
    assert!(cache.insert(region(2, "g", "k", 2), None));
    assert!(cache.insert(region(4, "k", "p", 2), None));
    assert_eq!([id_at(&cache, "h"), id_at(&cache, "m")], [2, 4].map(Some));
    assert!(!cache.insert(region(2, "g", "p", 1), None), "the region before the split must not come back");
    assert_eq!(cache.len(), 4);
    // A merge: one region replaces three.
    assert!(cache.insert(region(4, "g", "", 3), None));
    assert_eq!([id_at(&cache, "h"), id_at(&cache, "z")], [4, 4].map(Some));
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_hint_moves_the_leader_at_once() {
    let mut cache = cache();
    let asked = cache.locate(b"a").unwrap();
    let hint = |leader| Error { not_leader: Some(NotLeader { region_id: 1, leader }), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &hint(Some(peer(13)))), Verdict::Again);
    assert_eq!(cache.locate(b"a").unwrap().peer, peer(13));
    // Without a hint, the next peer is asked after a wait.
    let asked = cache.locate(b"a").unwrap();
    assert_eq!(cache.on_region_error(&asked, &hint(None)), Verdict::Later(Duration::ZERO));
    assert_eq!(cache.locate(b"a").unwrap().peer, peer(11));
    // A hint to the peer that refused must not cause a tight loop.
    let asked = cache.locate(b"a").unwrap();
    assert_eq!(cache.on_region_error(&asked, &hint(Some(peer(11)))), Verdict::Later(Duration::ZERO));
    // A hint to a peer that the cached region does not have: ask PD.
    let asked = cache.locate(b"a").unwrap();
    assert_eq!(cache.on_region_error(&asked, &hint(Some(peer(99)))), Verdict::Later(Duration::ZERO));
    assert_eq!(id_at(&cache, "a"), None);
}

#[test]
fn a_late_failure_does_not_move_the_new_leader() {
    let mut cache = cache();
    cache.rotate(1, &peer(11));
    assert_eq!(cache.locate(b"a").unwrap().peer, peer(12), "peer 11 was not the one asked");
    cache.rotate(1, &peer(12));
    assert_eq!(cache.locate(b"a").unwrap().peer, peer(13));
}

#[test]
fn a_split_is_learnt_from_the_error() {
    let mut cache = cache();
    let asked = cache.locate(b"h").unwrap();
    let current_regions = vec![region(2, "g", "k", 2), region(4, "k", "p", 2)];
    let error = Error { epoch_not_match: Some(EpochNotMatch { current_regions }), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &error), Verdict::Again);
    assert_eq!([id_at(&cache, "h"), id_at(&cache, "m")], [2, 4].map(Some));
    assert_eq!(
        cache.locate(b"m").unwrap().peer.store_id,
        asked.peer.store_id,
        "the peer that answered is taken for the leader"
    );
}

#[test]
fn a_store_that_is_behind_is_waited_for() {
    let mut cache = cache();
    assert!(cache.insert(region(2, "g", "p", 5), None));
    let asked = cache.locate(b"h").unwrap();
    let current_regions = vec![region(2, "g", "p", 4)];
    let error = Error { epoch_not_match: Some(EpochNotMatch { current_regions }), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &error), Verdict::Later(Duration::ZERO));
    assert_eq!(region::epoch(&cache.locate(b"h").unwrap().region).version, 5);
    // Without a region in the error, PD is asked.
    let error = Error { epoch_not_match: Some(EpochNotMatch::default()), ..Default::default() };
    let asked = cache.locate(b"h").unwrap();
    assert_eq!(cache.on_region_error(&asked, &error), Verdict::Later(Duration::ZERO));
    assert_eq!(id_at(&cache, "h"), None);
}

#[test]
fn a_merged_region_takes_the_place_of_both() {
    let mut cache = cache();
    let moved = |id, start, end, version, conf_ver| {
        let mut region = region(id, start, end, version);
        region.region_epoch = region.region_epoch.map(|epoch| region::RegionEpoch { conf_ver, ..epoch });
        region
    };
    assert!(cache.insert(moved(2, "g", "p", 4, 9), None));
    // Its members changed less often than those of the region that it took over.
    assert!(cache.insert(moved(1, "", "p", 5, 1), None));
    assert_eq!([id_at(&cache, "a"), id_at(&cache, "h")], [1, 1].map(Some));
    assert!(!cache.insert(moved(2, "g", "p", 4, 9), None), "the one that is no more");
}

#[test]
fn the_rest_of_the_errors() {
    let mut cache = cache();
    let asked = cache.locate(b"a").unwrap();
    let busy =
        Error { server_is_busy: Some(ServerIsBusy { backoff_ms: 9, ..Default::default() }), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &busy), Verdict::Later(Duration::from_millis(9)));
    let unknown = Error { undetermined_result: Some(UndeterminedResult::default()), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &unknown), Verdict::Unknown);
    let large = Error { raft_entry_too_large: Some(Default::default()), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &large), Verdict::Refused);
    assert_eq!(id_at(&cache, "a"), Some(1), "none of these errors says that the region has moved");
    let gone = Error { region_not_found: Some(RegionNotFound { region_id: 1 }), ..Default::default() };
    assert_eq!(cache.on_region_error(&asked, &gone), Verdict::Later(Duration::ZERO));
    assert_eq!(id_at(&cache, "a"), None);
}
