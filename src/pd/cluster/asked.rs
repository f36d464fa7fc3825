//! Replicas that people add, remove, or place on stores of their choice.
//!
//! Requests come **in**, the steps of a region's peers towards them go **out**, before those that its number of
//! replicas asks for. A request is not replicated: a new leader of the placement driver finishes or undoes what has
//! begun, as the region needs. **Never**: a step that costs a region its quorum.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Cluster;
use crate::pd::schedule::replica::{Step, Stores};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::raft::PeerChange;
use crate::proto::armilla::raft::peer_change::Kind;
use crate::proto::metapb::PeerRole;
use crate::types::limits::REPLICA_MOVE_TIME_MAX;
use crate::types::region::{self, Peer};
use crate::types::{Region, version};

/// What a person wants of a region's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A replica on this store. If there are more than wanted then, another one goes.
    Add(u64),
    /// No replica on this store. Another one takes its place first, if there is a store for it; if not, a new one comes
    /// there afterwards.
    Remove(u64),
    /// Replicas on these stores and no others.
    Place {
        /// The stores.
        stores: BTreeSet<u64>,
        /// The store that is to lead the region.
        leader: Option<u64>,
    },
}

/// A request that is being carried out.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) issued_ms: u64,
}

/// Who takes a region's next step.
pub(super) enum Next {
    /// The region's number of replicas, with these stores if they are given, and this number.
    Usual(Option<(Stores, usize)>),
    /// The request: this step, or none now.
    Wished(Option<Step>),
}

fn voters(region: &Region) -> impl Iterator<Item = &Peer> {
    region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter)
}

fn is_settled(region: &Region) -> bool {
    region.peers.iter().all(|peer| peer.role() == PeerRole::Voter)
}

fn one(kind: Kind, peer: &Peer) -> Step {
    Step::Change(vec![PeerChange { kind: kind as i32, peer_id: peer.id, store_id: peer.store_id }])
}

impl Cluster {
    /// Begins what a person wants of a region's replicas.
    ///
    /// # Errors
    /// A sentence, if that is not possible.
    pub fn ask(&mut self, state: &PdState, id: u64, wish: Wish, now_ms: u64) -> Result<(), String> {
        if state.cluster_version() < version::MEMBERS {
            return Err(format!(
                "replicas cannot be changed yet: the cluster uses version {} of its protocol, that needs version {}",
                state.cluster_version(),
                version::MEMBERS
            ));
        }
        let region = state.region(id).ok_or_else(|| format!("there is no region {id}"))?;
        if self.moves.contains_key(&id) || self.is_being_merged(id) {
            return Err(format!("region {id} is being moved or merged: wait, or cancel that first"));
        }
        match &wish {
            Wish::Add(store) => {
                if region::peer_on(region, *store).is_some() {
                    return Err(format!("region {id} has a replica on store {store} already"));
                }
                self.may_get_replicas(state, *store, now_ms)?;
            }
            Wish::Remove(store) => self.may_lose(region, *store, now_ms)?,
            Wish::Place { stores, leader } => {
                let replicas = self.options.replicas;
                if stores.len() != replicas {
                    return Err(format!("{} stores were given: regions have {replicas} replicas", stores.len()));
                }
                for store in stores.iter().filter(|store| region::peer_on(region, **store).is_none()) {
                    self.may_get_replicas(state, *store, now_ms)?;
                }
                if let Some(why) = leader.and_then(|store| self.refuses_leaders(store, now_ms)) {
                    return Err(why);
                }
            }
        }
        self.asked.insert(id, Asked { wish, issued_ms: now_ms });
        Ok(())
    }

    fn may_get_replicas(&self, state: &PdState, store: u64, now_ms: u64) -> Result<(), String> {
        let record = state.store(store).ok_or_else(|| format!("there is no store {store}"))?;
        if !state::is_up(record) {
            return Err(format!("store {store} is not up"));
        }
        self.unfit(store, now_ms).map_or(Ok(()), Err)
    }

