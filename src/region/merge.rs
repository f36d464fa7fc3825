//! What each step of a merge makes of a region's descriptor and state. Pure: every replica gets the same result.
//!
//! The *source* agrees in its own log: it freezes, and once all of its peers hold that in their logs, it is sealed. The
//! *target* decides in its own log: the first that it applies at the epoch for which the source froze, to commit the
//! merge or to refuse it, counts.
//!
//! **In** come a descriptor, what merges have made of it, and a step; **out** comes what they are after it, or the
//! reason why the step is not made. **Never**: a key with two owners; a version that is not above that of every region
//! that had one of the keys before; a frozen region that changes in any other way.

use crate::proto::armilla::raft::{Absorbed, CommitMerge, Merges, Merging, PrepareMerge, RollBackMerge, SealMerge};
use crate::proto::metapb::PeerRole;
use crate::raft::machine::ApplyContext;
use crate::types::limits::ABSORBED_MAX;
use crate::types::region::{Peer, RegionEpoch};
use crate::types::{Region, region};

use super::marks;

/// A region's descriptor, and what merges have made of it.
pub type State = (Region, Merges);

fn stores(region: &Region) -> Vec<u64> {
    let mut stores: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
    stores.sort_unstable();
    stores
}

fn with_epoch(region: &Region, epoch: RegionEpoch) -> Region {
    Region { region_epoch: Some(epoch), ..region.clone() }
}

/// Returns the source's state when it is frozen by the command at `at`.
///
/// # Errors
/// The reason, as a sentence.
pub fn prepare((region, merges): &State, command: &PrepareMerge, at: ApplyContext) -> Result<State, String> {
    let id = region.id;
    let target = command.target.as_ref().ok_or_else(|| format!("region {id}: a merge without a target"))?;
    if target.id == id || !region::adjoin(region, target) {
        return Err(format!("regions {id} and {} are not neighbours", target.id));
    }
    let votes = |region: &Region| region.peers.iter().all(|peer: &Peer| peer.role() == PeerRole::Voter);
    if !votes(region) || !votes(target) {
        return Err(format!("regions {id} and {}: only regions whose peers all vote are merged", target.id));
    }
    if stores(region) != stores(target) {
        return Err(format!("regions {id} and {} are not on the same stores: move their peers first", target.id));
    }
    let RegionEpoch { version, conf_ver } = region::epoch(region);
    let region = with_epoch(region, RegionEpoch { version: version + 1, conf_ver: conf_ver + 1 });
    let merging = Merging {
        prepared: at.index,
        prepared_term: at.term,
        target_id: target.id,
        target_epoch: Some(region::epoch(target)),
        is_sealed: false,
    };
    Ok((region, Merges { merging: Some(merging), ..merges.clone() }))
}

/// Returns the merge under way, which must be the one that was prepared at `prepared`.
fn under_way(region: &Region, merges: &Merges, prepared: u64) -> Result<Merging, String> {
    let merging = merges.merging.filter(|merging| merging.prepared == prepared);
    merging.ok_or_else(|| format!("region {}: no merge that was prepared at {prepared} is under way", region.id))
}

/// Returns the source's state when every peer's log holds the command that froze it.
///
/// # Errors
/// The reason, as a sentence.
pub fn seal((region, merges): &State, command: SealMerge) -> Result<State, String> {
    let merging = under_way(region, merges, command.prepared)?;
    let merging = Some(Merging { is_sealed: true, ..merging });
    Ok((region.clone(), Merges { merging, ..merges.clone() }))
}

/// Returns the source's state when it goes on as before.
///
/// # Errors
/// The reason, as a sentence: once it is sealed, it needs proof that the target decided against the merge.
pub fn roll_back((region, merges): &State, command: RollBackMerge) -> Result<State, String> {
    let merging = under_way(region, merges, command.prepared)?;
    match (merging.is_sealed, command.is_proved) {
        (true, false) if !crate::mutant!("region.rollback-after-seal") => {
            return Err(format!("region {}: its merge is sealed, and needs proof to be rolled back", region.id));
        }
        (false, true) => return Err(format!("region {}: its merge is not sealed: nothing is decided", region.id)),
        _ => {}
    }
    let epoch = region::epoch(region);
    let region = with_epoch(region, RegionEpoch { version: epoch.version + 1, ..epoch });
    Ok((region, Merges { merging: None, ..merges.clone() }))
}

