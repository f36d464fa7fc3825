//! The PD leader's view of the cluster from heartbeats: each region's leader and size, and which stores are alive.
//!
//! Only the leader keeps this view, and it is never replicated: a new leader starts with an empty view and fills it
//! within one round of heartbeats. Until then it knows no region's leader, and `pd::server` makes lookups wait.
//! Times are milliseconds of the leader's monotonic clock.
//!
//! **Orders.** A leader moves by an order that its store gets in a heartbeat's reply. An order ends, with a reason,
//! when it was carried out, when the leader refused it or has moved elsewhere, when the target store's heartbeat is
//! late or says that the store is stopping, or when it was sent without effect. **Never**: an order to move a leader to
//! a store whose heartbeat is late.

mod asked;
mod checkers;
mod handover;
mod history;
mod hot;
mod merge;
mod moves;
mod operators;
mod own;
mod patrol;
mod scatter;
mod settings;
mod shuffle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::asked::Asked;
pub use self::asked::Wish;
pub use self::checkers::Checker;
pub use self::hot::HITS;
use self::hot::Hot;
use self::merge::Merge;
use self::moves::Move;
use self::own::Own;
pub use self::own::OwnStep;
use self::patrol::Patrol;
use self::scatter::Groups;
pub use self::scatter::Scattered;
use self::settings::InForce;
use super::lookup::Lookup;
use super::schedule::leader::{self, LeaderPlacement};
use super::schedule::places::Places;
use super::state::{self, PdState};
use crate::proto::armilla::pd::{
    LeaderOrder, OverviewReply, RegionHeartbeat, SchedulerKind, StoreHeartbeatRequest, StoreOverview,
};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::metapb::PeerRole;
use crate::proto::pdpb;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{HOT_OPERATORS_MAX, MERGES_MAX, REPLICA_MOVES_MAX};
use crate::types::region::{self, Peer};
use crate::types::{Api, Region};

/// Timeouts and limits of the view. Names end with the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// A store whose last heartbeat is at most this old is alive. A leadership that is at least this old has received a
    /// heartbeat of every store that is alive.
    pub alive_ms: u64,
    /// A store whose last heartbeat is older than this gets no leaders: two heartbeat intervals.
    pub late_ms: u64,
    /// Leaders move to a store only after it has been alive for this long, and only after PD's leader has been leader
    /// for this long.
    pub settle_ms: u64,
    /// A peer counts as down if its store has sent no heartbeat for this long.
    pub down_ms: u64,
    /// An order that is not carried out within this time is dropped.
    pub order_ms: u64,
    /// After an order, the scheduler ignores the order's region for this long.
    pub cooldown_ms: u64,
    /// Maximum number of the scheduler's open orders per store.
    pub orders_max: usize,
    /// How many replicas move at a time so that stores have about as many each.
    pub moves_max: usize,
    /// How many regions become part of a neighbour at a time.
    pub merges_max: usize,
    /// How many operators that spread load run at a time.
    pub hot_operators_max: usize,
    /// Whether to spread leaders evenly over the stores.
    pub balance_leaders: bool,
    /// Whether to spread replicas evenly over the stores.
    pub balance_replicas: bool,
    /// A store that has sent no heartbeat for this long is gone for good: its replicas are replaced.
    pub max_down_ms: u64,
    /// How many voters each region is to have.
    pub replicas: usize,
    /// The keys of the labels that say where a store is, the largest place first.
    pub location_labels: Vec<String>,
    /// A region with less data than this, in bytes, becomes part of a neighbour; 0: never.
    pub merge_below_bytes: u64,
    /// The most that may be set for that while the cluster runs, in bytes: more would merge what is split by its size.
    pub merge_below_bytes_max: u64,
    /// Regions whose ranges have not changed for this long may be merged.
    pub merge_rest_ms: u64,
    /// Whether to spread load evenly over the stores.
    pub balance_hot: bool,
    /// A report of a region's load covers this time.
    pub hot_report_ms: u64,
    /// Requests per second, reads or writes, from which on a region may be hot.
    pub hot_queries_min: u64,
    /// Bytes per second, read or written, from which on a region may be hot.
    pub hot_bytes_min: u64,
    /// Requests per second above which stores split a region; 0: never.
    pub split_queries_per_s: u64,
    /// Bytes per second above which stores split a region; 0: never.
    pub split_bytes_per_s: u64,
    /// The time between two looks at all regions, for each of them, in microseconds.
    pub patrol_us_per_region: u64,
    /// How long old versions of transactional keys are kept, in milliseconds; 0: until a client moves the safe point.
    pub gc_keep_ms: u64,
    /// The safe point moves by at least this much, in milliseconds.
    pub gc_step_ms: u64,
    /// The API version of the cluster. With V2, regions are not merged over the boundaries of keyspaces.
    pub api: Api,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            alive_ms: 10_000,
            late_ms: 2_000,
            settle_ms: 10_000,
            down_ms: 30_000,
            order_ms: 10_000,
            cooldown_ms: 30_000,
            orders_max: 4,
            moves_max: REPLICA_MOVES_MAX,
            merges_max: MERGES_MAX,
            hot_operators_max: HOT_OPERATORS_MAX,
            balance_leaders: true,
            balance_replicas: true,
            max_down_ms: 30 * 60 * 1000,
            replicas: 3,
            location_labels: ["zone", "rack", "host"].map(str::to_owned).to_vec(),
            merge_below_bytes: 0,
            merge_below_bytes_max: u64::MAX,
            merge_rest_ms: 3_600_000,
            balance_hot: true,
            hot_report_ms: 10_000,
            hot_queries_min: 100,
            hot_bytes_min: 128 << 10,
            split_queries_per_s: 0,
            split_bytes_per_s: 0,
            patrol_us_per_region: 100,
            gc_keep_ms: 600_000,
            gc_step_ms: 300_000,
            api: Api::V1,
        }
    }
}

