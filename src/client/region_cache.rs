//! What a client knows about regions: the range, epoch and leader of each. Pure.
//!
//! Responses correct this knowledge: a region error says what is wrong, and [`RegionCache::on_region_error`] updates
//! the cache and says how to proceed. A region with a newer epoch replaces everything that it overlaps; one with an
//! older epoch never replaces a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::proto::errorpb;
use crate::types::region::{self, Peer, Region};

/// A region and the peer to ask, as far as known.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The region.
    pub region: Region,
    /// The peer to ask: the leader if known, otherwise any peer.
    pub peer: Peer,
}

/// How to proceed after a region error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing happened: try again at once.
    Again,
    /// Nothing happened: try again after waiting at least this long.
    Later(Duration),
    /// The request itself is wrong.
    Refused,
    /// The request may have been carried out.
    Unknown,
}

/// Regions by their start keys.
#[derive(Clone, Debug, Default)]
pub struct RegionCache {
    by_start: BTreeMap<Bytes, Entry>,
    start_of: BTreeMap<u64, Bytes>,
}

#[derive(Clone, Debug)]
struct Entry {
    region: Region,
    /// Index of the peer to ask.
    peer: usize,
}

impl Entry {
    fn located(&self) -> Located {
        Located { region: self.region.clone(), peer: self.region.peers[self.peer] }
    }
}

impl RegionCache {
    /// Creates an empty cache.
    pub fn new() -> RegionCache {
        RegionCache::default()
    }

    /// Returns how many regions are cached.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Returns whether no region is cached.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Returns the cached region that holds `key`.
    pub fn locate(&self, key: &[u8]) -> Option<Located> {
        if crate::buggify!("client.cache-miss") {
            return None;
        }
        let (_, entry) =
            self.by_start.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key))).next_back()?;
        region::holds(&entry.region, key).then(|| entry.located())
    }

    /// Returns the cached region that holds the keys right below `upper`.
    pub fn locate_before(&self, upper: &[u8]) -> Option<Located> {
        let (_, entry) = self
            .by_start
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(upper)))
            .next_back()?;
        let end = &entry.region.end_key;
        (end.is_empty() || upper <= &end[..]).then(|| entry.located())
    }

    /// Caches a region, with its `leader` if known. Returns false and changes nothing if a newer description of an
    /// overlapping region is cached, or if the region has no peers.
    pub fn insert(&mut self, region: Region, leader: Option<&Peer>) -> bool {
        if region.peers.is_empty() {
            return false;
        }
        let overlapping = self.overlapping(&region.start_key, &region.end_key);
        // The configuration versions of two regions have nothing to do with each other.
        let is_older = |cached: &Region| {
            let (new, old) = (region::epoch(&region).version, region::epoch(cached).version);
            if cached.id == region.id { region::older(&region, cached) } else { new < old }
        };
        if overlapping.iter().any(|start| is_older(&self.by_start[start].region)) {
            return false;
        }
        for start in overlapping {
            self.remove(&start);
        }
        // The same region may be cached under another start key.
        self.forget(region.id);
        let known = leader.and_then(|leader| region.peers.iter().position(|peer| peer.id == leader.id));
        self.start_of.insert(region.id, region.start_key.clone());
        self.by_start.insert(region.start_key.clone(), Entry { peer: known.unwrap_or(0), region });
        true
    }

    /// Removes a region from the cache.
    pub fn forget(&mut self, region: u64) {
        if let Some(start) = self.start_of.get(&region).cloned() {
            self.remove(&start);
        }
    }

    /// Makes the next peer the one to ask, if `failed` is still the one to ask.
    pub fn rotate(&mut self, region: u64, failed: &Peer) {
        if let Some(entry) = self.entry(region)
            && entry.region.peers[entry.peer].id == failed.id
        {
            entry.peer = (entry.peer + 1) % entry.region.peers.len();
        }
    }

    /// Updates the cache after a region error to a request that was sent to `asked`, and says how to proceed.
    pub fn on_region_error(&mut self, asked: &Located, error: &errorpb::Error) -> Verdict {
        let id = asked.region.id;
        if error.undetermined_result.is_some() {
            return Verdict::Unknown;
        }
        if error.raft_entry_too_large.is_some() {
            return Verdict::Refused;
        }
        if let Some(hint) = &error.not_leader {
            return self.on_not_leader(asked, hint.leader.as_ref());
        }
        if let Some(mismatch) = &error.epoch_not_match {
            return self.on_epoch_not_match(asked, &mismatch.current_regions);
        }
        if let Some(busy) = &error.server_is_busy {
            return Verdict::Later(Duration::from_millis(busy.backoff_ms));
        }
        let waits = [
            error.stale_command.is_some(),
            error.read_index_not_ready.is_some(),
            error.data_is_not_ready.is_some(),
            error.proposal_in_merging_mode.is_some(),
        ];
        if waits.contains(&true) {
            return Verdict::Later(Duration::ZERO);
        }
        // region_not_found, store_not_match, key_not_in_region, mismatch_peer_id, region_not_initialized, and unknown
        // errors.
        self.forget(id);
        Verdict::Later(Duration::ZERO)
    }

    fn on_not_leader(&mut self, asked: &Located, leader: Option<&Peer>) -> Verdict {
        match leader.filter(|leader| leader.id != 0) {
            Some(leader) => {
                let Some(entry) = self.entry(asked.region.id) else { return Verdict::Later(Duration::ZERO) };
                match entry.region.peers.iter().position(|peer| peer.id == leader.id) {
                    // A hint that names the peer that was asked makes no progress.
                    Some(at) if leader.id != asked.peer.id => {
                        entry.peer = at;
                        Verdict::Again
                    }
                    Some(_) => {
                        self.rotate(asked.region.id, &asked.peer);
                        Verdict::Later(Duration::ZERO)
                    }
                    None => {
                        self.forget(asked.region.id);
                        Verdict::Later(Duration::ZERO)
                    }
                }
            }
            None => {
                self.rotate(asked.region.id, &asked.peer);
                Verdict::Later(Duration::ZERO)
            }
        }
    }

    fn on_epoch_not_match(&mut self, asked: &Located, current: &[Region]) -> Verdict {
        let behind = current.iter().find(|region| region.id == asked.region.id);
        if behind.is_some_and(|theirs| region::older(theirs, &asked.region)) {
            // The store's region is older than the cached one.
            self.rotate(asked.region.id, &asked.peer);
            return Verdict::Later(Duration::ZERO);
        }
        self.forget(asked.region.id);
        let mut learnt = false;
        for region in current {
            let leader = region::peer_on(region, asked.peer.store_id).cloned();
            learnt |= self.insert(region.clone(), leader.as_ref());
        }
        if learnt { Verdict::Again } else { Verdict::Later(Duration::ZERO) }
    }

    fn entry(&mut self, region: u64) -> Option<&mut Entry> {
        let start = self.start_of.get(&region)?;
        self.by_start.get_mut(start)
    }

    fn remove(&mut self, start: &Bytes) {
        if let Some(entry) = self.by_start.remove(start) {
            self.start_of.remove(&entry.region.id);
        }
    }

    /// Returns the start keys of the cached regions that overlap `[start, end)`.
    fn overlapping(&self, start: &[u8], end: &[u8]) -> Vec<Bytes> {
        let below = self
            .by_start
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(start)))
            .next_back()
            .filter(|(_, entry)| entry.region.end_key.is_empty() || entry.region.end_key[..] > *start);
        let within = self.by_start.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        let within = within.take_while(|(first, _)| end.is_empty() || first[..] < *end);
        below.into_iter().chain(within).map(|(first, _)| first.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