/// Returns the target's state when it takes over the source.
///
/// # Errors
/// The reason, as a sentence.
pub fn commit((region, merges): &State, command: &CommitMerge) -> Result<State, String> {
    let id = region.id;
    let source = command.source.as_ref().ok_or_else(|| format!("region {id}: a merge without a source"))?;
    if !region::adjoin(region, source) {
        return Err(format!("regions {} and {id} are not neighbours", source.id));
    }
    let listed = merges.absorbed.len() + command.absorbed.len() + 1;
    if listed > ABSORBED_MAX {
        return Err(format!("region {id} would list {listed} merged regions; at most {ABSORBED_MAX}"));
    }
    let (own, other) = (region::epoch(region), region::epoch(source));
    let above = if crate::mutant!("region.merge-version-low") { own.version } else { own.version.max(other.version) };
    let epoch = RegionEpoch { version: above + 1, ..own };
    let mut after = with_epoch(region, epoch);
    if region::meets(region, source) {
        after.end_key = source.end_key.clone();
    } else {
        after.start_key = source.start_key.clone();
    }
    let mut merges = merges.clone();
    if !crate::mutant!("region.list-not-inherited") {
        merges.absorbed.extend(command.absorbed.iter().cloned());
    }
    if !crate::mutant!("region.marks-not-merged") {
        merges.marks = marks::larger(merges.marks, command.marks);
    }
    merges.absorbed.push(Absorbed {
        source_id: source.id,
        target_id: id,
        version: epoch.version,
        store_ids: stores(source),
    });
    Ok((after, merges))
}

/// Returns the target's state when it decides against a merge at its present epoch.
pub fn refuse((region, merges): &State) -> State {
    let epoch = region::epoch(region);
    (with_epoch(region, RegionEpoch { version: epoch.version + 1, ..epoch }), merges.clone())
}

/// Returns the state when a source is forgotten.
///
/// # Errors
/// The reason, as a sentence.
pub fn forget((region, merges): &State, source: u64) -> Result<State, String> {
    let mut after = merges.clone();
    after.absorbed.retain(|one| one.source_id != source);
    if after.absorbed.len() == merges.absorbed.len() {
        return Err(format!("region {} does not list region {source}", region.id));
    }
    Ok((region.clone(), after))
}

#[cfg(test)]
mod tests {
    //! Goal: each step is made only where it fits, and never gives a key two owners. Method: by hand.
    use super::*;

    fn state(id: u64, start: &'static str, end: &'static str, version: u64) -> State {
        let peer = |store| Peer { id: id * 10 + store, store_id: store, ..Peer::default() };
        let region = Region {
            id,
            start_key: start.into(),
            end_key: end.into(),
            region_epoch: Some(RegionEpoch { conf_ver: 2, version }),
            peers: (1..=3).map(peer).collect(),
            ..Region::default()
        };
        (region, Merges::default())
    }

    fn prepared(source: &State, target: &State) -> Result<State, String> {
        prepare(source, &PrepareMerge { target: Some(target.0.clone()) }, ApplyContext { index: 17, term: 6 })
    }

    fn committed(target: &State, source: &State) -> Result<State, String> {
        let (region, merges) = source;
        let Merges { absorbed, marks, .. } = merges.clone();
        commit(target, &CommitMerge { source: Some(region.clone()), prepared: 17, prepared_term: 6, absorbed, marks })
    }