    /// Checks whether a region has a quorum without its replica on a store.
    fn may_lose(&self, region: &Region, store: u64, now_ms: u64) -> Result<(), String> {
        let id = region.id;
        let peer =
            region::peer_on(region, store).ok_or_else(|| format!("region {id} has no replica on store {store}"))?;
        if peer.role() != PeerRole::Voter {
            return Ok(());
        }
        let others: Vec<u64> = voters(region).map(|peer| peer.store_id).filter(|other| *other != store).collect();
        if others.is_empty() {
            return Err(format!("store {store} has the only replica of region {id} that votes"));
        }
        let alive = others.iter().filter(|other| self.alive(**other, now_ms)).count();
        if alive <= others.len() / 2 {
            return Err(format!(
                "region {id} would lose its quorum: only {alive} of its {} other replicas are on stores that are alive",
                others.len()
            ));
        }
        Ok(())
    }

    /// Returns whether a region's replicas are being changed at a person's request, or moved.
    pub(super) fn is_changing(&self, id: u64) -> bool {
        self.moves.contains_key(&id) || self.asked.contains_key(&id)
    }

    /// Returns who takes the next step of a region whose leader is on the store `leads`.
    pub(super) fn wished(&mut self, region: &Region, leads: u64, stores: &Stores, now_ms: u64) -> Next {
        let Some(Asked { wish, issued_ms }) = self.asked.get(&region.id).cloned() else { return Next::Usual(None) };
        let late = now_ms.saturating_sub(issued_ms) >= REPLICA_MOVE_TIME_MAX.as_millis() as u64;
        let joint = |peer: &Peer| matches!(peer.role(), PeerRole::IncomingVoter | PeerRole::DemotingVoter);
        if late {
            self.asked.remove(&region.id);
        }
        if late || region.peers.iter().any(joint) {
            return Next::Usual(None);
        }
        let next = match &wish {
            Wish::Add(store) => self.adding(region, *store, leads, stores),
            Wish::Remove(store) => self.removing(region, *store, leads, stores, now_ms),
            Wish::Place { stores: wanted, leader } => self.placing(region, wanted, *leader, (leads, now_ms), stores),
        };
        next.unwrap_or_else(|| {
            self.asked.remove(&region.id);
            Next::Usual(None)
        })
    }

    /// Returns the next step towards a replica on `store`; `None` if the request is over.
    fn adding(&self, region: &Region, store: u64, leads: u64, stores: &Stores) -> Option<Next> {
        let learner = |peer: &&Peer| peer.role() == PeerRole::Learner;
        match region::peer_on(region, store) {
            None if !stores.fit.contains_key(&store) => None,
            // It is removed, or becomes a voter, first.
            None if region.peers.iter().any(|peer| learner(&peer)) => Some(Next::Usual(None)),
            None => Some(Next::Wished(Some(Step::Add(store)))),
            Some(peer) if learner(&peer) => Some(Next::Wished(Some(one(Kind::Promote, peer)))),
            Some(_) if voters(region).count() > self.options.replicas => {
                let apart = |peer: &Peer| {
                    let others = region.peers.iter().map(|other| other.store_id);
                    stores.places.apart_from_all(peer.store_id, others)
                };
                let has = |peer: &Peer| stores.fit.get(&peer.store_id).copied().unwrap_or(u64::MAX);
                let extra = voters(region).filter(|peer| peer.store_id != leads && peer.store_id != store);
                let extra = extra.min_by_key(|peer| (apart(peer), Reverse(has(peer)), peer.store_id))?;
                Some(Next::Wished(Some(one(Kind::Demote, extra))))
            }
            Some(_) if is_settled(region) => None,
            Some(_) => Some(Next::Usual(None)),
        }
    }

