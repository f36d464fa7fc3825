//! The map from keys to regions, which has no hole.
//!
//! Descriptors of newer regions arrive one by one, in any order: of the pieces of a split the middle one may be the
//! first. A newer descriptor takes its range, and only its range, from the older ones; what is left of them stays,
//! with their id and epoch, until the descriptors of those keys arrive. Requests that are routed by what is left are
//! answered with the current regions by the stores.
//!
//! **In** come descriptors; **out** goes the region of a key. **Never**: a key without a region, once there is a
//! first one; an older descriptor in the place of a newer one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::types::region::{self, Region};

/// All regions, by their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionMap {
    /// By start key. A region that lost some of its range to newer ones may be here several times.
    pieces: BTreeMap<Bytes, Region>,
    /// By region; derived.
    newest: BTreeMap<u64, Newest>,
    /// By store: how many pieces have a replica there; derived.
    replicas: BTreeMap<u64, u64>,
}

/// The newest piece of a region.
#[derive(Clone, Debug, Default, PartialEq)]
struct Newest {
    /// Its start key.
    start: Bytes,
    /// How many pieces of the region there are.
    pieces: usize,
}

impl RegionMap {
    /// Creates a map of these pieces.
    ///
    /// # Errors
    /// The reason, as a sentence: two of them start at the same key.
    pub fn new(pieces: Vec<Region>) -> Result<RegionMap, String> {
        let mut map = RegionMap::default();
        for piece in pieces {
            if let Some(other) = map.pieces.get(&piece.start_key) {
                return Err(format!("regions {} and {} start at the same key", other.id, piece.id));
            }
            map.insert(piece);
        }
        Ok(map)
    }

    /// Returns the number of pieces: one per region, unless descriptors of newer regions have not arrived yet.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Returns the region with this ID; if pieces of several epochs are left of it, the newest.
    pub fn get(&self, id: u64) -> Option<&Region> {
        self.newest.get(&id).and_then(|newest| self.pieces.get(&newest.start))
    }

    /// Returns how many pieces have a replica on a store.
    pub fn replicas_on(&self, store: u64) -> u64 {
        self.replicas.get(&store).copied().unwrap_or(0)
    }

    /// Returns the piece that starts at `start`.
    pub fn starting_at(&self, start: &[u8]) -> Option<&Region> {
        self.pieces.get(start)
    }

    /// Returns the region that holds `key`.
    pub fn of(&self, key: &[u8]) -> Option<&Region> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, piece) = self.pieces.range::<[u8], _>(upto).next_back()?;
        region::holds(piece, key).then_some(piece)
    }

    /// Returns the region that ends where the one that holds `key` starts.
    pub fn before(&self, key: &[u8]) -> Option<&Region> {
        let here = self.of(key)?;
        let below = (Bound::Unbounded, Bound::Excluded(&here.start_key[..]));
        let (_, piece) = self.pieces.range::<[u8], _>(below).next_back()?;
        (piece.end_key == here.start_key).then_some(piece)
    }

    /// Returns the regions that overlap `[start, end)` (an empty `end` is infinity), in order of their keys.
    pub fn scan<'m>(&'m self, start: &[u8], end: &[u8]) -> impl Iterator<Item = &'m Region> {
        let first = self.of(start).map_or(Bytes::copy_from_slice(start), |piece| piece.start_key.clone());
        self.pieces
            .range(first..)
            .map(|(_, piece)| piece)
            .take_while(move |piece| end.is_empty() || piece.start_key < end)
    }

    /// Returns all pieces, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.pieces.values()
    }

    /// Adds a descriptor. Returns the start keys at which the map has changed.
    ///
    /// # Errors
    /// The reason, as a sentence: it is older than a region that it overlaps. Nothing was changed then.
    pub fn put(&mut self, new: Region) -> Result<Vec<Bytes>, String> {
        let met: Vec<Region> = self.scan(&new.start_key, &new.end_key).cloned().collect();
        let same = self.get(new.id).into_iter();
        for old in met.iter().chain(same) {
            let newer = if old.id == new.id { !region::older(&new, old) } else { version(&new) > version(old) };
            if !newer {
                return Err(format!("region {} of epoch {} is older than region {}", new.id, epoch_text(&new), old.id));
            }
        }
        if met == [new.clone()] {
            return Ok(vec![]);
        }
        let mut changed = vec![new.start_key.clone()];
        for old in met {
            self.remove(&old);
            changed.push(old.start_key.clone());
            if crate::mutant!("pd.hole") {
                continue;
            }
            if old.start_key < new.start_key {
                self.insert(Region { end_key: new.start_key.clone(), ..old.clone() });
            }
            let beyond = !new.end_key.is_empty() && (old.end_key.is_empty() || new.end_key < old.end_key);
            if beyond {
                changed.push(new.end_key.clone());
                self.insert(Region { start_key: new.end_key.clone(), ..old });
            }
        }
        self.insert(new);
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    fn insert(&mut self, piece: Region) {
        let newer = self.get(piece.id).is_none_or(|other| rank(&piece) > rank(other));
        let newest = self.newest.entry(piece.id).or_default();
        newest.pieces += 1;
        if newer {
            newest.start = piece.start_key.clone();
        }
        for peer in &piece.peers {
            *self.replicas.entry(peer.store_id).or_default() += 1;
        }
        let replaced = self.pieces.insert(piece.start_key.clone(), piece);
        assert!(replaced.is_none(), "a piece takes a place that is free");
    }

    fn remove(&mut self, piece: &Region) {
        if self.pieces.remove(&piece.start_key).is_none() {
            return;
        }
        for peer in &piece.peers {
            if let Some(count) = self.replicas.get_mut(&peer.store_id) {
                *count -= 1;
                if *count == 0 {
                    self.replicas.remove(&peer.store_id);
                }
            }
        }
        let Some(newest) = self.newest.get_mut(&piece.id) else { return };
        newest.pieces -= 1;
        if newest.pieces == 0 {
            self.newest.remove(&piece.id);
        } else if newest.start == piece.start_key {
            // Several pieces are rare: the newer descriptors of the region's other keys arrive soon.
            let left = self.pieces.values().filter(|other| other.id == piece.id);
            if let Some(next) = left.max_by_key(|other| rank(other)) {
                newest.start = next.start_key.clone();
            }
        }
    }
}