/// A region as lookups return it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionInfo {
    /// The replicated descriptor.
    pub region: Region,
    /// The leader's peer, one of the descriptor's; `None` if it is not known.
    pub leader: Option<Peer>,
    /// Peers on stores that have sent no heartbeat for a while, with the duration in seconds.
    pub down: Vec<pdpb::PeerStats>,
}

impl RegionInfo {
    /// Converts to the message that `ScanRegions` returns.
    pub fn into_pdpb(self) -> pdpb::Region {
        pdpb::Region { region: Some(self.region), leader: self.leader, down_peers: self.down, pending_peers: vec![] }
    }

    /// Converts to the message that `GetRegion` and similar calls return.
    pub fn into_response(self, header: pdpb::ResponseHeader) -> pdpb::GetRegionResponse {
        pdpb::GetRegionResponse {
            header: Some(header),
            region: Some(self.region),
            leader: self.leader,
            down_peers: self.down,
            pending_peers: vec![],
        }
    }
}

/// The last report about a region.
#[derive(Clone, Debug)]
struct HeardRegion {
    last: RegionHeartbeat,
    leader: Peer,
    /// When this version of the region was first reported in this leadership.
    since_ms: u64,
}

impl HeardRegion {
    fn version(&self) -> u64 {
        self.last.region.as_ref().map_or(0, |region| region::epoch(region).version)
    }
}

/// The last heartbeat of a store.
#[derive(Clone, Debug)]
struct HeardStore {
    /// The heartbeat without its regions.
    last: StoreHeartbeatRequest,
    /// When the current unbroken series of heartbeats started.
    alive_since_ms: u64,
    heard_ms: u64,
}

/// How many times an order is sent. A reply may be lost, but a leader that has not moved after three orders has a
/// reason.
const ORDER_SENT_MAX: u32 = 3;

/// An order to move a leader.
#[derive(Clone, Copy, Debug)]
struct Order {
    from_store: u64,
    to_store: u64,
    issued_ms: u64,
    sent: u32,
    /// Whether the order is over; it is kept until the cool-down ends.
    ended: bool,
}

/// An order that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedOrder {
    /// The region's ID.
    pub region_id: u64,
    /// The store that was to become leader.
    pub to_store: u64,
    /// Whether that store became leader.
    pub carried_out: bool,
    /// Why the order ended, as a sentence.
    pub why: String,
}