    /// Returns the next step towards no replica on `store`; `None` if the request is over.
    fn removing(&mut self, region: &Region, store: u64, leads: u64, stores: &Stores, now_ms: u64) -> Option<Next> {
        let elsewhere = stores.fit.keys().any(|other| *other != store && region::peer_on(region, *other).is_none());
        match region::peer_on(region, store).copied() {
            // Without another store, the region gets its replica back there: it is not left with too few.
            None if !elsewhere => None,
            None if is_settled(region) && region.peers.len() >= self.options.replicas => None,
            None => {
                let mut others = stores.clone();
                others.fit.remove(&store);
                Some(Next::Usual(Some((others, self.options.replicas))))
            }
            Some(peer) if peer.role() == PeerRole::Learner => Some(Next::Wished(Some(one(Kind::Remove, &peer)))),
            // Another replica takes its place first, so that there is none too few meanwhile.
            Some(_) if elsewhere => {
                let mut others = stores.clone();
                others.fit.remove(&store);
                others.gone.insert(store);
                Some(Next::Usual(Some((others, self.options.replicas))))
            }
            Some(_) if self.may_lose(region, store, now_ms).is_err() => None,
            Some(_) if leads == store => {
                self.lead_elsewhere(region, leads, |to| to != store, now_ms);
                Some(Next::Wished(None))
            }
            Some(peer) => Some(Next::Wished(Some(one(Kind::Demote, &peer)))),
        }
    }

    /// Returns the next step towards replicas on the `wanted` stores; `None` if the request is over.
    fn placing(
        &mut self,
        region: &Region,
        wanted: &BTreeSet<u64>,
        leader: Option<u64>,
        (leads, now_ms): (u64, u64),
        stores: &Stores,
    ) -> Option<Next> {
        let here: BTreeSet<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
        if here == *wanted && is_settled(region) {
            let to = leader.filter(|leader| *leader != leads)?;
            self.lead_elsewhere(region, leads, |store| store == to, now_ms);
            return Some(Next::Usual(None));
        }
        let missing = wanted.difference(&here).any(|store| !stores.fit.contains_key(store));
        let mut adjusted = stores.clone();
        adjusted.gone.extend(here.difference(wanted));
        adjusted.fit.retain(|store, _| wanted.contains(store));
        (!missing).then_some(Next::Usual(Some((adjusted, wanted.len()))))
    }

    /// Orders the region's leader to another voter that may lead, unless an order is open.
    fn lead_elsewhere(&mut self, region: &Region, leads: u64, may: impl Fn(u64) -> bool, now_ms: u64) {
        let open = self
            .orders
            .get(&region.id)
            .is_some_and(|order| !order.ended || now_ms.saturating_sub(order.issued_ms) < self.options.late_ms);
        let to = voters(region).map(|peer| peer.store_id).filter(|store| *store != leads && may(*store));
        let to = to.filter(|store| self.refuses_leaders(*store, now_ms).is_none()).min();
        if let Some(to) = to.filter(|_| !open) {
            self.order(region.id, leads, to, now_ms);
        }
    }

