//! The load of regions, as the leader's view knows it, and the operators that spread it.
//!
//! Stores report with their heartbeats what was read from and written to the regions that they lead. These reports are
//! summed up until they cover [`ClusterOptions::hot_report_ms`]; a region's load is the median of its last
//! [`REPORTS`] sums, and the region is hot once [`HITS`] sums in a row, or nearly, had much of it. A load belongs to the
//! region, so it is at the right store as soon as the leadership is. Only the leader knows it, and a new leader begins
//! without: it moves nothing until it has seen [`HITS`] reports.
//!
//! **Never**: a report of the time before a leadership; an operator for a region that takes part in something else; a
//! hot region that is moved by its number rather than by its load.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Cluster;
use crate::pd::schedule::hot::{HotRegion, Kind, Proposal, propose, shift};
use crate::pd::state::PdState;
use crate::proto::armilla::pd::{RegionHeartbeat, StoreHeartbeatRequest};
use crate::proto::metapb::PeerRole;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{HOT_OPERATORS_MAX, REPLICA_MOVES_MAX};
use crate::types::load::Load;
use crate::types::{Region, region, version};

/// A region's load is the median of so many reports.
const REPORTS: usize = 5;
/// A region is hot after so many reports with much load, and stays so until there were as many without as it had more.
const HITS: u32 = 3;
/// More hits than these do not count.
const HITS_FULL: u32 = 5;
/// Only the regions of a store with the largest loads are hot, about so many.
const HOTTEST: usize = 60;
/// The time between two looks, which take time with the number of regions.
const LOOK_MS: u64 = 1000;
/// How long a region does not return to a store that it left because of its load.
const RETURN_MS: u64 = 300_000;

/// The load that one store reports of one region.
#[derive(Clone, Debug, Default)]
struct Meter {
    /// The sum of the report that is under way, and the time that it covers.
    sum: Load,
    ms: u64,
    /// The last reports, per second.
    reports: VecDeque<Load>,
    /// Hits of reads, and of writes.
    hits: [u32; 2],
    /// When the last report was completed.
    at_ms: u64,
}

impl Meter {
    fn add(&mut self, load: Load, ms: u64, least: &[Load; 2], (report_ms, now_ms): (u64, u64)) {
        (self.sum, self.ms) = (self.sum.plus(load), self.ms.saturating_add(ms));
        if self.ms < report_ms {
            return;
        }
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(self.sum.per_second(self.ms));
        (self.sum, self.ms, self.at_ms) = (Load::default(), 0, now_ms);
        let rate = self.rate();
        let much = [
            rate.reads >= least[0].reads || rate.read_bytes >= least[0].read_bytes,
            rate.writes >= least[1].writes || rate.written_bytes >= least[1].written_bytes,
        ];
        for (hits, much) in self.hits.iter_mut().zip(much) {
            *hits = if much { (*hits + 1).min(HITS_FULL) } else { hits.saturating_sub(1) };
        }
    }

    /// Returns the load per second: of each number the median.
    fn rate(&self) -> Load {
        let median = |of: fn(&Load) -> u64| {
            let mut numbers: Vec<u64> = self.reports.iter().map(of).collect();
            numbers.sort_unstable();
            numbers.get(numbers.len() / 2).copied().unwrap_or(0)
        };
        Load {
            reads: median(|load| load.reads),
            read_keys: median(|load| load.read_keys),
            read_bytes: median(|load| load.read_bytes),
            writes: median(|load| load.writes),
            written_keys: median(|load| load.written_keys),
            written_bytes: median(|load| load.written_bytes),
        }
    }

    fn is_idle(&self) -> bool {
        self.sum.is_none() && self.reports.iter().all(|report| report.is_none())
    }
}

/// The load of one region on one store, for people and their tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionLoad {
    /// The region's ID.
    pub region: u64,
    /// The store.
    pub store: u64,
    /// Whether the store leads it.
    pub leads: bool,
    /// The load per second.
    pub load: Load,
    /// How many reports in a row had many reads, and many writes: hot from three on.
    pub hits: [u32; 2],
    /// Milliseconds since the last report was completed.
    pub age_ms: u64,
}

/// What is known of loads.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot {
    /// By region: the load on its leader.
    regions: BTreeMap<u64, Meter>,
    /// By region and store: reads that a replica served which does not lead.
    replicas: BTreeMap<(u64, u64), Meter>,
    /// By store: the loads of reads and writes from which on its regions are hot.
    least: BTreeMap<u64, [Load; 2]>,
    /// The regions with an operator that spreads load.
    open: BTreeSet<u64>,
    /// By region: a store that it left, and when.
    left: BTreeMap<u64, (u64, u64)>,
    at_ms: u64,
    /// How many leaderships, and replicas, were moved because of their load.
    moved: (u64, u64),
}

