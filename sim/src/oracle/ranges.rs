//! At any moment at most one peer of the cluster can serve a key, and no two peers of a store have a key in common.
//!
//! Source: a region's range moves from one group to another only by a command in the log of the group that gives it up;
//! TiKV's leaders renew no lease while such a command is not applied, for the same reason.
//!
//! A region is *led* from the moment at which a peer that shows it accepts writes. Of two led regions that overlap, the
//! one with the lower version has no right to its keys any more: no peer that still shows it may hold a lease, and no
//! read of it that is requested from then on may be served.
//!
//! The oracle also knows the newest descriptor of each region, by which clients and faults find regions.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;
use armilla::types::{GroupId, Region, region};
use bytes::Bytes;
use prost::Message as _;

use super::lease::{Clocks, Leases};

/// The oracle's name.
const NAME: &str = "ranges";

/// A violated property: the oracle's name, the store, and a description.
type Broken = (&'static str, u64, String);

/// The descriptor that a peer shows.
#[derive(Clone, Debug)]
struct Shown {
    /// The incarnation of the store's node; a restarted store shows nothing at first.
    life: u64,
    region: Region,
}

/// Follows the descriptors that all peers show.
#[derive(Debug, Default)]
pub struct Ranges {
    /// By (store, group).
    shown: BTreeMap<(u64, u64), Shown>,
    /// By group: the newest descriptor that a peer has shown.
    newest: BTreeMap<u64, Region>,
    /// The start keys of all regions that ever were.
    boundaries: BTreeSet<Bytes>,
    /// Groups that became part of others.
    merged: BTreeSet<u64>,
    /// Peers that accept writes, as (group, store).
    accepting: BTreeSet<(u64, u64)>,
    /// Every region with a version in which it was led, in order of time.
    led: Vec<Region>,
    /// By (store, read): how many regions were led when the read was requested.
    asked: BTreeMap<(u64, u64), usize>,
}

/// Decodes the descriptor in an event.
pub fn decode(descriptor: &Bytes) -> Region {
    Region::decode(descriptor.clone()).expect("the store encoded it")
}

fn version(region: &Region) -> u64 {
    region::epoch(region).version
}

/// Returns whether two regions have a key in common.
pub fn overlap(left: &Region, right: &Region) -> bool {
    let begins_in = |start: &Bytes, other: &Region| other.end_key.is_empty() || *start < other.end_key;
    begins_in(&left.start_key, right) && begins_in(&right.start_key, left)
}

fn show(region: &Region) -> String {
    let (start, end) = (region.start_key.escape_ascii(), region.end_key.escape_ascii());
    format!("[{start}, {end}) of version {}", version(region))
}

impl Ranges {
    /// Returns the version in which a store shows a region.
    pub fn shown_version(&self, store: u64, group: u64) -> Option<u64> {
        self.shown.get(&(store, group)).map(|shown| version(&shown.region))
    }

    /// Returns all boundaries that regions ever had, in ascending order.
    pub fn boundaries(&self) -> Vec<Bytes> {
        self.boundaries.iter().cloned().collect()
    }

    /// Returns the groups that became part of others.
    pub fn merged(&self) -> &BTreeSet<u64> {
        &self.merged
    }

    /// Returns the newest descriptors of all regions, in order of their keys.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.newest.values().cloned().collect();
        regions.sort_by(|a, b| a.start_key.cmp(&b.start_key));
        regions
    }

    /// Returns the region that holds a key.
    pub fn holding(&self, key: &[u8]) -> Option<&Region> {
        // Of a region that was just split, the piece may not be known yet.
        self.newest.values().filter(|region| region::holds(region, key)).max_by_key(|region| version(region))
    }

    /// Judges one event of `node`, after the leases have been judged.
    pub fn observe(&mut self, event: &Event, node: u64, leases: &Leases, clocks: Clocks<'_>) -> Result<(), Broken> {
        match event {
            Event::Start { store, group, .. } => {
                self.accepting.remove(&(*group, *store));
                Ok(())
            }
            Event::Note { store, what: "removed", a: group, .. } => {
                self.accepting.remove(&(*group, *store));
                self.shown.remove(&(*store, *group));
                Ok(())
            }
            // Another group has its keys: what other stores still show of it is old.
            Event::Note { store, what: "absorbed", a: group, .. } => {
                self.accepting.remove(&(*group, *store));
                self.shown.remove(&(*store, *group));
                self.newest.remove(group);
                self.merged.insert(*group);
                Ok(())
            }
            Event::Note { store, what: "halted", a: group, .. } => {
                self.accepting.remove(&(*group, *store));
                Ok(())
            }
            Event::Region { store, group, descriptor } if *group != GroupId::PD.0 => {
                let life = clocks(node).map_or(0, |(life, _)| life);
                self.show(*store, life, decode(descriptor))?;
                if self.accepting.contains(&(*group, *store)) {
                    self.lead(*store, *group, leases, clocks)
                } else {
                    Ok(())
                }
            }
            Event::Accepts { store, group, accepts, .. } if *group != GroupId::PD.0 => {
                if !accepts {
                    self.accepting.remove(&(*group, *store));
                    return Ok(());
                }
                self.accepting.insert((*group, *store));
                self.lead(*store, *group, leases, clocks)
            }
            Event::Lease { store, group, left_ns, .. } if *left_ns > 0 => {
                match self.outdated(*store, *group, usize::MAX) {
                    Some(what) => Err((NAME, *store, format!("{what} takes a lease"))),
                    None => Ok(()),
                }
            }
            Event::ReadAsked { store, read, .. } => {
                self.asked.insert((*store, *read), self.led.len());
                Ok(())
            }
            Event::ReadServed { store, group, read, .. } => {
                let led = self.asked.remove(&(*store, *read)).unwrap_or(0);
                match self.outdated(*store, *group, led) {
                    Some(what) => Err((NAME, *store, format!("{what} serves a read that was requested afterwards"))),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A peer shows another descriptor.
    fn show(&mut self, store: u64, life: u64, region: Region) -> Result<(), Broken> {
        let group = region.id;
        let of_store = self.shown.range((store, 0)..(store + 1, 0)).filter(|(_, shown)| shown.life == life);
        for (&(_, other), shown) in of_store {
            if other == group && region::older(&region, &shown.region) {
                let what = format!("region {group}: {} became {}", show(&shown.region), show(&region));
                return Err((NAME, store, what));
            }
            if other != group && overlap(&region, &shown.region) {
                let (own, their) = (show(&region), show(&shown.region));
                return Err((NAME, store, format!("region {group}, {own}, overlaps region {other}, {their}")));
            }
        }
        if !self.merged.contains(&group) {
            let newest = self.newest.entry(group).or_insert_with(|| region.clone());
            if region::older(newest, &region) {
                *newest = region.clone();
            }
        }
        self.boundaries.insert(region.start_key.clone());
        self.shown.insert((store, group), Shown { life, region });
        Ok(())
    }

    /// A peer accepts writes to the region that it shows.
    fn lead(&mut self, store: u64, group: u64, leases: &Leases, clocks: Clocks<'_>) -> Result<(), Broken> {
        let Some(Shown { region, .. }) = self.shown.get(&(store, group)) else { return Ok(()) };
        if self.led.iter().any(|led| led.id == group && version(led) == version(region)) {
            return Ok(());
        }
        let same = |led: &&Region| led.id != group && version(led) == version(region) && overlap(led, region);
        if let Some(led) = self.led.iter().find(same) {
            let what = format!("regions {group}, {}, and {}, {}, are both led", show(region), led.id, show(led));
            return Err((NAME, store, what));
        }
        for (group, holder) in leases.valid(clocks) {
            let Some(Shown { region: own, .. }) = self.shown.get(&(holder, group)) else { continue };
            if version(own) < version(region) && overlap(own, region) {
                let what = format!(
                    "region {}, {}, is led while store {holder} has a lease of region {group}, {}",
                    region.id,
                    show(region),
                    show(own)
                );
                return Err((NAME, holder, what));
            }
        }
        self.led.push(region.clone());
        Ok(())
    }

    /// Describes the region that a peer shows, if one of the first `led` led regions has taken keys from it.
    fn outdated(&self, store: u64, group: u64, led: usize) -> Option<String> {
        let own = &self.shown.get(&(store, group))?.region;
        let taken = |led: &&Region| version(led) > version(own) && overlap(led, own);
        let newer = self.led.iter().take(led).find(taken)?;
        Some(format!(
            "region {}, {}, is led, but store {store}'s peer of region {group}, {},",
            newer.id,
            show(newer),
            show(own)
        ))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an old region that still serves its lost keys is found, whether by a lease or by a read; a peer that has
    //! applied the split, and a read that was requested before, are not. Method: handmade events of a split at "m".
    use super::*;
    use armilla::types::region::RegionEpoch;

    fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
        let key = |s: &str| Bytes::copy_from_slice(s.as_bytes());
        let region_epoch = Some(RegionEpoch { version, conf_ver: 1 });
        Region { id, start_key: key(start), end_key: key(end), region_epoch, ..Region::default() }
    }
    fn shows(store: u64, region: Region) -> Event {
        Event::Region { store, group: region.id, descriptor: region.encode_to_vec().into() }
    }
    fn accepts(store: u64, group: u64) -> Event {
        Event::Accepts { store, group, peer: store, term: 6, accepts: true }
    }
    fn lease(store: u64, group: u64) -> Event {
        Event::Lease { store, group, peer: store, term: 6, left_ns: 100 }
    }
    fn asked(store: u64, group: u64) -> Event {
        Event::ReadAsked { store, group, read: 0 }
    }
    fn served(store: u64, group: u64) -> Event {
        Event::ReadServed { store, group, read: 0, applied: 9 }
    }
    /// Returns the number of the event that violates a property. Stores 1 and 2 lead region 2 and later region 3.
    fn judge(story: &[Event]) -> Option<usize> {
        let (mut ranges, mut leases) = (Ranges::default(), Leases::default());
        let clocks = |_: u64| Some((1, 0));
        story.iter().enumerate().find_map(|(n, event)| {
            leases.observe(event, 1, &clocks).unwrap();
            ranges.observe(event, 1, &leases, &clocks).is_err().then_some(n)
        })
    }
    /// Store 1 leads region 2; store 2 has applied its split.
    fn split() -> Vec<Event> {
        vec![
            shows(1, region(2, "", "", 1)),
            shows(2, region(2, "", "", 1)),
            accepts(1, 2),
            shows(2, region(2, "m", "", 2)),
            shows(2, region(3, "", "m", 2)),
        ]
    }
    fn then(events: &[Event]) -> Option<usize> {
        let story = [split(), events.to_vec()].concat();
        judge(&story).map(|at| at - split().len())
    }

    #[test]
    fn one_server() {
        assert_eq!(then(&[lease(1, 2), accepts(2, 3)]), Some(1));
        assert_eq!(then(&[accepts(2, 3), lease(1, 2)]), Some(1));
        assert_eq!(then(&[accepts(2, 3), asked(1, 2), served(1, 2)]), Some(2));
        assert_eq!(then(&[asked(1, 2), accepts(2, 3), served(1, 2)]), None, "it was requested before");
        assert_eq!(then(&[accepts(2, 3), shows(1, region(2, "m", "", 2)), lease(1, 2)]), None);
        assert_eq!(then(&[accepts(2, 3), asked(2, 3), served(2, 3), lease(2, 3)]), None);
    }

    #[test]
    fn ranges_of_a_store() {
        assert_eq!(then(&[shows(1, region(3, "", "m", 2))]), Some(0), "its parent was not split there");
        assert_eq!(then(&[shows(2, region(2, "", "", 1))]), Some(0), "the epoch went back");
        assert_eq!(
            judge(&[shows(1, region(2, "", "", 1)), accepts(1, 2), shows(2, region(3, "", "m", 1)), accepts(2, 3)]),
            Some(3)
        );
    }

    #[test]
    fn regions_of_keys() {
        let mut ranges = Ranges::default();
        split().iter().for_each(|event| ranges.observe(event, 1, &Leases::default(), &|_| Some((1, 0))).unwrap());
        assert_eq!(ranges.regions().iter().map(|region| region.id).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((ranges.holding(b"a").unwrap().id, ranges.holding(b"m").unwrap().id), (3, 2));
    }
}
