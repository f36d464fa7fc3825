//! Moves of replicas: those that people ask for, those that spread replicas over the stores, and the changes of peers
//! that carry them out.
//!
//! The view and the replicated descriptors come **in**, the changes that a region's leader is to make go **out**.
//! **Never**: a move to a store that is silent; a second move of a region that has one.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::asked::Next;
use super::settings::Limited;
use super::{Checker, Cluster};
use crate::pd::schedule::balance::{self, Placement, Proposal};
use crate::pd::schedule::isolation;
use crate::pd::schedule::replica::{self, Step, Stores};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::pd::{PeersOrder, SchedulerKind};
use crate::proto::armilla::raft::PeerChange;
use crate::proto::armilla::raft::peer_change::Kind;
use crate::proto::metapb::PeerRole;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{PEERS_ORDERS_MAX, REPLICA_MOVE_TIME_MAX};
use crate::types::region::{self, Peer};
use crate::types::{Region, version};

/// The time between two looks at the balance of replicas, which take time with the number of regions.
const BALANCE_MS: u64 = 1000;

/// A replica that is to be moved. It is not replicated: if the placement driver's leader changes, a move that has begun
/// is finished or taken back, as the region needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) from_store: u64,
    pub(super) to_store: u64,
    /// The last time (ms) that the region's members changed.
    pub(super) changed_ms: u64,
    pub(super) conf_ver: u64,
}

impl Move {
    pub(super) fn new(region: &Region, from_store: u64, to_store: u64, now_ms: u64) -> Move {
        Move { from_store, to_store, changed_ms: now_ms, conf_ver: region::epoch(region).conf_ver }
    }

    /// Returns what the stores are good for while the replica moves; `None` if it is over, or cannot go on.
    pub(super) fn adjusted(&mut self, region: &Region, stores: &Stores, now_ms: u64) -> Option<Stores> {
        let conf_ver = region::epoch(region).conf_ver;
        if conf_ver != self.conf_ver {
            (self.conf_ver, self.changed_ms) = (conf_ver, now_ms);
        }
        let late = now_ms.saturating_sub(self.changed_ms) >= REPLICA_MOVE_TIME_MAX.as_millis() as u64;
        let arrived = region::peer_on(region, self.to_store).is_some();
        // If both vote, the new replica took the place of another one, which was lost meanwhile.
        let votes = |store| region::peer_on(region, store).is_some_and(|peer| peer.role() == PeerRole::Voter);
        let both =
            votes(self.to_store) && votes(self.from_store) && !crate::mutant!("pd.waits-for-a-move-that-is-over");
        let over = both || region::peer_on(region, self.from_store).is_none();
        if over || late || !arrived && !stores.fit.contains_key(&self.to_store) {
            return None;
        }
        let mut stores = stores.clone();
        stores.gone.insert(self.from_store);
        stores.fit.retain(|store, _| *store == self.to_store);
        Some(stores)
    }
}

impl Cluster {
    /// Moves a region's replica to another store, on an operator's behalf.
    ///
    /// # Errors
    /// A sentence, if that is not possible.
    pub fn move_peer(&mut self, state: &PdState, id: u64, from: u64, to: u64, now_ms: u64) -> Result<(), String> {
        if state.cluster_version() < version::MEMBERS {
            return Err(format!(
                "replicas cannot be moved yet: the cluster uses version {} of its protocol, that needs version {}",
                state.cluster_version(),
                version::MEMBERS
            ));
        }
        let region = state.region(id).ok_or_else(|| format!("there is no region {id}"))?.clone();
        self.can_move(state, &region, from, to, now_ms)?;
        self.asked.remove(&id);
        self.begin_move(&region, from, to, now_ms);
        Ok(())
    }

    /// Checks whether a region's replica can be moved to another store.
    pub(super) fn can_move(
        &self,
        state: &PdState,
        region: &Region,
        from: u64,
        to: u64,
        now_ms: u64,
    ) -> Result<(), String> {
        let id = region.id;
        if region::peer_on(region, from).is_none() {
            return Err(format!("region {id} has no replica on store {from}"));
        }
        if region::peer_on(region, to).is_some() {
            return Err(format!("region {id} has a replica on store {to} already"));
        }
        let target = state.store(to).ok_or_else(|| format!("there is no store {to}"))?;
        if !state::is_up(target) {
            return Err(format!("store {to} is not up"));
        }
        self.unfit(to, now_ms).map_or(Ok(()), Err)
    }