impl Hot {
    fn has_much(&self, region: u64, kind: Kind) -> bool {
        let of = usize::from(kind != Kind::Reads);
        self.regions.get(&region).is_some_and(|meter| meter.hits[of] >= HITS)
    }

    /// Removes what is not known any more.
    pub(super) fn retain(&mut self, state: &PdState) {
        self.regions.retain(|id, meter| !meter.is_idle() && state.region(*id).is_some());
        let here = |id: &u64, store: u64| state.region(*id).is_some_and(|one| region::peer_on(one, store).is_some());
        self.replicas.retain(|(id, store), meter| !meter.is_idle() && here(id, *store));
        self.left.retain(|id, _| state.region(*id).is_some());
    }
}

fn load_of(report: &RegionHeartbeat) -> Load {
    Load {
        reads: report.reads,
        read_keys: report.read_keys,
        read_bytes: report.read_bytes,
        writes: report.writes,
        written_keys: report.written_keys,
        written_bytes: report.written_bytes,
    }
}

impl Cluster {
    /// Returns the loads from which on a store's regions are hot.
    fn least(&self, store: u64) -> [Load; 2] {
        self.hot.least.get(&store).copied().unwrap_or([self.minimum(); 2])
    }

    fn minimum(&self) -> Load {
        let (queries, bytes) = (self.options.hot_queries_min, self.options.hot_bytes_min);
        Load { reads: queries, read_bytes: bytes, writes: queries, written_bytes: bytes, ..Load::default() }
    }

    /// Notes the load of a region on its leader's store, of the `interval_ms` before. `before` is the last report about
    /// it.
    pub(super) fn hear_load(
        &mut self,
        store: u64,
        before: Option<&RegionHeartbeat>,
        report: &RegionHeartbeat,
        (interval_ms, now_ms): (u64, u64),
    ) {
        let Some(region) = report.region.as_ref() else { return };
        let ranges = |report: &RegionHeartbeat| report.region.as_ref().map(|one| region::epoch(one).version);
        let same_leader = before.is_some_and(|before| before.leader == report.leader && before.term == report.term);
        if before.is_some_and(|before| ranges(before) != ranges(report)) {
            // Another range: what it had before says nothing.
            self.hot.regions.remove(&region.id);
        }
        let load = load_of(report);
        if !load.is_none() {
            let (region, queries) = (region.id, load.queries());
            probe::emit(|| Probe::Note { store, what: "load-heard", a: region, b: queries, data: Default::default() });
        }
        // The first report of a leader covers a part of the interval only.
        let known = self.hot.regions.contains_key(&region.id);
        if interval_ms > 0 && same_leader && (known || !load.is_none()) {
            let least = self.least(store);
            let times = (self.options.hot_report_ms, now_ms);
            self.hot.regions.entry(region.id).or_default().add(load, interval_ms, &least, times);
        }
    }

    /// Notes the reads that a store's replicas served without leading.
    pub(super) fn hear_replica_loads(&mut self, request: &StoreHeartbeatRequest, now_ms: u64) {
        let (store, ms, least) = (request.store_id, request.interval_ms, self.least(request.store_id));
        if ms == 0 {
            return;
        }
        let told: BTreeMap<u64, Load> = request
            .replica_loads
            .iter()
            .map(|one| {
                let (reads, read_keys, read_bytes) = (one.reads, one.read_keys, one.read_bytes);
                (one.region_id, Load { reads, read_keys, read_bytes, ..Load::default() })
            })
            .collect();
        let known = self.hot.replicas.keys().filter(|(_, on)| *on == store).map(|(region, _)| *region);
        let regions: BTreeSet<u64> = known.chain(told.keys().copied()).collect();
        for region in regions {
            let load = told.get(&region).copied().unwrap_or_default();
            let meter = self.hot.replicas.entry((region, store)).or_default();
            meter.add(load, ms, &least, (self.options.hot_report_ms, now_ms));
        }
    }

    /// Returns whether a region has so much load that it moves by its load, not by its number.
    pub(super) fn is_hot(&self, region: u64) -> bool {
        let hot = [Kind::Reads, Kind::Writes].iter().any(|kind| self.hot.has_much(region, *kind));
        hot && self.options.balance_hot && !crate::mutant!("pd.hot-moved-by-number")
    }

