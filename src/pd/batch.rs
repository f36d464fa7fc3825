//! Lookups of many regions in one call: how their results are combined.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::cluster::RegionInfo;

/// Regions looked up by key, by following key, and by ID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queried {
    /// For each key, in order, the ID of its region; 0 if there is none.
    pub of_keys: Vec<u64>,
    /// For each key, in order, the ID of the region before the key's region; 0 if there is none.
    pub of_prev_keys: Vec<u64>,
    /// All regions found, each once, by ID.
    pub regions: BTreeMap<u64, RegionInfo>,
}

impl Queried {
    /// Adds a region, if there is one. Returns its ID, or 0.
    pub fn keep(&mut self, found: Option<RegionInfo>) -> u64 {
        let Some(info) = found else { return 0 };
        let id = info.region.id;
        self.regions.insert(id, info);
        id
    }
}

/// Regions of several ranges, in order and without duplicates, up to a limit.
#[derive(Debug)]
pub struct Ranges {
    limit: usize,
    seen: BTreeSet<u64>,
    found: Vec<RegionInfo>,
}

impl Ranges {
    /// Creates an empty list. A `limit` of 0 or below means no limit.
    pub fn new(limit: i32) -> Ranges {
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Ranges { limit, seen: BTreeSet::new(), found: Vec::new() }
    }

    /// Returns how many regions to request for the next range: one more than are still missing, because the first may
    /// be known already; 0 if there are enough.
    pub fn next_limit(&self) -> i32 {
        match self.limit - self.found.len() {
            0 => 0,
            room => i32::try_from(room).map_or(i32::MAX, |room| room.saturating_add(1)),
        }
    }

    /// Adds the regions of a range, which were requested with [`Ranges::next_limit`].
    pub fn take(&mut self, regions: Vec<RegionInfo>) {
        for info in regions {
            if self.found.len() < self.limit && self.seen.insert(info.region.id) {
                self.found.push(info);
            }
        }
    }

    /// Returns all regions.
    pub fn into_found(self) -> Vec<RegionInfo> {
        self.found
    }
}

/// Returns the first part of `[start, end)` (an empty `end` means infinity) that `regions`, which are in order, do not
/// cover. Returns `None` if they cover the whole range, or up to the point where a limit cut them off (`cut`).
pub fn hole(start: &Bytes, end: &Bytes, regions: &[RegionInfo], cut: bool) -> Option<(Bytes, Bytes)> {
    let mut covered_to = start.clone();
    for info in regions {
        let region = &info.region;
        if region.start_key > covered_to {
            return Some((covered_to, region.start_key.clone()));
        }
        if region.end_key.is_empty() {
            return None;
        }
        covered_to = region.end_key.clone();
    }
    let whole = !end.is_empty() && covered_to >= *end;
    (!whole && !cut).then(|| (covered_to, end.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Region;

    fn info(id: u64, start: &'static str, end: &'static str) -> RegionInfo {
        let region = Region { id, start_key: start.into(), end_key: end.into(), ..Region::default() };
        RegionInfo { region, ..RegionInfo::default() }
    }

    #[test]
    fn one_entry_a_key_also_where_there_is_no_region() {
        let mut queried = Queried::default();
        for found in [Some(info(4, "a", "b")), None, Some(info(4, "a", "b"))] {
            let id = queried.keep(found);
            queried.of_keys.push(id);
        }
        assert_eq!(queried.of_keys, [4, 0, 4]);
        assert_eq!(queried.regions.len(), 1);
    }

    #[test]
    fn a_region_of_two_ranges_is_given_once_and_the_limit_is_of_all() {
        let all = [info(1, "", "b"), info(2, "b", "d"), info(3, "d", "")];
        let mut ranges = Ranges::new(0);
        assert_eq!(ranges.next_limit(), i32::MAX);
        ranges.take(all[..2].to_vec());
        ranges.take(all[1..].to_vec());
        assert_eq!(ranges.into_found(), all);
        let mut ranges = Ranges::new(2);
        assert_eq!(ranges.next_limit(), 3);
        ranges.take(all[..1].to_vec());
        assert_eq!(ranges.next_limit(), 2);
        ranges.take(all[..2].to_vec());
        assert_eq!(ranges.next_limit(), 0);
        assert_eq!(ranges.into_found(), all[..2]);
    }

    #[test]
    fn holes_are_found_wherever_they_are() {
        let key = Bytes::from_static;
        let hole = |start, end, regions: &[RegionInfo], cut| hole(&key(start), &key(end), regions, cut);
        let (first, second, third) = (info(1, "", "b"), info(2, "b", "d"), info(3, "d", ""));
        let whole = [first.clone(), second.clone(), third.clone()];
        assert_eq!(hole(b"", b"", &whole, false), None);
        assert_eq!(hole(b"a", b"c", &whole[..2], false), None);
        assert_eq!(hole(b"a", b"d", &whole[..2], false), None);
        assert_eq!(hole(b"a", b"e", &whole[..2], false), Some((key(b"d"), key(b"e"))));
        assert_eq!(hole(b"a", b"", &whole[..2], false), Some((key(b"d"), key(b""))));
        assert_eq!(hole(b"a", b"e", &whole[..2], true), None, "a limit does not count as a hole");
        assert_eq!(hole(b"a", b"c", &[second], false), Some((key(b"a"), key(b"b"))));
        assert_eq!(hole(b"", b"", &[first, third], true), Some((key(b"b"), key(b"d"))));
        assert_eq!(hole(b"a", b"b", &[], false), Some((key(b"a"), key(b"b"))));
    }
}
