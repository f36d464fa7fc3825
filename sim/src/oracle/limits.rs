//! A store gets, and gives away, no more replicas a minute than its limits allow.
//!
//! Source: `store limit` of PD. The placement driver counts the changes that it begins, on its leader's clock, and a
//! new leader begins to count anew. So the oracle counts from when a limit was acknowledged: besides the minute that
//! has begun, one for each that has passed, one for each new leader, and one for changes that were under way.
//!
//! Changes that people ask for have no limit: a region of which a replica was added or removed by hand is not judged.

use std::collections::{BTreeMap, BTreeSet};

use armilla::proto::metapb::PeerRole;
use armilla::rt::probe::Event;
use armilla::types::{GroupId, Region, region};

use super::Violation;
use super::ranges;
use super::settings::{About, Settings, UNDER_WAY_NS, Value};

/// A minute on a clock that is a tenth too fast, ns.
const MINUTE_NS: u64 = 54_000_000_000;

/// A way in which a store's replicas change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    In,
    Out,
}

/// The changes of a store since its present limit was acknowledged.
#[derive(Debug, Default)]
struct Count {
    since_ns: u64,
    changes: u64,
    /// New leaders of the placement driver.
    leaders: u64,
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Limits {
    /// By region: the highest `conf_ver` that a peer has shown, the stores with a peer then, and those with a voter.
    members: BTreeMap<u64, (u64, BTreeSet<u64>, BTreeSet<u64>)>,
    counts: BTreeMap<(u64, Way), Count>,
    /// Regions of which people have changed replicas.
    pub by_hand: BTreeSet<u64>,
    /// The number of changes that were judged.
    pub judged: u64,
}

impl Limits {
    /// Judges one event. `settings` has the limits that were acknowledged.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event, settings: &Settings) -> Result<(), Violation> {
        match event {
            Event::Leader { group, .. } if *group == GroupId::PD.0 => {
                self.counts.values_mut().for_each(|count| count.leaders += 1);
                Ok(())
            }
            Event::Region { group, descriptor, .. } if *group != GroupId::PD.0 => {
                for (store, way) in self.changed(&ranges::decode(descriptor)) {
                    self.count(now_ns, node, (store, way), settings)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns which stores' replicas have changed, if the descriptor is newer than all before.
    fn changed(&mut self, region: &Region) -> Vec<(u64, Way)> {
        let conf_ver = region::epoch(region).conf_ver;
        let stores: BTreeSet<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
        let votes = |role: PeerRole| matches!(role, PeerRole::Voter | PeerRole::IncomingVoter);
        let voters = region.peers.iter().filter(|peer| votes(peer.role())).map(|peer| peer.store_id).collect();
        let new = (conf_ver, stores, voters);
        let Some(known) = self.members.get_mut(&region.id) else {
            self.members.insert(region.id, new);
            return Vec::new();
        };
        if known.0 >= conf_ver {
            return Vec::new();
        }
        let before = std::mem::replace(known, new);
        if self.by_hand.contains(&region.id) {
            return Vec::new();
        }
        let came = known.1.difference(&before.1).map(|store| (*store, Way::In));
        came.chain(before.2.difference(&known.2).map(|store| (*store, Way::Out))).collect()
    }

    fn count(&mut self, now_ns: u64, node: u64, of: (u64, Way), settings: &Settings) -> Result<(), Violation> {
        let (store, way) = of;
        let Some((Value::Limits(add, remove), at_ns)) = settings.since(About::Limits(store)) else { return Ok(()) };
        let (limit, what) = if way == Way::In { (add, "gets") } else { (remove, "gives away") };
        if now_ns < at_ns + UNDER_WAY_NS {
            return Ok(());
        }
        let count = self.counts.entry(of).or_default();
        if count.since_ns != at_ns {
            *count = Count { since_ns: at_ns, ..Count::default() };
        }
        count.changes += 1;
        self.judged += 1;
        let allowed = limit * (2 + (now_ns - at_ns) / MINUTE_NS + count.leaders);
        if count.changes <= allowed {
            return Ok(());
        }
        let seconds = (now_ns - at_ns) / 1_000_000_000;
        let what =
            format!("store {store} {what} {} replicas in {seconds} s, {limit} a minute are allowed", count.changes);
        Err(Violation::new("limits", now_ns, node, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: more changes than a limit allows are found. Method: a region whose replica moves to and fro.
    use super::*;
    use armilla::types::region::{Peer, RegionEpoch};
    use prost::Message as _;

    const SECOND: u64 = 1_000_000_000;

    fn shown(conf_ver: u64, stores: &[u64]) -> Event {
        let peers = stores.iter().map(|store| Peer { id: 10 + store, store_id: *store, ..Peer::default() }).collect();
        let region_epoch = Some(RegionEpoch { conf_ver, version: 1 });
        let region = Region { id: 7, region_epoch, peers, ..Region::default() };
        Event::Region { store: 1, group: 7, descriptor: region.encode_to_vec().into() }
    }

    /// Moves a replica to store 4 and back, `each_s` seconds apart, and returns how many changes were allowed.
    fn allowed(limits: &mut Limits, each_s: u64) -> u64 {
        let mut settings = Settings::default();
        settings.begin(About::Limits(4));
        settings.end(About::Limits(4), Some(Value::Limits(1, 100)), 0);
        (1..200)
            .find(|n| {
                let stores: &[u64] = if n % 2 == 0 { &[1, 2, 4] } else { &[1, 2, 3] };
                limits.observe((10 + n * each_s) * SECOND, 1, &shown(*n, stores), &settings).is_err()
            })
            .unwrap_or(200)
    }

    #[test]
    fn more_than_allowed() {
        assert_eq!(allowed(&mut Limits::default(), 1), 6, "the third replica for store 4");
        assert_eq!(allowed(&mut Limits::default(), 40), 200);
        assert_eq!(allowed(&mut Limits { by_hand: [7].into(), ..Limits::default() }, 1), 200);
    }
}
