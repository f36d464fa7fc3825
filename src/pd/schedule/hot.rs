//! Moves load from stores that have more than their share to stores that have less.
//!
//! The load of reads, and that of writes on leaders, moves with leaderships; the load of writes on replicas moves with
//! replicas. A store gives load if it has more than 1.05 times the mean, and gets some if it has less than the mean
//! divided by that. A region moves only if the target has at most 0.95 times afterwards of what the source had before:
//! the larger of both becomes smaller, so the sum of the squares falls with every move, and no move is undone by the
//! next. Operators that are under way count as carried out: the caller has moved their loads already.
//!
//! Of two dimensions, requests and bytes, both become better, or the first, or the second; **never** does a move make
//! the other one, or another load that moves along, worse than the source's was.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::types::load::Load;

use super::places::Places;

/// A load that is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reads, by transfers of leaderships: requests and bytes.
    Reads,
    /// Writes of leaders, by transfers of leaderships: requests and bytes.
    Writes,
    /// Writes of replicas, by moves of replicas: bytes and keys.
    Replicas,
}

impl Kind {
    /// Returns the two dimensions that count, the more important one first.
    pub fn dimensions(self, load: Load) -> [u64; 2] {
        match self {
            Kind::Reads => [load.reads, load.read_bytes],
            Kind::Writes => [load.writes, load.written_bytes],
            Kind::Replicas => [load.written_bytes, load.written_keys],
        }
    }

    /// Returns everything that moves along.
    fn all(self, load: Load) -> Vec<u64> {
        match self {
            Kind::Reads | Kind::Writes => vec![load.reads, load.read_bytes, load.writes, load.written_bytes],
            Kind::Replicas => vec![load.written_bytes, load.written_keys],
        }
    }

    fn moves_leaders(self) -> bool {
        self != Kind::Replicas
    }
}

/// A region with load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotRegion {
    /// The region's ID.
    pub region: u64,
    /// The store of its leader.
    pub leader: u64,
    /// The stores of its voters, which are all of its replicas.
    pub voters: Vec<u64>,
    /// Its leader's load per second.
    pub load: Load,
    /// It takes part in something else, or has moved lately, or its load is not large.
    pub rests: bool,
    /// A store that it has left lately, to which it does not return yet; 0: none.
    pub left: u64,
}

/// A move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The region's ID.
    pub region: u64,
    /// The store that gives up the leadership or the replica.
    pub from: u64,
    /// The store that gets it.
    pub to: u64,
}

/// A store that differs from the mean by less than this, in hundredths, has its share.
const TOLERANCE: u128 = 105;
/// The target must have at most this much afterwards of what the source had before, in hundredths.
const BETTER: u128 = 95;
/// A load of which a region has less than this part of a store's mean does not matter.
const MATTERS: u128 = 20;

/// Returns at most `max` moves, the most useful first; ties are broken by the smallest IDs. `stores` has the load of
/// every store that may give or get some; the loads are changed as the moves change them. No region becomes less
/// isolated.
pub fn propose(
    kind: Kind,
    stores: &mut BTreeMap<u64, Load>,
    regions: &[HotRegion],
    places: &Places,
    max: usize,
) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = Vec::new();
    while proposals.len() < max {
        let means = Means::of(kind, stores);
        let moved = |region: u64| proposals.iter().any(|other| other.region == region);
        let free = regions.iter().filter(|region| !region.rests && !moved(region.region));
        let moves = free.flat_map(|region| {
            let from: Vec<u64> = match kind.moves_leaders() {
                true => vec![region.leader],
                // A leadership would move along.
                false => region.voters.iter().copied().filter(|store| *store != region.leader).collect(),
            };
            let to: Vec<u64> = match kind.moves_leaders() {
                true => region.voters.clone(),
                false => stores.keys().copied().filter(|store| !region.voters.contains(store)).collect(),
            };
            let pairs = from.into_iter().flat_map(move |from| to.clone().into_iter().map(move |to| (from, to)));
            pairs.filter(|(from, to)| from != to && *to != region.left).map(move |(from, to)| (region, from, to))
        });
        let moves = moves.filter(|(region, from, to)| kind.moves_leaders() || places.allow(&region.voters, *from, *to));
        let ranked = moves.filter_map(|(region, from, to)| {
            let (rank, gain) = means.judge(kind, stores.get(&from)?, stores.get(&to)?, region.load)?;
            Some(((rank, Reverse(gain), region.region, from, to), region))
        });
        let Some(((.., from, to), region)) = ranked.min_by_key(|(rank, _)| *rank) else { break };
        if !crate::mutant!("pd.hot-pending-not-counted") {
            shift(kind, stores, region.load, from, to);
        }
        proposals.push(Proposal { region: region.region, from, to });
    }
    proposals
}

/// Changes the stores' loads as a move does.
pub fn shift(kind: Kind, stores: &mut BTreeMap<u64, Load>, load: Load, from: u64, to: u64) {
    let moving = match kind.moves_leaders() {
        true => load,
        false => Load { written_bytes: load.written_bytes, written_keys: load.written_keys, ..Load::default() },
    };
    stores.entry(from).and_modify(|has| *has = has.since(moving));
    stores.entry(to).and_modify(|has| *has = has.plus(moving));
}