/// The view of one leadership of PD.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// As configured.
    base: ClusterOptions,
    /// As set while the cluster runs.
    options: ClusterOptions,
    in_force: InForce,
    since_ms: u64,
    regions: BTreeMap<u64, HeardRegion>,
    stores: BTreeMap<u64, HeardStore>,
    orders: BTreeMap<u64, Order>,
    ended: Vec<EndedOrder>,
    lookup: Lookup,
    /// By region: the learner that it is to get, and the configuration version at which that was decided.
    learners: BTreeMap<u64, (u64, Peer)>,
    /// By region: a replica that an operator wants moved.
    moves: BTreeMap<u64, Move>,
    /// By region: what a person wants of its replicas.
    asked: BTreeMap<u64, Asked>,
    /// By source: regions that are to become part of a neighbour.
    merges: BTreeMap<u64, Merge>,
    scattered: Groups,
    own: Own,
    patrol: Patrol,
    hot: Hot,
    /// When the balance of replicas, and merges, are next looked at.
    balance_at_ms: u64,
    merges_at_ms: u64,
    /// When leaders and replicas are next shuffled, and how often they were.
    shuffle_at_ms: u64,
    shuffled: u64,
    paused: checkers::Pauses,
}

impl Cluster {
    /// Creates an empty view for a leadership that began at `now_ms`.
    pub fn new(options: ClusterOptions, now_ms: u64) -> Cluster {
        let mut cluster = Cluster {
            base: options.clone(),
            options,
            in_force: InForce::default(),
            since_ms: now_ms,
            regions: BTreeMap::new(),
            stores: BTreeMap::new(),
            orders: BTreeMap::new(),
            ended: Vec::new(),
            lookup: Lookup::default(),
            learners: BTreeMap::new(),
            moves: BTreeMap::new(),
            asked: BTreeMap::new(),
            merges: BTreeMap::new(),
            scattered: Groups::default(),
            own: Own::default(),
            patrol: Patrol::default(),
            hot: Hot::default(),
            balance_at_ms: 0,
            merges_at_ms: 0,
            shuffle_at_ms: 0,
            shuffled: 0,
            paused: checkers::Pauses::new(),
        };
        cluster.follow(&Arc::default(), 0);
        cluster
    }

    /// Returns whether a store is gone for good or has to become empty.
    fn is_gone(&self, state: &PdState, store: u64, now_ms: u64) -> bool {
        let heard_ms = self.stores.get(&store).map_or(self.since_ms, |heard| heard.heard_ms);
        let down = now_ms.saturating_sub(heard_ms) >= self.options.max_down_ms;
        let kept = crate::mutant!("pd.replaced-store-keeps-replicas") && state.replaced_by(store).is_some();
        down || !kept && state.store(store).is_none_or(|record| !state::is_up(record))
    }

    /// Returns where the stores are.
    fn places(&self, state: &PdState) -> Places {
        let mut places = Places::default();
        for store in state.stores().filter_map(|record| record.store.as_ref()) {
            places.add(store.id, &store.labels, &self.options.location_labels);
        }
        places
    }

    /// Processes a heartbeat. Region reports with an outdated term or epoch are ignored. Returns the descriptors that
    /// are newer than the replicated ones, for the caller to replicate.
    pub fn heartbeat(&mut self, mut request: StoreHeartbeatRequest, state: &PdState, now_ms: u64) -> Vec<Region> {
        self.drop_old_loads(&mut request);
        self.hear_replica_loads(&request, now_ms);
        request.replica_loads.clear();
        let reports = std::mem::take(&mut request.regions);
        let interval_ms = request.interval_ms;
        let refusals = std::mem::take(&mut request.refused_orders);
        let store = request.store_id;
        let alive_since_ms = match self.stores.get(&store) {
            Some(before) if now_ms.saturating_sub(before.heard_ms) <= self.options.alive_ms => before.alive_since_ms,
            _ => now_ms,
        };
        self.stores.insert(store, HeardStore { last: request, alive_since_ms, heard_ms: now_ms });
        let mut newer = Vec::new();
        for report in reports {
            if let Some(region) = self.report(store, report, state, (interval_ms, now_ms)) {
                newer.push(region);
            }
        }
        for refusal in refusals {
            self.end_order(refusal.region_id, Some(refusal.to_store), false, refusal.reason);
        }
        self.end_orders(now_ms);
        newer
    }