    #[test]
    fn the_target_takes_over_the_source() {
        for (source, target) in
            [(state(7, "a", "m", 9), state(8, "m", "", 4)), (state(7, "m", "", 9), state(8, "a", "m", 4))]
        {
            let frozen = prepared(&source, &target).unwrap();
            assert_eq!(region::epoch(&frozen.0), RegionEpoch { conf_ver: 3, version: 10 });
            assert!(roll_back(&frozen, RollBackMerge { prepared: 17, is_proved: true }).is_err());
            let sealed = seal(&frozen, SealMerge { prepared: 17 }).unwrap();
            assert!(seal(&frozen, SealMerge { prepared: 16 }).is_err());
            assert!(roll_back(&sealed, RollBackMerge { prepared: 17, is_proved: false }).is_err());
            let (region, merges) = committed(&target, &sealed).unwrap();
            assert_eq!((&region.start_key[..], &region.end_key[..]), (&b"a"[..], &b""[..]));
            assert_eq!(region::epoch(&region), RegionEpoch { conf_ver: 2, version: 11 });
            assert_eq!(
                merges.absorbed,
                [Absorbed { source_id: 7, target_id: 8, version: 11, store_ids: vec![1, 2, 3] }]
            );
            assert_eq!(region.peers, target.0.peers);
            let (_, merges) = forget(&(region, merges), 7).unwrap();
            assert_eq!(merges, Merges::default());
        }
    }

    #[test]
    fn the_ends_of_the_key_space_do_not_meet() {
        for (source, target) in
            [(state(7, "", "m", 1), state(8, "m", "", 1)), (state(7, "m", "", 1), state(8, "", "m", 1))]
        {
            let (region, _) = committed(&target, &prepared(&source, &target).unwrap()).unwrap();
            assert_eq!((&region.start_key[..], &region.end_key[..]), (&b""[..], &b""[..]));
        }
        assert!(!region::adjoin(&state(1, "", "a", 1).0, &state(2, "m", "", 1).0));
    }

    #[test]
    fn a_source_goes_on_above_its_old_version() {
        let (source, target) = (state(7, "a", "m", 9), state(8, "m", "", 4));
        let frozen = prepared(&source, &target).unwrap();
        let (region, merges) = roll_back(&frozen, RollBackMerge { prepared: 17, is_proved: false }).unwrap();
        assert_eq!((region::epoch(&region).version, merges.merging), (11, None));
        assert_eq!(region::epoch(&refuse(&target).0).version, 5);
    }

    #[test]
    fn what_a_source_absorbed_is_inherited() {
        let (first, second, third) = (state(7, "a", "d", 1), state(8, "d", "m", 1), state(9, "m", "", 1));
        let second = committed(&second, &prepared(&first, &second).unwrap()).unwrap();
        let (_, merges) = committed(&third, &prepared(&second, &third).unwrap()).unwrap();
        let listed: Vec<u64> = merges.absorbed.iter().map(|one| one.source_id).collect();
        assert_eq!(listed, [7, 8]);
    }

    #[test]
    fn only_neighbours_on_the_same_stores_are_merged() {
        let source = state(7, "a", "m", 9);
        assert!(prepared(&source, &state(8, "n", "", 4)).unwrap_err().contains("not neighbours"));
        assert!(prepared(&source, &source).unwrap_err().contains("not neighbours"));
        assert!(committed(&state(8, "n", "", 4), &source).unwrap_err().contains("not neighbours"));
        let mut elsewhere = state(8, "m", "", 4);
        elsewhere.0.peers[2].store_id = 5;
        assert!(prepared(&source, &elsewhere).unwrap_err().contains("same stores"));
        elsewhere.0.peers[2].store_id = 3;
        elsewhere.0.peers[2].set_role(PeerRole::Learner);
        assert!(prepared(&source, &elsewhere).unwrap_err().contains("all vote"));
    }

    #[test]
    fn the_list_is_bounded() {
        let (source, mut target) = (state(7, "a", "m", 9), state(8, "m", "", 4));
        target.1.absorbed = vec![Absorbed::default(); ABSORBED_MAX];
        assert!(committed(&target, &source).unwrap_err().contains("at most"));
    }
}
