//! The state of groups that a store keeps beside the log, in [`Cf::Meta`].
//!
//! All numbers outside of [`PeerState`] have 8 bytes and are big endian.
//!
//! | key | value |
//! |---|---|
//! | `a` group | the group's applied index and its term; part of every batch of applied entries |
//! | `g` group | [`PeerState`]: descriptor, peer, last snapshot; written when it changes |
//! | `p` | the longest promise that a voter here made, in nanoseconds |
//! | `t` group | the lowest ID that a peer of the group may have here: every lower one is destroyed for good; and the group that took over its range, if one has |
//! | `r` store | the newest run of another store that was heard here: its number and nonce |
//!
//! **Never**: an applied index in another batch than the entries that it counts.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::engine::{Cf, Read, Visit, WriteBatch};
use crate::proto::armilla::raft::{Incarnation, Merges, PeerState};
use crate::types::{Error, GroupId, Region, Result, region};

const APPLIED: u8 = b'a';
const STATE: u8 = b'g';
const TOMBSTONE: u8 = b't';
const PROMISE: &[u8] = b"p";
const RUN: u8 = b'r';

/// The state of a group in the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupState {
    /// The region descriptor.
    pub region: Region,
    /// The ID of this store's peer.
    pub peer: u64,
    /// The index of the last snapshot installed here; 0 if none.
    pub installed: u64,
    /// Index and term of the last applied entry.
    pub applied: (u64, u64),
    /// Whether the group began here with a snapshot and its log may not have begun yet.
    pub newcomer: bool,
    /// What merges have made of the group.
    pub merges: Merges,
}

/// What remains of a group on a store where a peer of it was destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tombstone {
    /// The lowest ID that a peer of the group may have here.
    pub peer_id_min: u64,
    /// The group that took over the range, if the group ended so.
    pub heir: Option<GroupId>,
}

impl Tombstone {
    /// Returns the tombstone of a peer.
    pub fn of(peer: u64) -> Tombstone {
        Tombstone { peer_id_min: peer + 1, heir: None }
    }

    /// Returns the tombstone of a group that became part of another one: no peer of it ever runs again.
    pub fn merged(heir: GroupId) -> Tombstone {
        Tombstone { peer_id_min: u64::MAX, heir: Some(heir) }
    }
}

impl GroupState {
    /// Adds the whole state to a batch.
    pub(super) fn put(&self, batch: &mut WriteBatch) {
        let group = GroupId(self.region.id);
        let here = region::peer_by_id(&self.region, self.peer);
        assert!(here.is_some(), "group {group}: its state names peer {}, which is not one of its members", self.peer);
        assert!(self.installed <= self.applied.0, "group {group}: an installed snapshot is applied");
        let state = PeerState {
            region: Some(self.region.clone()),
            peer_id: self.peer,
            installed_index: self.installed,
            newcomer: self.newcomer,
            merges: (self.merges != Merges::default()).then(|| self.merges.clone()),
        };
        batch.put(Cf::Meta, key(STATE, group.0), state.encode_to_vec());
        put_applied(batch, group, self.applied);
    }
}

/// Adds the end of a group's peer.
pub(super) fn bury(batch: &mut WriteBatch, group: GroupId, tombstone: Tombstone) {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64(tombstone.peer_id_min);
    if let Some(heir) = tombstone.heir {
        value.put_u64(heir.0);
    }
    batch.put(Cf::Meta, key(TOMBSTONE, group.0), value.freeze());
    batch.delete(Cf::Meta, key(STATE, group.0));
    batch.delete(Cf::Meta, key(APPLIED, group.0));
}

/// Reads the tombstones of peers that were destroyed here, by group.
///
/// # Errors
/// [`Error::Corruption`] if one does not decode.
pub(super) fn tombstones(engine: &impl Read) -> Result<BTreeMap<GroupId, Tombstone>> {
    let mut found: BTreeMap<GroupId, Tombstone> = BTreeMap::new();
    let mut bad = None;
    engine.scan(Cf::Meta, &[TOMBSTONE], &[TOMBSTONE + 1], &mut |key, value| {
        let (min, heir) = value.split_at(value.len().min(8));
        match (number(&key[1..]), number(min), number(heir)) {
            (Some(group), Some(peer_id_min), heir) if heir.is_some() || value.len() == 8 => {
                found.insert(GroupId(group), Tombstone { peer_id_min, heir: heir.map(GroupId) });
            }
            _ => bad = Some(key.escape_ascii().to_string()),
        }
        Visit::More
    })?;
    let corrupt = |key| Error::Corruption(format!("cannot decode a tombstone in the engine, key {key}"));
    bad.map_or(Ok(found), |key| Err(corrupt(key)))
}

fn key(kind: u8, id: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(kind);
    key.put_u64(id);
    key.freeze()
}

/// Adds a group's applied index and term to the batch of what was applied.
pub(super) fn put_applied(batch: &mut WriteBatch, group: GroupId, (index, term): (u64, u64)) {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64(index);
    value.put_u64(term);
    batch.put(Cf::Meta, key(APPLIED, group.0), value.freeze());
}

/// Reads the applied index and term of a group; `None` if the engine does not hold the group.
///
/// # Errors
/// [`Error::Corruption`] if they do not decode.
pub(super) fn applied(engine: &impl Read, group: GroupId) -> Result<Option<(u64, u64)>> {
    let Some(value) = engine.get(Cf::Meta, &key(APPLIED, group.0))? else { return Ok(None) };
    let (index, term) = value.split_at(value.len().min(8));
    let place = number(index).zip(number(term));
    place
        .map(Some)
        .ok_or_else(|| Error::Corruption(format!("group {group}: cannot decode the applied index in the engine")))
}

