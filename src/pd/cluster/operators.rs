//! The open orders, moves and merges of the leader's view, as operators; taking them back.

use super::Cluster;
use super::asked::Wish;
use crate::pd::operators::{Action, Operator, placed};
use crate::pd::state::PdState;
use crate::proto::metapb::PeerRole;
use crate::types::region;

impl Cluster {
    /// Returns the open orders, moves and merges. `wall_ms` is the time now; a move is reported with it as its
    /// beginning, because the view does not know better.
    pub fn open_operators(&self, state: &PdState, now_ms: u64, wall_ms: u64) -> Vec<Operator> {
        let operator = |region: u64, action: Action, begun_ms: u64| {
            let epoch = state.region(region).map(region::epoch).unwrap_or_default();
            let epoch = (epoch.version, epoch.conf_ver);
            Operator { region, action, by_admin: false, epoch, begun_ms, ended: None }
        };
        let orders = self.orders.iter().filter(|(_, order)| !order.ended).map(|(region, order)| {
            let begun_ms = wall_ms.saturating_sub(now_ms.saturating_sub(order.issued_ms));
            operator(*region, Action::TransferLeader { from: order.from_store, to: order.to_store }, begun_ms)
        });
        let moves = self.moves.iter().map(|(region, moving)| {
            operator(*region, Action::MovePeer { from: moving.from_store, to: moving.to_store }, wall_ms)
        });
        let asked = self.asked.iter().map(|(region, asked)| {
            let begun_ms = wall_ms.saturating_sub(now_ms.saturating_sub(asked.issued_ms));
            let action = match &asked.wish {
                Wish::Add(to) => Action::AddPeer { to: *to },
                Wish::Remove(from) => Action::RemovePeer { from: *from },
                Wish::Place { stores, leader } => Action::Place { stores: placed(stores), leader: *leader },
            };
            operator(*region, action, begun_ms)
        });
        // The rest of a request that has reached its goal is not part of the operator.
        let asked = asked.filter(|operator| !self.has_reached(state, operator));
        let merges = self.merges.iter().flat_map(|(source, merge)| {
            let begun_ms = wall_ms.saturating_sub(now_ms.saturating_sub(merge.issued_ms));
            let action = Action::Merge { source: *source, target: merge.target };
            [operator(*source, action, begun_ms), operator(merge.target, action, begun_ms)]
        });
        // One of each region: a source's replicas move before it is merged.
        let merged = merges.collect::<Vec<_>>();
        let moves = moves.filter(|moving| merged.iter().all(|merge| merge.region != moving.region));
        // A request may order a leader away first.
        let asked = asked.collect::<Vec<_>>();
        let orders = orders.filter(|order| asked.iter().all(|one| one.region != order.region));
        orders.chain(moves).chain(merged.iter().cloned()).chain(asked.iter().cloned()).collect()
    }

    /// Returns whether an operator has reached its goal.
    pub fn has_reached(&self, state: &PdState, operator: &Operator) -> bool {
        let Some(region) = state.region(operator.region) else { return false };
        match operator.action {
            Action::TransferLeader { to, .. } => self.leader_of(region).is_some_and(|leader| leader.store_id == to),
            Action::MovePeer { from, to } => {
                let arrived = region::peer_on(region, to).is_some_and(|peer| peer.role() == PeerRole::Voter);
                arrived && region::peer_on(region, from).is_none()
            }
            Action::AddPeer { to } => region::peer_on(region, to).is_some_and(|peer| peer.role() == PeerRole::Voter),
            Action::RemovePeer { from } => region::peer_on(region, from).is_none(),
            Action::Place { stores, leader } => {
                let wanted = stores.into_iter().filter(|store| *store != 0).collect();
                self.is_placed(region, &wanted, leader)
            }
            Action::Merge { source, .. } => state.region(source).is_none(),
            Action::Scatter { leader, moved } => self.is_scattered(region, leader, moved),
            Action::Split { version } => region::epoch(region).version > version,
        }
    }

    /// Takes back the region's open order, move and merge. A move that has begun is finished or undone, as the region
    /// needs.
    pub fn cancel(&mut self, region: u64) {
        self.end_order(region, None, false, "taken back".into());
        self.moves.remove(&region);
        self.asked.remove(&region);
        self.merges.retain(|source, merge| *source != region && merge.target != region);
    }
}