    /// Ends the orders that are over according to the current view, and removes ended orders whose cool-down is over.
    fn end_orders(&mut self, now_ms: u64) {
        let mut over = Vec::new();
        for (id, order) in self.orders.iter().filter(|(_, order)| !order.ended) {
            let led_by = self.regions.get(id).map_or(0, |heard| heard.leader.store_id);
            let why = if led_by == order.to_store {
                "carried out".to_owned()
            } else if led_by != order.from_store {
                format!("store {led_by} leads the region now")
            } else if let Some(why) = self.refuses_leaders(order.to_store, now_ms) {
                why
            } else if now_ms.saturating_sub(order.issued_ms) >= self.options.order_ms {
                format!("it was not carried out within {} ms", self.options.order_ms)
            } else {
                continue;
            };
            over.push((*id, led_by == order.to_store, why));
        }
        for (id, carried_out, why) in over {
            self.end_order(id, None, carried_out, why);
        }
        let cooldown_ms = self.options.cooldown_ms;
        self.orders.retain(|_, order| !order.ended || now_ms.saturating_sub(order.issued_ms) < cooldown_ms);
    }

    /// Ends a region's order, if it is open (and, with `to_store`, if it has that target).
    fn end_order(&mut self, region_id: u64, to_store: Option<u64>, carried_out: bool, why: String) {
        let Some(order) = self.orders.get_mut(&region_id).filter(|order| !order.ended) else { return };
        if to_store.is_none_or(|to| to == order.to_store) {
            order.ended = true;
            self.ended.push(EndedOrder { region_id, to_store: order.to_store, carried_out, why });
        }
    }

    /// Returns the newest protocol version that all stores in service know, or `None` while one of them has sent no
    /// heartbeat.
    pub fn known_to_all(&self, state: &PdState) -> Option<u32> {
        let up = state.stores().filter(|record| state::is_up(record)).map(state::store_id);
        let known = up.map(|store| self.stores.get(&store).map(|heard| heard.last.protocol));
        known.collect::<Option<Vec<u32>>>()?.into_iter().min()
    }

    /// Returns the incarnation of a store's process that sends heartbeats, if the store is alive.
    pub fn living_run(&self, store: u64, now_ms: u64) -> Option<Incarnation> {
        self.stores.get(&store).filter(|_| self.alive(store, now_ms)).and_then(|heard| heard.last.incarnation)
    }

