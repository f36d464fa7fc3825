//! What a store asks others about merges, and what it tells them.
//!
//! A sealed group whose target has no peer on its leader's store needs proof from elsewhere that the target decided
//! against the merge: all other stores are asked. A group that took over others tells the stores that had those: each
//! ends a peer that its group's peers left behind. When all have answered that they never will have one again, the
//! group forgets it. A peer that hears no leader may have left its group before that was merged: it asks all stores.
//!
//! **In** come the views of this store's peers; **out** go questions, and what the answers mean for the lanes.
//! **Never**: a group that is forgotten while a store may still have, or begin, a peer of it.

use std::sync::Arc;

use futures::future::join_all;

use super::follower_reads::FollowerReads;
use super::handle::Handle;
use super::transport::{Addresses, Local};
use super::view::PeerView;
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::{Absorbed, DecidedAgainstRequest, FateReply, FateRequest};
use crate::proto::armilla::raft::{Merging, WasMergedRequest};
use crate::rt::clock::Clock;
use crate::rt::net::{Channel, Net};
use crate::rt::sync::watch;
use crate::types::GroupId;
use crate::types::limits::{FATES_AT_ONCE_MAX, MERGE_QUESTION_INTERVAL};

/// Asks and tells on behalf of the groups that this store leads.
pub(super) struct MergeQuestions {
    pub local: Local,
    pub handle: Handle,
    pub follower_reads: FollowerReads,
    pub net: Net,
    pub clock: Clock,
    pub addresses: watch::Receiver<Addresses>,
}

impl MergeQuestions {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut round = 0;
        loop {
            self.clock.sleep(MERGE_QUESTION_INTERVAL).await;
            let views = self.handle.views();
            let alone: Vec<_> = views.iter().filter(|view| view.is_alone() && view.group != GroupId::PD).collect();
            // A store that is cut off has many of them: they take turns.
            let asks = if crate::mutant!("replica.fate-not-asked") { 0 } else { FATES_AT_ONCE_MAX };
            let first = round * FATES_AT_ONCE_MAX % alone.len().max(1);
            for view in alone.iter().cycle().skip(first).take(alone.len().min(asks)) {
                self.seek_fate(view).await;
            }
            round += 1;
            for view in views.into_iter().filter(|view| view.leads()) {
                let merges = view.merges();
                if let Some(merging) = merges.merging.filter(|merging| merging.is_sealed) {
                    self.seek_proof(&view, merging).await;
                }
                for absorbed in &merges.absorbed {
                    self.tell(&view, absorbed).await;
                }
            }
        }
    }

    /// Returns whether a store has left the cluster, or was replaced by another one: its peers never come back.
    fn has_left(&self, store: u64) -> bool {
        let known = self.addresses.borrow();
        // The placement driver has told all addresses.
        known.contains_key(&self.local.store) && !known.contains_key(&store)
    }

    fn channel(&self, store: u64) -> Option<Channel> {
        let address = self.addresses.borrow().get(&store).cloned()?;
        self.net.channel(&address).ok()
    }

    /// Returns whether this store's peer of `group` has applied all that was committed when this was called.
    async fn is_current(&self, group: GroupId) -> bool {
        let Some(view) = self.handle.view(group) else { return false };
        let confirmed = async {
            if view.leads() {
                self.handle.confirm(&view).await
            } else {
                self.follower_reads.confirm(&self.handle, &view, None).await.map(drop)
            }
        };
        let confirmed = self.clock.timeout(MERGE_QUESTION_INTERVAL, confirmed).await;
        matches!(confirmed, Ok(Ok(()))) && !crate::mutant!("replica.kept-for-an-heir-that-forgot")
    }

    /// Asks the other stores what became of a group that has no leader here.
    async fn seek_fate(&self, view: &Arc<PeerView>) {
        let Local { cluster, store, .. } = self.local;
        let stores: Vec<u64> = self.addresses.borrow().keys().copied().collect();
        let ask = |to_store: u64| async move {
            let request = FateRequest { cluster_id: cluster, from_store: store, to_store, group_id: view.group.0 };
            let channel = self.channel(to_store)?;
            let question = async { TransportClient::new(channel).fate(request).await };
            Some(self.clock.timeout(MERGE_QUESTION_INTERVAL, question).await.ok()?.ok()?.into_inner())
        };
        let answers = join_all(stores.into_iter().filter(|other| *other != store).map(ask)).await;
        for FateReply { heir_id, region } in answers.into_iter().flatten() {
            if heir_id != 0 {
                crate::reach!("replica.fate-learnt");
                let absorbed = Absorbed { source_id: view.group.0, target_id: heir_id, ..Absorbed::default() };
                // An heir that was told by all who had a peer then has forgotten the group, and lists it no more.
                let heir_is_current = self.is_current(GroupId(heir_id)).await;
                self.handle.was_merged(absorbed, GroupId(heir_id), heir_is_current).await;
            } else if let Some(region) = region {
                self.handle.end_by_proof(view.group, region);
            }
        }
    }

    /// Asks the other stores whether a sealed group's target has decided against the merge.
    async fn seek_proof(&self, view: &Arc<PeerView>, merging: Merging) {
        if self.handle.view(GroupId(merging.target_id)).is_some() {
            return;
        }
        crate::reach!("replica.proof-sought-elsewhere");
        let stores: Vec<u64> = self.addresses.borrow().keys().copied().collect();
        let Local { cluster, store, .. } = self.local;
        let ask = |to_store: u64| async move {
            let request = DecidedAgainstRequest {
                cluster_id: cluster,
                from_store: store,
                to_store,
                source_id: view.group.0,
                merging: Some(merging),
            };
            let channel = self.channel(to_store)?;
            let question = async { TransportClient::new(channel).decided_against(request).await };
            let answer = self.clock.timeout(MERGE_QUESTION_INTERVAL, question).await.ok()?.ok()?;
            Some(answer.into_inner().against)
        };
        let answers = join_all(stores.into_iter().filter(|other| *other != store).map(ask)).await;
        if answers.contains(&Some(true)) {
            self.handle.decided_against(view.group, merging);
        }
    }

    /// Tells the stores that had peers of a group that it became part of this one.
    async fn tell(&self, view: &Arc<PeerView>, absorbed: &Absorbed) {
        let Local { cluster, store, .. } = self.local;
        let heir_id = view.group.0;
        let tell = |to_store: u64| async move {
            if to_store == store {
                return self.handle.was_merged(absorbed.clone(), view.group, false).await;
            }
            let absorbed = Some(absorbed.clone());
            let request = WasMergedRequest { cluster_id: cluster, from_store: store, to_store, absorbed, heir_id };
            let Some(channel) = self.channel(to_store) else { return self.has_left(to_store) };
            let question = async { TransportClient::new(channel).was_merged(request).await };
            let answer = self.clock.timeout(MERGE_QUESTION_INTERVAL, question).await;
            matches!(answer, Ok(Ok(answer)) if answer.get_ref().gone)
        };
        let mut stores = absorbed.store_ids.clone();
        if crate::mutant!("replica.absorbed-forgotten-early") {
            stores.retain(|store| view.region().peers.iter().any(|peer| peer.store_id == *store));
        }
        if join_all(stores.into_iter().map(tell)).await.into_iter().all(|gone| gone) {
            crate::reach!("replica.absorbed-forgotten");
            self.handle.forget_absorbed(view.group, GroupId(absorbed.source_id));
        }
    }
}