    /// Returns the stores whose replicas of a region must not move so that stores have as many each: all of them, if
    /// it is written to much; its leader's, if it is read much.
    pub(super) fn fixed_replicas(&self, region: &Region, leader: u64) -> Vec<u64> {
        match (self.is_hot(region.id), self.hot.has_much(region.id, Kind::Writes)) {
            (false, _) => Vec::new(),
            (true, true) => region.peers.iter().map(|peer| peer.store_id).collect(),
            (true, false) => vec![leader],
        }
    }

    /// Returns the load per second of a region on its leader.
    pub(super) fn load_of(&self, region: u64) -> Load {
        self.hot.regions.get(&region).map(Meter::rate).unwrap_or_default()
    }

    /// Begins operators that spread load over the stores.
    pub fn balance_hot(&mut self, state: &PdState, now_ms: u64) {
        let settling = now_ms.saturating_sub(self.since_ms) < self.options.settle_ms;
        if now_ms < self.hot.at_ms {
            return;
        }
        self.hot.at_ms = now_ms + LOOK_MS;
        self.hot.retain(state);
        self.find_least(state);
        let (orders, moves) = (&self.orders, &self.moves);
        self.hot.open.retain(|id| orders.get(id).is_some_and(|order| !order.ended) || moves.contains_key(id));
        self.hot.left.retain(|_, (_, at_ms)| now_ms.saturating_sub(*at_ms) < RETURN_MS);
        if settling || !self.options.balance_hot {
            return;
        }
        for kind in [Kind::Reads, Kind::Writes, Kind::Replicas] {
            // Leaderships first: they cost little, and a replica that leads does not move.
            let late = kind == Kind::Replicas && (!self.hot.open.is_empty() || self.moves.len() >= REPLICA_MOVES_MAX);
            if late || kind == Kind::Replicas && state.cluster_version() < version::MEMBERS {
                continue;
            }
            let mut stores = self.store_loads(state, kind, now_ms);
            let regions = self.hot_regions(state, kind);
            let max = HOT_OPERATORS_MAX.saturating_sub(self.hot.open.len());
            for proposal in propose(kind, &mut stores, &regions, max) {
                self.begin_hot(state, kind, proposal, now_ms);
            }
        }
    }

    /// Finds the loads from which on the regions of each store are hot.
    fn find_least(&mut self, state: &PdState) {
        let mut by_store: BTreeMap<u64, Vec<Load>> = BTreeMap::new();
        for (id, meter) in &self.hot.regions {
            let leader = state.region(*id).and_then(|region| self.leader_of(region));
            if let Some(leader) = leader {
                by_store.entry(leader.store_id).or_default().push(meter.rate());
            }
        }
        let minimum = self.minimum();
        let nth = |loads: &[Load], of: fn(&Load) -> u64, least: u64| {
            let mut numbers: Vec<u64> = loads.iter().map(of).collect();
            numbers.sort_unstable_by_key(|number| Reverse(*number));
            numbers.get(HOTTEST - 1).map_or(least, |number| least.max(number / 10 * 8))
        };
        let least = |loads: Vec<Load>| {
            let reads = nth(&loads, |load| load.reads, minimum.reads);
            let read_bytes = nth(&loads, |load| load.read_bytes, minimum.read_bytes);
            let writes = nth(&loads, |load| load.writes, minimum.writes);
            let written_bytes = nth(&loads, |load| load.written_bytes, minimum.written_bytes);
            [
                Load { reads, read_bytes, ..Load::default() },
                Load { writes, written_bytes, ..Load::default() },
            ]
        };
        self.hot.least = by_store.into_iter().map(|(store, loads)| (store, least(loads))).collect();
    }