    pub(super) fn begin_move(&mut self, region: &Region, from_store: u64, to_store: u64, now_ms: u64) {
        self.moves.insert(region.id, Move::new(region, from_store, to_store, now_ms));
    }

    /// Begins moves of replicas that spread them evenly over the stores.
    pub fn balance_replicas(&mut self, state: &PdState, now_ms: u64) {
        let settling = now_ms.saturating_sub(self.since_ms) < self.options.settle_ms;
        let stopped = settling || !self.runs(SchedulerKind::BalanceRegion);
        if state.cluster_version() < version::MEMBERS || stopped || now_ms < self.balance_at_ms {
            return;
        }
        self.balance_at_ms = now_ms + BALANCE_MS;
        let max = self.options.moves_max.saturating_sub(self.moves.len());
        if max == 0 {
            return;
        }
        let stores = self.stores_for_replicas(state, now_ms);
        let settled = |store: &u64| {
            let since = self.stores.get(store).map(|heard| heard.alive_since_ms);
            since.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= self.options.settle_ms)
        };
        // What is lost is replaced first.
        let mut counts = stores.fit.clone();
        counts.retain(|store, _| settled(store));
        let mut resting = Vec::new();
        let mut seen = BTreeSet::new();
        for region in state.regions() {
            let whole = region.peers.len() == self.options.replicas
                && region
                    .peers
                    .iter()
                    .all(|peer| peer.role() == PeerRole::Voter && !stores.gone.contains(&peer.store_id));
            let Some(leader) = self.leader_of(region) else { continue };
            let moves = self.is_changing(region.id) || self.is_being_merged(region.id);
            if seen.insert(region.id) && whole && !moves {
                let stores = region.peers.iter().map(|peer| peer.store_id).collect();
                let fixed = self.fixed_replicas(region, leader.store_id);
                resting.push(Placement { region: region.id, stores, leader: leader.store_id, fixed });
            }
        }
        for (id, moving) in &self.moves {
            // A replica that has arrived is counted there already.
            let arrived = state.region(*id).is_some_and(|region| region::peer_on(region, moving.to_store).is_some());
            if let Some(count) = counts.get_mut(&moving.to_store).filter(|_| !arrived) {
                *count += 1;
            }
            if let Some(count) = counts.get_mut(&moving.from_store) {
                *count = count.saturating_sub(1);
            }
        }
        let mut proposals = isolation::propose(counts.clone(), &resting, &stores.places, max);
        for Proposal { region, from, to } in &proposals {
            crate::reach!("pd.replica-isolated");
            tracing::info!(region, from_store = from, to_store = to, "a replica moves farther away from the others");
        }
        if proposals.is_empty() {
            proposals = balance::propose(counts, &resting, &stores.places, &stores.weights, max);
            for Proposal { region, from, to } in &proposals {
                crate::reach!("pd.replica-balanced");
                tracing::info!(
                    region,
                    from_store = from,
                    to_store = to,
                    "a replica moves to a store with fewer of them"
                );
            }
        }
        // Each look costs as much as there are regions; while there is more to move than may move at a time, it is soon
        // needed again.
        if proposals.len() < max || crate::mutant!("pd.moves-wait-for-the-patrol") {
            self.balance_at_ms = now_ms + BALANCE_MS.max(self.patrol_ms(state));
        }
        for Proposal { region, from, to } in proposals {
            if let Some(region) = state.region(region) {
                let (a, b) = (region.id, SchedulerKind::BalanceRegion as u64);
                probe::emit(|| Probe::Note { store: from, what: "scheduled", a, b, data: Default::default() });
                self.moves.insert(region.id, Move::new(region, from, to, now_ms));
            }
        }
    }

    /// Adjusts what the stores are good for to the move of a region's replica, if there is one.
    fn for_move(&mut self, region: &Region, stores: &Stores, now_ms: u64) -> Option<Stores> {
        let adjusted = self.moves.get_mut(&region.id)?.adjusted(region, stores, now_ms);
        if adjusted.is_none() {
            self.moves.remove(&region.id);
        }
        adjusted
    }

    /// Returns what the stores are good for.
    pub(super) fn stores_for_replicas(&self, state: &PdState, now_ms: u64) -> Stores {
        let weights = self.in_force.region_weights.clone();
        let mut stores = Stores { places: self.places(state), weights, ..Stores::default() };
        for record in state.stores() {
            let id = state::store_id(record);
            if self.is_gone(state, id, now_ms) {
                stores.gone.insert(id);
                stores.instead.extend(state.replaced_by(id).map(|by| (id, by)));
            } else if self.alive(id, now_ms) && self.unfit(id, now_ms).is_none() {
                stores.fit.insert(id, state.replicas_on(id));
            }
        }
        stores
    }

    /// Returns the changes that the regions led by `store` need next, and for how many of them an ID has to be given to
    /// a new learner first: these are left out.
    pub fn peers_orders(&mut self, state: &PdState, store: u64, now_ms: u64) -> (Vec<PeersOrder>, Vec<(u64, u64)>) {
        if state.cluster_version() < version::MEMBERS || crate::mutant!("pd.never-heals") {
            return Default::default();
        }
        let mut stores = self.stores_for_replicas(state, now_ms);
        // As many as there are, if there are not enough.
        let up = state.stores().filter(|record| state::is_up(record)).count();
        let replicas = self.options.replicas.min(up);
        let paused = [Checker::Replica, Checker::Rule].into_iter().any(|checker| self.is_paused(checker, now_ms));
        let (mut orders, mut nameless) = (Vec::new(), Vec::new());
        let mut placed = BTreeSet::new();
        for region in self.look_at(state, store, now_ms) {
            if orders.len() + nameless.len() >= PEERS_ORDERS_MAX {
                self.patrol.again(store);
                break;
            }
            let Some(leader) = self.leader_of(region).filter(|leader| leader.store_id == store) else { continue };
            // Several pieces may be left of a region that was split.
            if !placed.insert(region.id) {
                continue;
            }
            let epoch = region::epoch(region);
            let reported = self.regions.get(&region.id).and_then(|heard| heard.last.region.as_ref());
            if reported.is_none_or(|reported| region::epoch(reported) != epoch) {
                continue;
            }
            let moved = self.for_move(region, &stores, now_ms);
            let own = moved.as_ref().unwrap_or(&stores);
            let step = match self.wished(region, store, own, now_ms) {
                Next::Usual(None) if paused && moved.is_none() => continue,
                Next::Usual(None) => self.next_step(region, leader.id, replicas, own, now_ms),
                Next::Usual(Some((adjusted, wanted))) => {
                    self.next_step(region, leader.id, wanted.min(up), &adjusted, now_ms)
                }
                Next::Wished(step) => step,
            };
            let Some(step) = step else {
                self.patrol.settled(region.id);
                continue;
            };
            let changes = match step {
                Step::Change(changes) => changes,
                Step::Add(on) => {
                    if let Some(count) = stores.fit.get_mut(&on) {
                        *count += 1;
                    }
                    let known = self.learners.get(&region.id);
                    match known.filter(|(conf_ver, learner)| (*conf_ver, learner.store_id) == (epoch.conf_ver, on)) {
                        Some((_, learner)) => {
                            let (peer_id, store_id) = (learner.id, learner.store_id);
                            vec![PeerChange { kind: Kind::AddLearner as i32, peer_id, store_id }]
                        }
                        None => {
                            nameless.push((region.id, on));
                            continue;
                        }
                    }
                }
            };
            orders.push(PeersOrder { region_id: region.id, epoch: Some(epoch), changes });
        }
        (orders, nameless)
    }

    /// Returns a region's next step that the limits of the stores allow now.
    fn next_step(
        &mut self,
        region: &Region,
        leader: u64,
        replicas: usize,
        stores: &Stores,
        now_ms: u64,
    ) -> Option<Step> {
        let conf_ver = region::epoch(region).conf_ver;
        let mut stores = Cow::Borrowed(stores);
        loop {
            let step = replica::next(region, leader, replicas, &stores)?;
            match &step {
                Step::Add(on) => {
                    if self.may_change(Limited::Add, *on, (region.id, conf_ver), now_ms) {
                        return Some(step);
                    }
                    stores.to_mut().fit.remove(on);
                }
                Step::Change(changes) => {
                    let leaving = changes.iter().find(|change| change.kind() == Kind::Demote);
                    let allowed = leaving.is_none_or(|leaving| {
                        self.may_change(Limited::Remove, leaving.store_id, (region.id, conf_ver), now_ms)
                    });
                    return allowed.then_some(step);
                }
            }
        }
    }

    /// Gives an ID that was never used before to the learner that a region is to get on a store.
    pub fn name_learner(&mut self, state: &PdState, region_id: u64, store_id: u64, id: u64) {
        if let Some(region) = state.region(region_id) {
            let learner = Peer { id, store_id, ..Peer::default() };
            self.learners.insert(region_id, (region::epoch(region).conf_ver, learner));
        }
    }
}