/// The mean loads of the stores.
struct Means {
    /// Of the two dimensions.
    chosen: [u128; 2],
    /// Of everything that moves along.
    all: Vec<u128>,
}

impl Means {
    fn of(kind: Kind, stores: &BTreeMap<u64, Load>) -> Means {
        let count = stores.len().max(1) as u128;
        let sum = |of: &dyn Fn(Load) -> u64| stores.values().map(|load| u128::from(of(*load))).sum::<u128>() / count;
        let all = kind.all(Load::default()).len();
        Means {
            chosen: [0, 1].map(|at| sum(&|load| kind.dimensions(load)[at])),
            all: (0..all).map(|at| sum(&|load| kind.all(load)[at])).collect(),
        }
    }

    /// Returns how good a move is: its rank, smaller is better, and by how much it lowers the sum of the squares of the
    /// loads, halved, in the dimension that becomes better. `None` if it must not be made.
    fn judge(&self, kind: Kind, source: &Load, target: &Load, moving: Load) -> Option<(u8, i128)> {
        let (from, to, load) = (kind.dimensions(*source), kind.dimensions(*target), kind.dimensions(moving));
        let wide = |numbers: [u64; 2]| numbers.map(u128::from);
        let (from, to, load) = (wide(from), wide(to), wide(load));
        let better = |at: usize| {
            let uneven = from[at] * 100 > self.chosen[at] * TOLERANCE && to[at] * TOLERANCE < self.chosen[at] * 100;
            let useful = (to[at] + load[at]) * 100 <= from[at] * BETTER || crate::mutant!("pd.hot-to-and-fro");
            load[at] > 0 && uneven && useful
        };
        let others = kind.all(*source).into_iter().zip(kind.all(*target)).zip(kind.all(moving)).zip(&self.all);
        let worse = |(((from, to), load), mean): (((u64, u64), u64), &u128)| {
            let (from, to, load) = (u128::from(from), u128::from(to), u128::from(load));
            load * MATTERS > *mean && to + load > from && (to + load) * 100 > mean * TOLERANCE
        };
        let worsens = others.into_iter().any(worse) && !crate::mutant!("pd.hot-to-and-fro");
        let gain = |at: usize| {
            let [from, to, load] = [from[at], to[at], load[at]].map(|number| number as i128);
            load * (from - to - load)
        };
        match (better(0), better(1)) {
            _ if worsens => None,
            (true, true) => Some((0, gain(0))),
            (true, false) => Some((1, gain(0))),
            (false, true) => Some((2, gain(1))),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: stores end with about as much load each, in few moves, and then nothing moves. Method: by hand, and random
    //! loads whose proposals are carried out.
    use proptest::prelude::*;

    use super::*;

    fn reads(reads: u64) -> Load {
        Load { reads, read_bytes: 100 * reads, ..Load::default() }
    }

    fn writes(writes: u64) -> Load {
        Load { writes, written_keys: writes, written_bytes: 100 * writes, ..Load::default() }
    }

    fn region(region: u64, leader: u64, voters: &[u64], load: Load) -> HotRegion {
        HotRegion { region, leader, voters: voters.to_vec(), load, rests: false, left: 0 }
    }

    /// Returns the loads of stores 1 to `count`.
    fn stores(kind: Kind, count: u64, regions: &[HotRegion]) -> BTreeMap<u64, Load> {
        let mut stores: BTreeMap<u64, Load> = (1..=count).map(|store| (store, Load::default())).collect();
        for region in regions {
            let holders = if kind.moves_leaders() { vec![region.leader] } else { region.voters.clone() };
            for store in holders {
                stores.entry(store).and_modify(|has| *has = has.plus(region.load));
            }
        }
        stores
    }

    /// Carries out proposals, four at a time, until there are none. Returns how many there were.
    fn settle(kind: Kind, count: u64, regions: &mut [HotRegion]) -> usize {
        let mut moves = 0;
        loop {
            let mut loads = stores(kind, count, regions);
            let proposals = propose(kind, &mut loads, regions, &Places::default(), 4);
            if proposals.is_empty() {
                return moves;
            }
            for Proposal { region, from, to } in proposals {
                let region = regions.iter_mut().find(|one| one.region == region).expect("a region of the test");
                if kind.moves_leaders() {
                    assert_eq!(region.leader, from);
                    region.leader = to;
                } else {
                    region.voters.iter_mut().filter(|store| **store == from).for_each(|store| *store = to);
                }
                moves += 1;
            }
            assert!(moves < 1000, "moves end");
        }
    }

    /// Returns the largest load of a store, in hundredths of the mean.
    fn spread(kind: Kind, count: u64, regions: &[HotRegion]) -> u64 {
        let loads: Vec<u64> = stores(kind, count, regions).values().map(|load| kind.dimensions(*load)[0]).collect();
        loads.iter().max().unwrap() * 100 * count / loads.iter().sum::<u64>().max(1)
    }

    #[test]
    fn eight_hot_leaders_of_one_store_are_spread_over_three() {
        for load in [reads, writes] {
            let kind = if load(1).reads > 0 { Kind::Reads } else { Kind::Writes };
            let mut regions: Vec<HotRegion> = (1..=8).map(|id| region(id, 1, &[1, 2, 3], load(1000))).collect();
            assert_eq!(settle(kind, 3, &mut regions), 5);
            assert_eq!(spread(kind, 3, &regions), 112, "three, three and two");
        }
    }

    #[test]
    fn an_empty_store_gets_replicas_that_are_written_to() {
        let mut regions: Vec<HotRegion> = (1..=8).map(|id| region(id, 1 + id % 3, &[1, 2, 3], writes(1000))).collect();
        assert_eq!(settle(Kind::Replicas, 4, &mut regions), 6);
        assert_eq!(spread(Kind::Replicas, 4, &regions), 100);
        assert!(regions.iter().all(|one| one.voters.contains(&one.leader)), "leaders stay");
    }

    #[test]
    fn nothing_moves_without_a_gain() {
        let one = [region(1, 1, &[1, 2, 3], reads(1000))];
        let propose = |regions: &[HotRegion]| {
            super::propose(Kind::Reads, &mut stores(Kind::Reads, 3, regions), regions, &Places::default(), 4).len()
        };
        assert_eq!(propose(&one), 0, "it would be as hot elsewhere");
        let near: Vec<HotRegion> = [(1, 1, 104), (2, 2, 100), (3, 3, 98), (4, 1, 1)]
            .map(|(id, on, n)| region(id, on, &[1, 2, 3], reads(n)))
            .into();
        assert_eq!(propose(&near), 0, "within the tolerance");
        let mut two: Vec<HotRegion> = (1..=4).map(|id| region(id, 1, &[1, 2, 3], reads(1000))).collect();
        assert_eq!(propose(&two), 2, "one goes to each of the others");
        two.iter_mut().for_each(|one| one.rests = true);
        assert_eq!(propose(&two), 0, "all rest");
        two.iter_mut().for_each(|one| (one.rests, one.left, one.voters) = (false, 2, vec![1, 2]));
        assert_eq!(propose(&two), 0, "they have left the only other store lately");
    }

    #[test]
    fn another_load_that_moves_along_does_not_become_worse() {
        let both = |reads: u64, writes: u64| Load { reads, writes, ..Load::default() };
        // Store 1 has the reads, store 2 the writes; one region of store 1 has many writes as well.
        let regions = [
            region(1, 1, &[1, 2], both(1000, 500)),
            region(2, 1, &[1, 2], both(1000, 0)),
            region(3, 2, &[1, 2], both(0, 1000)),
        ];
        let found = propose(Kind::Reads, &mut stores(Kind::Reads, 2, &regions), &regions, &Places::default(), 4);
        assert_eq!(found, [Proposal { region: 2, from: 1, to: 2 }]);
    }

    #[test]
    fn requests_come_before_bytes() {
        let load = |reads, read_bytes| Load { reads, read_bytes, ..Load::default() };
        // Only the bytes are uneven.
        let regions = [
            region(1, 1, &[1, 2], load(10, 4000)),
            region(2, 1, &[1, 2], load(10, 4000)),
            region(3, 2, &[1, 2], load(20, 10)),
        ];
        let found = propose(Kind::Reads, &mut stores(Kind::Reads, 2, &regions), &regions, &Places::default(), 4);
        assert_eq!(found, [], "moving bytes would make requests worse");
        let regions = [region(1, 1, &[1, 2], load(1, 4000)), region(2, 1, &[1, 2], load(50, 4000)), regions[2].clone()];
        let found = propose(Kind::Reads, &mut stores(Kind::Reads, 2, &regions), &regions, &Places::default(), 4);
        assert_eq!(found, [Proposal { region: 1, from: 1, to: 2 }]);
    }

    proptest! {
        /// Goal: moves end, and where regions are small they end evenly. Method: carry out every proposal.
        #[test]
        fn moves_end_evenly(count in 2u64..6, loads in proptest::collection::vec((0u64..5, 1u64..100), 1..60)) {
            let voters: Vec<u64> = (1..=count).collect();
            let mut regions: Vec<HotRegion> = (1..).zip(&loads)
                .map(|(id, (leader, load))| region(id, leader % count + 1, &voters, reads(*load))).collect();
            let moves = settle(Kind::Reads, count, &mut regions);
            prop_assert!(moves <= 2 * loads.len(), "{} moves of {} regions", moves, loads.len());
            let (sum, largest) = (loads.iter().map(|(_, load)| load).sum::<u64>(), loads.iter().map(|(_, load)| load).max());
            // A store keeps at most what one more region would be too much for.
            let bound = 106 + 100 * count * largest.unwrap() / sum;
            prop_assert!(spread(Kind::Reads, count, &regions) <= bound, "{} > {bound}", spread(Kind::Reads, count, &regions));
        }
    }
}