    /// Returns whether a region's replicas are where a request wants them.
    pub fn is_placed(&self, region: &Region, wanted: &BTreeSet<u64>, leader: Option<u64>) -> bool {
        let here: BTreeSet<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
        let leads = self.leader_of(region).map(|peer| peer.store_id);
        here == *wanted && is_settled(region) && leader.is_none_or(|leader| leads == Some(leader))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what a person wants of replicas is reached, in steps that keep the quorum. Method: a view of four stores
    //! whose region follows the orders.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, report, state};
    use crate::proto::armilla::pd::pd_command::Op;
    use crate::proto::armilla::pd::{PdCommand, PutRegion};
    use crate::proto::armilla::raft::ChangePeers;
    use crate::region::members;

    struct World {
        state: PdState,
        cluster: Cluster,
        next_id: u64,
    }

    impl World {
        fn new() -> World {
            let state = state(vec![region(20, "", "", &[1, 2, 3])], version::PROTOCOL);
            let cluster = heard(&state, ClusterOptions::default());
            World { state, cluster, next_id: 900 }
        }

        /// Carries out the orders until there are none; returns the stores of the voters.
        fn run(&mut self) -> Vec<u64> {
            for _ in 0..20 {
                let (orders, nameless) = self.cluster.peers_orders(&self.state, 1, SETTLED_MS);
                for (region, store) in nameless {
                    self.next_id += 1;
                    self.cluster.name_learner(&self.state, region, store, self.next_id);
                }
                for order in orders {
                    let now = self.state.region(20).unwrap();
                    let mut next = members::changed(now, &ChangePeers { changes: order.changes }).unwrap();
                    if members::is_joint(&next) {
                        next = members::changed(&next, &ChangePeers::default()).unwrap();
                    }
                    let put = Op::PutRegion(PutRegion { region: Some(next) });
                    assert_eq!(self.state.apply(PdCommand { op: Some(put) }).0.refused, "");
                    report(&mut self.cluster, &self.state, 0, 5, SETTLED_MS);
                }
            }
            let region = self.state.region(20).unwrap();
            assert!(is_settled(region));
            let mut stores: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
            stores.sort_unstable();
            stores
        }

        fn ask(&mut self, wish: Wish) -> Result<(), String> {
            self.cluster.ask(&self.state, 20, wish, SETTLED_MS)
        }
    }

    #[test]
    fn a_replica_is_added_and_another_one_goes() {
        let mut world = World::new();
        assert_eq!(world.ask(Wish::Add(4)), Ok(()));
        let stores = world.run();
        assert!(stores.len() == 3 && stores.contains(&4) && stores.contains(&1), "{stores:?}");
        assert!(!world.cluster.is_changing(20));
        assert!(world.ask(Wish::Add(4)).unwrap_err().contains("already"));
        assert!(world.ask(Wish::Add(9)).unwrap_err().contains("no store 9"));
    }

    #[test]
    fn a_replica_is_removed_and_another_one_comes() {
        let mut world = World::new();
        assert!(world.ask(Wish::Remove(4)).unwrap_err().contains("no replica"));
        assert_eq!(world.ask(Wish::Remove(2)), Ok(()));
        assert_eq!(world.run(), [1, 3, 4]);
    }

    #[test]
    fn without_another_store_the_leader_goes_first() {
        let (mut world, now_ms) = (World::new(), SETTLED_MS + 20_000);
        report(&mut world.cluster, &world.state, 4, 5, now_ms);
        assert_eq!(world.cluster.ask(&world.state, 20, Wish::Remove(1), now_ms), Ok(()));
        assert_eq!(world.cluster.peers_orders(&world.state, 1, now_ms), (vec![], vec![]));
        let orders = world.cluster.orders_for(&world.state, 1, false, now_ms);
        assert_eq!((orders.len(), orders[0].to_store), (1, 2));
        // A follower goes at once.
        assert_eq!(world.cluster.ask(&world.state, 20, Wish::Remove(3), now_ms), Ok(()));
        let (orders, _) = world.cluster.peers_orders(&world.state, 1, now_ms);
        assert_eq!((orders.len(), orders[0].changes[0].store_id), (1, 3));
    }

    #[test]
    fn no_quorum_is_lost() {
        let mut world = World::new();
        report(&mut world.cluster, &world.state, 3, 5, SETTLED_MS + 20_000);
        let lost = world.cluster.ask(&world.state, 20, Wish::Remove(2), SETTLED_MS + 20_000);
        assert!(lost.unwrap_err().contains("only 1 of its 2 other replicas"));
        assert_eq!(world.cluster.ask(&world.state, 20, Wish::Remove(3), SETTLED_MS + 20_000), Ok(()));
    }

    #[test]
    fn replicas_go_where_they_are_wanted() {
        let mut world = World::new();
        let place = |stores: &[u64], leader| Wish::Place { stores: stores.iter().copied().collect(), leader };
        assert!(world.ask(place(&[1, 4], None)).unwrap_err().contains("3 replicas"));
        assert_eq!(world.ask(place(&[1, 2, 4], Some(2))), Ok(()));
        assert_eq!(world.run(), [1, 2, 4]);
        let orders = world.cluster.orders_for(&world.state, 1, false, SETTLED_MS);
        assert_eq!((orders.len(), orders[0].to_store), (1, 2));
        let region = world.state.region(20).unwrap();
        assert!(!world.cluster.is_placed(region, &[1, 2, 4].into(), Some(2)));
        assert!(world.cluster.is_placed(region, &[1, 2, 4].into(), Some(1)));
    }
}