/// Which of a region's pieces is the newest; of pieces with the same epoch, the first.
fn rank(piece: &Region) -> (u64, u64, Reverse<&Bytes>) {
    let epoch = region::epoch(piece);
    (epoch.version, epoch.conf_ver, Reverse(&piece.start_key))
}

fn version(region: &Region) -> u64 {
    region::epoch(region).version
}

fn epoch_text(region: &Region) -> String {
    let epoch = region::epoch(region);
    format!("{}/{}", epoch.conf_ver, epoch.version)
}

#[cfg(test)]
mod tests {
    //! Goal: whatever the order in which the pieces of splits arrive, no key is ever without a region, and the end is
    //! the same. Method: random splits of regions, their descriptors delivered in random order, some twice, beside a
    //! plain table of keys.

    use super::*;
    use crate::rt::rng::Rng;
    use crate::types::region::RegionEpoch;

    const KEYS: u8 = 40;

    fn key(at: u8) -> Bytes {
        if at == 0 || at == KEYS { Bytes::new() } else { Bytes::copy_from_slice(&[at]) }
    }

    /// Splits of one region until all pieces are small: every descriptor that ever was.
    fn history(rng: &mut Rng) -> (Region, Vec<Region>) {
        let region = |id, start: u8, end: u8, version| Region {
            id,
            start_key: key(start),
            end_key: key(end),
            region_epoch: Some(RegionEpoch { conf_ver: 1, version }),
            ..Region::default()
        };
        let first = region(2, 0, KEYS, 1);
        let (mut open, mut all, mut next) = (vec![(2, 0, KEYS, 1)], Vec::new(), 3);
        while let Some((id, start, end, version)) = open.pop() {
            if end - start < 6 {
                continue;
            }
            let (left, right) = (start + 1 + rng.below(2) as u8, start + 3 + rng.below(2) as u8);
            for piece in [(next, start, left), (next + 1, left, right), (id, right, end)] {
                all.push(region(piece.0, piece.1, piece.2, version + 2));
                open.push((piece.0, piece.1, piece.2, version + 2));
            }
            next += 2;
        }
        (first, all)
    }

    #[test]
    fn no_key_is_without_a_region() {
        let mut rng = Rng::new(7);
        for _ in 0..300 {
            let (first, all) = history(&mut rng);
            let mut map = RegionMap::new(vec![first.clone()]).unwrap();
            let mut table = vec![first; usize::from(KEYS)];
            let mut order: Vec<Region> = all.iter().chain(&all).cloned().collect();
            rng.shuffle(&mut order);
            for new in order {
                let holds = |at: &u8| region::holds(&new, &key(*at)) || (*at == 0 && new.start_key.is_empty());
                let mine: Vec<u8> = (0..KEYS).filter(holds).collect();
                let stale = mine.iter().any(|at| version(&table[usize::from(*at)]) > version(&new));
                let same = table.iter().any(|old| old.id == new.id && region::older(&new, old));
                assert_eq!(map.put(new.clone()).is_err(), stale || same, "{new:?}");
                if !stale && !same {
                    mine.iter().for_each(|at| table[usize::from(*at)] = new.clone());
                }
                for at in 0..KEYS {
                    let found = map.of(&key(at)).expect("a region for each key");
                    let expected = &table[usize::from(at)];
                    assert_eq!((found.id, found.region_epoch), (expected.id, expected.region_epoch), "key {at}");
                }
                let pieces: Vec<Region> = map.iter().cloned().collect();
                assert_eq!(RegionMap::new(pieces).unwrap(), map, "what is stored makes the same map");
            }
            assert!(map.iter().zip(map.iter().skip(1)).all(|(left, right)| left.end_key == right.start_key));
        }
    }
}