/// Reads the states of all groups from the engine, in the order of their IDs.
///
/// # Errors
/// [`Error::Corruption`] if one does not decode or is incomplete.
pub fn stored(engine: &impl Read) -> Result<Vec<GroupState>> {
    let mut applied: BTreeMap<u64, Result<(u64, u64)>> = BTreeMap::new();
    let corrupt = |what: &str, key: &[u8]| {
        Error::Corruption(format!("cannot decode {what} in the engine, key {}", key.escape_ascii()))
    };
    engine.scan(Cf::Meta, &[APPLIED], &[APPLIED + 1], &mut |key, value| {
        let place = (number(&value[..value.len().min(8)]), number(&value[value.len().min(8)..]));
        let place = place.0.zip(place.1).ok_or_else(|| corrupt("the applied index of a group", key));
        if let Some(group) = number(&key[1..]) {
            applied.insert(group, place);
        }
        Visit::More
    })?;
    let mut states: Vec<Result<PeerState>> = Vec::new();
    engine.scan(Cf::Meta, &[STATE], &[STATE + 1], &mut |key, value| {
        states.push(PeerState::decode(value).map_err(|_| corrupt("the state of a group", key)));
        Visit::More
    })?;
    let whole = |state: Result<PeerState>| {
        let PeerState { region, peer_id, installed_index, newcomer, merges } = state?;
        let region =
            region.ok_or_else(|| Error::Corruption("the state of a group in the engine has no descriptor".into()))?;
        let applied = applied.get(&region.id).cloned().unwrap_or_else(|| {
            Err(Error::Corruption(format!("group {}: the engine has its state but not its applied index", region.id)))
        })?;
        Ok(GroupState {
            region,
            peer: peer_id,
            installed: installed_index,
            applied,
            newcomer,
            merges: merges.unwrap_or_default(),
        })
    };
    states.into_iter().map(whole).collect()
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// Reads the longest promise that a voter of this store made, in nanoseconds; 0 if none.
///
/// # Errors
/// [`Error::Corruption`] if it does not decode.
pub(super) fn longest_promise_ns(engine: &impl Read) -> Result<u64> {
    let Some(value) = engine.get(Cf::Meta, PROMISE)? else { return Ok(0) };
    number(&value).ok_or_else(|| Error::Corruption("cannot decode the longest promise in the engine".into()))
}

/// Adds the longest promise to a batch.
pub(super) fn put_longest_promise(batch: &mut WriteBatch, promise_ns: u64) {
    batch.put(Cf::Meta, PROMISE, Bytes::copy_from_slice(&promise_ns.to_be_bytes()));
}

/// Reads the newest run of each other store that was heard here.
///
/// # Errors
/// [`Error::Corruption`] if one does not decode.
pub(super) fn runs_heard(engine: &impl Read) -> Result<BTreeMap<u64, Incarnation>> {
    let mut runs: BTreeMap<u64, Incarnation> = BTreeMap::new();
    let mut bad = None;
    engine.scan(Cf::Meta, &[RUN], &[RUN + 1], &mut |key, value| {
        let (boot, nonce) = value.split_at(value.len().min(8));
        match (number(&key[1..]), number(boot), number(nonce)) {
            (Some(store), Some(boot), Some(nonce)) => drop(runs.insert(store, Incarnation { boot, nonce })),
            _ => bad = Some(key.escape_ascii().to_string()),
        }
        Visit::More
    })?;
    let corrupt = |key| Error::Corruption(format!("cannot decode the run of a store in the engine, key {key}"));
    bad.map_or(Ok(runs), |key| Err(corrupt(key)))
}

/// Adds the newest run of a store to a batch.
pub(super) fn put_run_heard(batch: &mut WriteBatch, store: u64, run: Incarnation) {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64(run.boot);
    value.put_u64(run.nonce);
    batch.put(Cf::Meta, key(RUN, store), value.freeze());
}

#[cfg(test)]
mod tests {
    //! Goal: stored state is read back, and half of it is corruption. Method: the simulated engine, by hand.

    use super::*;
    use crate::engine::{KvEngine, SimEngine, SimStorage};

    #[test]
    fn states_come_back_whole_or_not_at_all() {
        let engine = SimEngine::open(&SimStorage::new()).unwrap();
        assert_eq!((stored(&engine), longest_promise_ns(&engine)), (Ok(vec![]), Ok(0)));
        let state = |id| GroupState {
            region: Region {
                id,
                peers: vec![region::Peer { id: id * 10, store_id: 1, ..Default::default() }],
                ..Region::default()
            },
            peer: id * 10,
            installed: 3,
            applied: (8, 6),
            newcomer: id == 9,
            merges: Merges::default(),
        };
        let mut batch = WriteBatch::new();
        state(2).put(&mut batch);
        state(9).put(&mut batch);
        put_longest_promise(&mut batch, 77);
        let run = Incarnation { boot: 3, nonce: 5 };
        put_run_heard(&mut batch, 4, run);
        engine.write(&batch).unwrap();
        batch.clear();
        put_applied(&mut batch, GroupId(9), (9, 7));
        engine.write(&batch).unwrap();
        let moved = GroupState { applied: (9, 7), ..state(9) };
        assert_eq!((stored(&engine), longest_promise_ns(&engine)), (Ok(vec![state(2), moved]), Ok(77)));
        assert_eq!(runs_heard(&engine), Ok([(4, run)].into()));
        batch.clear();
        batch.delete(Cf::Meta, key(APPLIED, 2));
        engine.write(&batch).unwrap();
        assert!(stored(&engine).unwrap_err().to_string().contains("group 2"));
    }
}