    /// Returns the orders that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<EndedOrder> {
        std::mem::take(&mut self.ended)
    }

    /// Returns why a store must not receive leaders now, as a sentence, or `None` if it may.
    fn unfit(&self, store: u64, now_ms: u64) -> Option<String> {
        let Some(heard) = self.stores.get(&store) else {
            return Some(format!("store {store} has sent no heartbeat since this placement driver became leader"));
        };
        let age_ms = now_ms.saturating_sub(heard.heard_ms);
        if heard.last.stopping {
            return Some(format!("store {store} is stopping"));
        }
        let guards = !crate::mutant!("pd.orders-to-late-stores") && !crate::mutant!("pd.dead-store-gets-leaders");
        (age_ms > self.options.late_ms && guards)
            .then(|| format!("store {store}'s heartbeat is late: the last one came {age_ms} ms ago"))
    }

    /// Processes one region's report. Returns the descriptor if it is newer than the replicated one.
    fn report(
        &mut self,
        store: u64,
        report: RegionHeartbeat,
        state: &PdState,
        (interval_ms, now_ms): (u64, u64),
    ) -> Option<Region> {
        let (region, leader) = (report.region.as_ref()?, report.leader?);
        let peer = region::peer_by_id(region, leader.id)?;
        if peer.store_id != store {
            return None;
        }
        if let Some(before) = self.regions.get(&region.id) {
            let stale_epoch = before.last.region.as_ref().is_some_and(|known| region::older(region, known));
            if report.term < before.last.term || stale_epoch {
                return None;
            }
        }
        let known = state.region(region.id);
        if known.is_some_and(|known| region::older(region, known)) {
            return None;
        }
        let newer = known.is_none_or(|known| region::older(known, region)).then(|| region.clone());
        let same = |before: &HeardRegion| before.leader.id == leader.id && before.last.region == report.region;
        if !self.regions.get(&region.id).is_some_and(same) {
            self.patrol.changed(region.id);
        }
        let (leader, version) = (*peer, region::epoch(region).version);
        let before = self.regions.get(&region.id).filter(|before| before.version() == version);
        let since_ms = before.map_or(now_ms, |before| before.since_ms);
        let id = region.id;
        let before = self.regions.remove(&id);
        self.hear_load(store, before.as_ref().map(|before| &before.last), &report, (interval_ms, now_ms));
        self.regions.insert(id, HeardRegion { leader, last: report, since_ms });
        newer
    }

    /// Removes regions that the replicated state no longer has.
    pub fn retain(&mut self, state: &PdState) {
        self.regions.retain(|id, _| state.region(*id).is_some());
        self.orders.retain(|id, _| state.region(*id).is_some());
        self.learners.retain(|id, _| state.region(*id).is_some());
        self.moves.retain(|id, _| state.region(*id).is_some());
        self.asked.retain(|id, _| state.region(*id).is_some());
        self.merges.retain(|id, _| state.region(*id).is_some());
        self.hot.retain(state);
    }

    /// Returns the milliseconds since the store's last heartbeat in this leadership.
    pub fn heartbeat_age_ms(&self, store: u64, now_ms: u64) -> Option<u64> {
        self.stores.get(&store).map(|heard| now_ms.saturating_sub(heard.heard_ms))
    }

    /// Returns whether the store has sent a heartbeat recently.
    pub fn alive(&self, store: u64, now_ms: u64) -> bool {
        self.heartbeat_age_ms(store, now_ms).is_some_and(|age| age <= self.options.alive_ms)
    }

    /// Returns a replicated region with its known leader and down peers.
    pub fn info(&self, region: &Region, now_ms: u64) -> RegionInfo {
        RegionInfo { region: region.clone(), leader: self.leader_of(region), down: self.down(region, now_ms) }
    }

    /// Returns the region that holds `key`.
    pub fn by_key(&mut self, state: &PdState, key: &[u8], now_ms: u64) -> Option<RegionInfo> {
        self.lookup.region_of(state, key).map(|region| self.info(region, now_ms))
    }

    /// Returns the region before the one that holds `key`.
    pub fn before(&mut self, state: &PdState, key: &[u8], now_ms: u64) -> Option<RegionInfo> {
        self.lookup.region_before(state, key).map(|region| self.info(region, now_ms))
    }

    /// Returns the region with this ID.
    pub fn by_id(&self, state: &PdState, id: u64, now_ms: u64) -> Option<RegionInfo> {
        state.region(id).map(|region| self.info(region, now_ms))
    }

    /// Returns the regions that overlap `[start, end)`, at most `limit`.
    pub fn scan(&self, state: &PdState, start: &[u8], end: &[u8], limit: usize, now_ms: u64) -> Vec<RegionInfo> {
        state.scan(start, end, limit).into_iter().map(|region| self.info(region, now_ms)).collect()
    }

    fn leader_of(&self, region: &Region) -> Option<Peer> {
        let heard = self.regions.get(&region.id)?;
        region::peer_by_id(region, heard.leader.id).cloned()
    }

    /// Checks whether lookups may return these regions: either each has a known leader, or every living store has had
    /// enough time to report that it leads none of them. With `strictly`, only the former counts.
    ///
    /// # Errors
    /// The ID of the first region whose leader is not known.
    pub fn known(&self, found: &[RegionInfo], strictly: bool, now_ms: u64) -> Result<(), u64> {
        if crate::mutant!("pd.answers-before-heartbeats") {
            return Ok(());
        }
        if !strictly && now_ms.saturating_sub(self.since_ms) >= self.options.alive_ms {
            return Ok(());
        }
        let unknown = found.iter().find(|info| info.leader.is_none());
        unknown.map_or(Ok(()), |info| Err(info.region.id))
    }

    fn down(&self, region: &Region, now_ms: u64) -> Vec<pdpb::PeerStats> {
        let mut down = Vec::new();
        for peer in &region.peers {
            let heard_ms = self.stores.get(&peer.store_id).map_or(self.since_ms, |heard| heard.heard_ms);
            let age_ms = now_ms.saturating_sub(heard_ms);
            if age_ms >= self.options.down_ms {
                down.push(pdpb::PeerStats { peer: Some(*peer), down_seconds: age_ms / 1000 });
            }
        }
        down
    }

    /// Orders a transfer of a region's leadership on an operator's behalf, replacing any open order for the region.
    ///
    /// # Errors
    /// A sentence, if the transfer is not possible.
    pub fn transfer(&mut self, state: &PdState, region_id: u64, to_store: u64, now_ms: u64) -> Result<(), String> {
        let region = state.region(region_id).ok_or_else(|| format!("there is no region {region_id}"))?;
        let peer = region::peer_on(region, to_store)
            .ok_or_else(|| format!("region {region_id} has no peer on store {to_store}"))?;
        if peer.role() != PeerRole::Voter {
            return Err(format!("region {region_id}'s peer on store {to_store} is not a voter"));
        }
        let leader = self.leader_of(region).ok_or_else(|| format!("region {region_id}'s leader is not known yet"))?;
        if leader.store_id == to_store {
            return Ok(());
        }
        if let Some(why) = self.refuses_leaders(to_store, now_ms) {
            return Err(why);
        }
        self.end_order(region_id, None, false, "replaced by an operator's order".into());
        self.order(region_id, leader.store_id, to_store, now_ms);
        Ok(())
    }

    fn order(&mut self, region_id: u64, from_store: u64, to_store: u64, now_ms: u64) {
        assert_ne!(from_store, to_store, "region {region_id}: a leader is ordered to its own store");
        let order = Order { from_store, to_store, issued_ms: now_ms, sent: 0, ended: false };
        let before = self.orders.insert(region_id, order);
        assert!(before.is_none_or(|before| before.ended), "region {region_id}: only one order may be open");
    }

    /// Returns the orders for a store: the open ones, new ones that take leaders from it and, if `balance`, new ones
    /// that spread leaders evenly.
    pub fn orders_for(&mut self, state: &PdState, store: u64, balance: bool, now_ms: u64) -> Vec<LeaderOrder> {
        self.end_orders(now_ms);
        if now_ms.saturating_sub(self.since_ms) >= self.options.settle_ms {
            self.hand_over(state, store, now_ms);
            let orders = if balance && self.runs(SchedulerKind::BalanceLeader) {
                self.balance(state, store, now_ms)
            } else {
                vec![]
            };
            for LeaderOrder { region_id, to_store } in orders {
                let (a, b) = (region_id, SchedulerKind::BalanceLeader as u64);
                probe::emit(|| Probe::Note { store, what: "scheduled", a, b, data: Default::default() });
                self.order(region_id, store, to_store, now_ms);
            }
        }
        let open = self.orders.iter_mut().filter(|(_, order)| !order.ended && order.from_store == store);
        let (mut orders, mut vain) = (Vec::new(), Vec::new());
        let sent_max = if crate::mutant!("pd.dead-store-gets-leaders") { u32::MAX } else { ORDER_SENT_MAX };
        for (id, order) in open {
            if order.sent == sent_max {
                vain.push(*id);
                continue;
            }
            order.sent += 1;
            orders.push(LeaderOrder { region_id: *id, to_store: order.to_store });
        }
        for id in vain {
            self.end_order(id, None, false, format!("store {store} still leads after {sent_max} orders"));
        }
        orders
    }

    /// Returns the stores that leaders may move to.
    fn settled_stores(&self, state: &PdState, now_ms: u64) -> Vec<u64> {
        let settled = |store: u64| {
            let since = self.stores.get(&store).map(|heard| heard.alive_since_ms);
            self.unfit(store, now_ms).is_none()
                && self.alive(store, now_ms)
                && since.is_some_and(|ms| now_ms.saturating_sub(ms) >= self.options.settle_ms)
        };
        let up = state.stores().filter(|record| state::is_up(record)).map(state::store_id);
        up.filter(|id| settled(*id)).collect()
    }

    fn balance(&self, state: &PdState, from: u64, now_ms: u64) -> Vec<LeaderOrder> {
        let apart = self.without_balance();
        let mut stores = self.settled_stores(state, now_ms);
        stores.retain(|store| !apart.contains(store) && self.refuses_leaders(*store, now_ms).is_none());
        if !self.is_uneven(from, &stores) {
            return Vec::new();
        }
        let (mut placements, mut open) = (Vec::new(), 0);
        // Several pieces may be left of a region that was split: it has one leader all the same.
        let mut placed = BTreeSet::new();
        for region in state.regions() {
            let Some(leader) = self.leader_of(region) else { continue };
            if !placed.insert(region.id) {
                continue;
            }
            let order = self.orders.get(&region.id);
            let moving_to = order.filter(|order| !order.ended).map(|order| order.to_store);
            open += usize::from(moving_to.is_some() && leader.store_id == from);
            let voters = region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).map(|peer| peer.store_id);
            let placement = LeaderPlacement {
                region: region.id,
                leader: leader.store_id,
                voters: voters.collect(),
                moving_to,
                rests: order.is_some() || self.is_hot(region.id),
            };
            placements.push(placement);
        }
        let max = self.options.orders_max.saturating_sub(open);
        leader::propose(from, &stores, &placements, &self.in_force.leader_weights, max)
    }

    /// Returns a store's last reported statistics; zeros if it has sent no heartbeat in this leadership. Its peers are
    /// counted from the replicated regions.
    pub fn stats(&self, state: &PdState, store: u64) -> pdpb::StoreStats {
        let heard = self.stores.get(&store).map(|heard| heard.last.clone()).unwrap_or_default();
        pdpb::StoreStats {
            store_id: store,
            capacity: heard.capacity_bytes,
            available: heard.available_bytes,
            region_count: state.replicas_on(store) as u32,
            used_size: heard.used_bytes,
            start_time: state
                .store(store)
                .and_then(|record| record.store.as_ref())
                .map_or(0, |s| s.start_timestamp as u32),
        }
    }

    /// Returns the overview that `armilla ctl` and the status page show.
    pub fn overview(&self, state: &PdState, now_ms: u64) -> OverviewReply {
        let mut leaders: BTreeMap<u64, u64> = BTreeMap::new();
        let mut peers: BTreeMap<u64, u64> = BTreeMap::new();
        let mut regions = Vec::new();
        for region in state.regions() {
            let leader = self.leader_of(region);
            if let Some(leader) = &leader {
                *leaders.entry(leader.store_id).or_default() += 1;
            }
            for peer in &region.peers {
                *peers.entry(peer.store_id).or_default() += 1;
            }
            let heard = self.regions.get(&region.id).map(|heard| heard.last.clone()).unwrap_or_default();
            regions.push(RegionHeartbeat { region: Some(region.clone()), leader, ..heard });
        }
        let count = |counts: &BTreeMap<u64, u64>, id: u64| counts.get(&id).copied().unwrap_or(0);
        let stores = state.stores().map(|record| {
            let id = state::store_id(record);
            let heard = self.stores.get(&id).map(|heard| heard.last.clone()).unwrap_or_default();
            StoreOverview {
                store: record.store.clone(),
                capacity_bytes: heard.capacity_bytes,
                available_bytes: heard.available_bytes,
                used_bytes: heard.used_bytes,
                reads_per_s: heard.reads_per_s,
                writes_per_s: heard.writes_per_s,
                leaders: count(&leaders, id),
                regions: count(&peers, id),
                heartbeat_age_ms: self.heartbeat_age_ms(id, now_ms).unwrap_or(u64::MAX),
            }
        });
        let mut overview = OverviewReply {
            stores: stores.collect(),
            regions,
            safe_points: Some(state.safe_points().clone()),
            keep_versions_ms: self.options.gc_keep_ms,
            oldest_transaction: self.history(state, now_ms).oldest.unwrap_or_default(),
            ..OverviewReply::default()
        };
        self.show_loads(state, now_ms, &mut overview);
        overview
    }
}