    /// Returns the load of each store that may give or get some, as it will be when all operators are carried out.
    fn store_loads(&self, state: &PdState, kind: Kind, now_ms: u64) -> BTreeMap<u64, Load> {
        let settled = self.settled_stores(state, now_ms);
        let mut stores: BTreeMap<u64, Load> = settled.into_iter().map(|store| (store, Load::default())).collect();
        for (id, meter) in &self.hot.regions {
            let Some((region, leader)) = state.region(*id).and_then(|one| Some((one, self.leader_of(one)?))) else {
                continue;
            };
            let load = meter.rate();
            let holders: Vec<u64> = match kind {
                Kind::Replicas => region.peers.iter().map(|peer| peer.store_id).collect(),
                Kind::Reads | Kind::Writes => vec![leader.store_id],
            };
            let counts = match kind {
                Kind::Replicas => Load { reads: 0, read_keys: 0, read_bytes: 0, ..load },
                Kind::Reads | Kind::Writes => load,
            };
            for store in holders {
                stores.entry(store).and_modify(|has| *has = has.plus(counts));
            }
            let order = self.orders.get(id).filter(|order| !order.ended).map(|order| (order.from_store, order.to_store));
            let moving = self.moves.get(id).map(|moving| (moving.from_store, moving.to_store));
            let under_way = if kind == Kind::Replicas { moving } else { order };
            // A replica that has arrived is counted at both stores: it leaves the first one.
            if let Some((from, to)) = under_way.filter(|_| !crate::mutant!("pd.hot-pending-not-counted")) {
                let arrived = kind == Kind::Replicas && region::peer_on(region, to).is_some();
                shift(kind, &mut stores, load, from, if arrived { 0 } else { to });
            }
        }
        if kind == Kind::Reads {
            for ((_, store), meter) in &self.hot.replicas {
                stores.entry(*store).and_modify(|has| *has = has.plus(meter.rate()));
            }
        }
        stores
    }

    /// Returns the regions with load, as the scheduler sees them.
    fn hot_regions(&self, state: &PdState, kind: Kind) -> Vec<HotRegion> {
        let mut regions = Vec::new();
        for (id, meter) in self.hot.regions.iter().filter(|(id, _)| self.hot.has_much(**id, kind)) {
            let Some(region) = state.region(*id) else { continue };
            let Some(leader) = self.leader_of(region) else { continue };
            let votes = region.peers.iter().all(|peer| peer.role() == PeerRole::Voter);
            let reported = self.regions.get(id).and_then(|heard| heard.last.region.as_ref());
            let newest = reported.is_some_and(|reported| region::epoch(reported) == region::epoch(region));
            // An order that has ended is kept for a while: the region rests.
            let busy = self.orders.contains_key(id) || self.moves.contains_key(id) || self.is_being_merged(*id);
            regions.push(HotRegion {
                region: *id,
                leader: leader.store_id,
                voters: region.peers.iter().map(|peer| peer.store_id).collect(),
                load: meter.rate(),
                rests: busy || !votes || !newest,
                left: self.hot.left.get(id).map_or(0, |(store, _)| *store),
            });
        }
        regions
    }

    fn begin_hot(&mut self, state: &PdState, kind: Kind, proposal: Proposal, now_ms: u64) {
        let Proposal { region: id, from, to } = proposal;
        let Some(region) = state.region(id) else { return };
        let load = self.load_of(id);
        let (queries_per_s, bytes_per_s) = (load.queries(), load.bytes());
        let a = id;
        if kind == Kind::Replicas {
            crate::reach!("pd.hot-replica-moved");
            self.begin_move(region, from, to, now_ms);
            self.hot.moved.1 += 1;
            probe::emit(|| Probe::Note { store: from, what: "hot-move", a, b: to, data: Default::default() });
        } else {
            crate::reach!("pd.hot-leader-moved");
            // An order of the past would be in its place.
            self.order(id, from, to, now_ms);
            self.hot.moved.0 += 1;
            probe::emit(|| Probe::Note { store: from, what: "hot-transfer", a, b: to, data: Default::default() });
        }
        self.hot.open.insert(id);
        self.hot.left.insert(id, (from, now_ms));
        tracing::info!(
            region = id,
            from_store = from,
            to_store = to,
            queries_per_s,
            bytes_per_s,
            what = ?kind,
            "load moves to a store that has less of it"
        );
    }

    /// Returns how many leaderships, and how many replicas, were moved because of their load in this leadership.
    pub fn hot_moves(&self) -> (u64, u64) {
        self.hot.moved
    }

    /// Returns the loads that are known, by region and store.
    pub fn loads(&self, state: &PdState, now_ms: u64) -> Vec<RegionLoad> {
        let load = |region: u64, store: u64, leads: bool, meter: &Meter| RegionLoad {
            region,
            store,
            leads,
            load: meter.rate(),
            hits: meter.hits,
            age_ms: now_ms.saturating_sub(meter.at_ms),
        };
        let leader = |id: u64| state.region(id).and_then(|region| self.leader_of(region)).map(|peer| peer.store_id);
        let leaders =
            self.hot.regions.iter().filter_map(|(id, meter)| leader(*id).map(|store| load(*id, store, true, meter)));
        let replicas = self.hot.replicas.iter().map(|((id, store), meter)| load(*id, *store, false, meter));
        leaders.chain(replicas).filter(|one| !one.load.is_none()).collect()
    }
}
