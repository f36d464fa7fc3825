//! The load of regions, as the leader's view knows it, and the operators that spread it.
//!
//! Stores report with their heartbeats what was read from and written to the regions that they lead. These reports are
//! summed up until they cover [`ClusterOptions::hot_report_ms`]; a region's load is the median of its last
//! [`REPORTS`] sums, and it is hot once [`HITS`] sums in a row, or nearly, had much of it. A load belongs to the
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
use crate::proto::armilla::pd::{OverviewReply, RegionHeartbeat, RegionLoad, SchedulerKind, StoreHeartbeatRequest};
use crate::proto::metapb::PeerRole;
use crate::rt::probe::{self, Event as Probe};
use crate::types::load::Load;
use crate::types::{Region, region, version};

/// A region's load is the median of this many reports.
const REPORTS: usize = 5;
/// A region is hot after this many reports with much load. Each report without takes one back.
pub const HITS: u32 = 3;
/// More hits than these do not count.
const HITS_FULL: u32 = 5;
/// Only about this many regions of a store are hot: those with the largest loads.
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

    /// Takes the loads out of a heartbeat that was heard before: its answer was lost, and it was sent again.
    pub(super) fn drop_old_loads(&self, request: &mut StoreHeartbeatRequest) {
        let last = self.stores.get(&request.store_id).map(|heard| &heard.last);
        let same_run = last.filter(|last| last.incarnation == request.incarnation);
        if same_run.is_some_and(|last| request.number != 0 && request.number <= last.number) {
            crate::reach!("pd.heartbeat-heard-twice");
            request.interval_ms = 0;
        }
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
        if !load.is_none() && interval_ms > 0 {
            let (region, queries) = (region.id, load.queries());
            // Which leadership heard it.
            let data = || self.since_ms.to_be_bytes().to_vec().into();
            probe::emit(|| Probe::Note { store, what: "load-heard", a: region, b: queries, data: data() });
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
        hot && self.runs(SchedulerKind::BalanceHotRegion) && !crate::mutant!("pd.hot-moved-by-number")
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
        if settling || !self.runs(SchedulerKind::BalanceHotRegion) {
            return;
        }
        let places = self.places(state);
        for kind in [Kind::Reads, Kind::Writes, Kind::Replicas] {
            // Leaderships first: they cost little, and a replica that leads does not move.
            let late =
                kind == Kind::Replicas && (!self.hot.open.is_empty() || self.moves.len() >= self.options.moves_max);
            if late || kind == Kind::Replicas && state.cluster_version() < version::MEMBERS {
                continue;
            }
            let mut stores = self.store_loads(state, kind, now_ms);
            let regions = self.hot_regions(state, kind);
            if kind != Kind::Replicas {
                // A store that can lead none of them must not lower the mean.
                let apart = self.without_balance();
                let leads = |store: &u64| regions.iter().any(|region| region.voters.contains(store));
                stores.retain(|store, _| leads(store) && !apart.contains(store));
            }
            let max = self.options.hot_operators_max.saturating_sub(self.hot.open.len());
            for proposal in propose(kind, &mut stores, &regions, &places, max) {
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
            [Load { reads, read_bytes, ..Load::default() }, Load { writes, written_bytes, ..Load::default() }]
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
            let order =
                self.orders.get(id).filter(|order| !order.ended).map(|order| (order.from_store, order.to_store));
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
            let busy = self.orders.contains_key(id) || self.is_changing(*id) || self.is_being_merged(*id);
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
        let b = SchedulerKind::BalanceHotRegion as u64;
        probe::emit(|| Probe::Note { store: from, what: "scheduled", a: id, b, data: Default::default() });
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

    /// Adds what is known of loads to an overview.
    pub fn show_loads(&self, state: &PdState, now_ms: u64, overview: &mut OverviewReply) {
        let shown = |region: u64, store: u64, leads: bool, meter: &Meter| {
            let load = meter.rate();
            RegionLoad {
                region_id: region,
                store_id: store,
                leads,
                reads: load.reads,
                read_keys: load.read_keys,
                read_bytes: load.read_bytes,
                writes: load.writes,
                written_keys: load.written_keys,
                written_bytes: load.written_bytes,
                read_hits: meter.hits[0],
                write_hits: meter.hits[1],
                age_ms: now_ms.saturating_sub(meter.at_ms),
            }
        };
        let leader = |id: u64| state.region(id).and_then(|region| self.leader_of(region)).map(|peer| peer.store_id);
        let leaders =
            self.hot.regions.iter().filter_map(|(id, meter)| leader(*id).map(|store| shown(*id, store, true, meter)));
        let replicas = self.hot.replicas.iter().map(|((id, store), meter)| shown(*id, *store, false, meter));
        overview.loads = leaders.chain(replicas).filter(|one| one.reads > 0 || one.writes > 0).collect();
        (overview.hot_leaders_moved, overview.hot_replicas_moved) = self.hot.moved;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is reported becomes a load, hot regions move apart and then stay, whatever their numbers. Method: a
    //! view of four stores whose heartbeats follow the orders.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{region, state};

    /// A cluster that carries out what it is ordered, and reports the same load of each region every second.
    struct World {
        state: PdState,
        cluster: Cluster,
        now_ms: u64,
        /// By region: the store of its leader, with its term, and its reads per second.
        leaders: BTreeMap<u64, (u64, u64)>,
        reads: BTreeMap<u64, u64>,
        moves: BTreeMap<u64, u64>,
    }

    impl World {
        /// Creates a cluster whose regions, from number 20 on, are led by these stores.
        fn new(leaders: &[u64], reads: impl Fn(u64) -> u64) -> World {
            let count = leaders.len();
            let key = |at: usize| if at == 0 || at == count { String::new() } else { format!("k{at:02}") };
            let regions: Vec<Region> = leaders
                .iter()
                .enumerate()
                .map(|(at, _)| region(20 + at as u64, &key(at), &key(at + 1), &[1, 2, 3]))
                .collect();
            let ids = 20..20 + count as u64;
            World {
                state: state(regions, version::PROTOCOL),
                cluster: Cluster::new(ClusterOptions { hot_report_ms: 1000, ..ClusterOptions::default() }, 0),
                now_ms: 0,
                leaders: ids.clone().zip(leaders.iter().map(|store| (*store, 6))).collect(),
                reads: ids.map(|id| (id, reads(id))).collect(),
                moves: BTreeMap::new(),
            }
        }

        /// Lets some seconds pass.
        fn run(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now_ms += 1000;
                for store in 1..=4 {
                    self.heartbeat(store);
                }
            }
        }

        fn heartbeat(&mut self, store: u64) {
            let report = |(id, (leader, term)): (&u64, &(u64, u64))| {
                let region = self.state.region(*id).expect("a region of the test");
                (*leader == store).then(|| RegionHeartbeat {
                    region: Some(region.clone()),
                    leader: region::peer_on(region, store).copied(),
                    term: *term,
                    reads: self.reads[id],
                    ..RegionHeartbeat::default()
                })
            };
            let regions = self.leaders.iter().filter_map(report).collect();
            let request = StoreHeartbeatRequest {
                store_id: store,
                regions,
                interval_ms: 1000,
                ..StoreHeartbeatRequest::default()
            };
            self.cluster.heartbeat(request, &self.state, self.now_ms);
            self.cluster.balance_hot(&self.state, self.now_ms);
            for order in self.cluster.orders_for(&self.state, store, true, self.now_ms) {
                let (leader, term) = self.leaders[&order.region_id];
                assert_eq!(leader, store);
                self.leaders.insert(order.region_id, (order.to_store, term + 1));
                *self.moves.entry(order.region_id).or_default() += 1;
            }
        }

        fn leads(&self, store: u64, regions: std::ops::Range<u64>) -> usize {
            regions.filter(|id| self.leaders[id].0 == store).count()
        }
    }

    #[test]
    fn hot_regions_of_one_store_move_apart_and_stay() {
        // Each store leads eight; those of store 1 have the load.
        let leaders: Vec<u64> = (0..24).map(|at| 1 + at / 8).collect();
        let mut world = World::new(&leaders, |id| if id < 28 { 1000 } else { 0 });
        world.run(90);
        let hot: Vec<usize> = (1..=3).map(|store| world.leads(store, 20..28)).collect();
        assert!(hot.iter().all(|count| (2..=3).contains(count)), "{hot:?}");
        let all: Vec<usize> = (1..=3).map(|store| world.leads(store, 20..44)).collect();
        assert!(all.iter().all(|count| (7..=9).contains(count)), "others moved in their place: {all:?}");
        let of_hot: u64 = (20..28).filter_map(|id| world.moves.get(&id)).sum();
        assert_eq!(of_hot, 5);
        let before = world.moves.clone();
        world.run(600);
        assert_eq!(world.moves, before, "nothing moves any more");
        assert_eq!(world.cluster.hot.moved, (5, 0));
    }

    #[test]
    fn a_region_is_hot_after_three_reports_and_cold_again_after_some_without() {
        let mut world = World::new(&[1, 2, 3], |id| if id == 20 { 500 } else { 99 });
        world.run(3);
        assert!(!world.cluster.is_hot(20), "the first report of a leader does not count");
        world.run(1);
        assert!(world.cluster.is_hot(20) && !world.cluster.is_hot(21), "too little");
        assert_eq!(world.cluster.load_of(20), Load { reads: 500, ..Load::default() });
        world.run(10);
        world.reads.insert(20, 0);
        world.run(4);
        assert!(world.cluster.is_hot(20), "not at once: the median of five reports");
        world.run(4);
        assert!(!world.cluster.is_hot(20));
    }

    #[test]
    fn another_range_begins_without_a_load() {
        let mut world = World::new(&[1, 2, 3], |_| 500);
        world.run(10);
        assert!(world.cluster.is_hot(20));
        let mut split = world.state.region(20).unwrap().clone();
        split.region_epoch.as_mut().unwrap().version += 1;
        let leader = region::peer_on(&split, 1).copied();
        let report = RegionHeartbeat { region: Some(split), leader, term: 6, reads: 9, ..RegionHeartbeat::default() };
        let before = world.cluster.regions[&20].last.clone();
        world.cluster.hear_load(1, Some(&before), &report, (1000, world.now_ms));
        assert!(!world.cluster.is_hot(20) && world.cluster.load_of(20).reads == 9);
    }

    #[test]
    fn reads_of_replicas_count_where_they_are_served() {
        let mut world = World::new(&[1, 2, 3], |_| 0);
        world.run(12);
        let one = crate::proto::armilla::pd::ReplicaLoad { region_id: 20, reads: 700, ..Default::default() };
        for _ in 0..3 {
            world.now_ms += 1000;
            let request = StoreHeartbeatRequest {
                store_id: 2,
                interval_ms: 1000,
                replica_loads: vec![one],
                ..StoreHeartbeatRequest::default()
            };
            world.cluster.heartbeat(request, &world.state, world.now_ms);
        }
        let loads = world.cluster.store_loads(&world.state, Kind::Reads, world.now_ms);
        assert_eq!(loads.get(&2).map(|load| load.reads), Some(700));
        let mut overview = OverviewReply::default();
        world.cluster.show_loads(&world.state, world.now_ms, &mut overview);
        let shown: Vec<_> = overview.loads.iter().map(|load| (load.region_id, load.store_id, load.leads)).collect();
        assert_eq!(shown, [(20, 2, false)]);
    }
}
