//! The placement driver's own members: who they are, and how lost ones are replaced.
//!
//! The group of the placement driver is a region under the same rules, but nobody sends it orders: its leader takes
//! the steps itself, with every heartbeat of a store. **Never**: two steps at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PdError, PdResult, PdServer, Serving};
use crate::pd::bootstrap::member_of;
use crate::pd::cluster::OwnStep;
use crate::pd::machine::change_members;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{AllocIds, PdReply};
use crate::proto::metapb::PeerRole;
use crate::proto::pdpb::Member;
use crate::rt::task;
use crate::types::region::Peer;
use crate::types::{GroupId, region};

impl PdServer {
    /// Returns whether this node has a member: a peer of the group that votes.
    pub fn is_member(&self) -> bool {
        self.inner.handle.view(GroupId::PD).is_some_and(|view| {
            region::peer_by_id(&view.region(), view.peer).is_some_and(|own| own.role() != PeerRole::Learner)
        })
    }

    /// Returns the placement driver's members, with the current addresses of their stores.
    pub fn members(&self) -> Vec<Member> {
        let Some(view) = self.inner.handle.view(GroupId::PD) else { return Vec::new() };
        let identity = &self.inner.identity;
        let member = |peer: &Peer| {
            if peer.store_id == view.store {
                let mut own = member_of(peer.id, &identity.name, &identity.addr);
                let path = |state: &super::PdState| Some(state.store(view.store)?.store.as_ref()?.deploy_path.clone());
                own.deploy_path = self.read(path).unwrap_or_default();
                return Some(own);
            }
            let registered = self.read(|state| {
                let record = state.store(peer.store_id)?;
                let store = record.store.as_ref().filter(|store| !store.address.is_empty())?;
                let mut member = member_of(peer.id, &record.name, &store.address);
                if !store.version.is_empty() {
                    member.binary_version.clone_from(&store.version);
                    member.git_hash.clone_from(&store.git_hash);
                    member.deploy_path.clone_from(&store.deploy_path);
                }
                Some(member)
            });
            registered.or_else(|| identity.founders.iter().find(|founder| founder.member_id == peer.id).cloned())
        };
        view.region().peers.iter().filter(|peer| peer.role() != PeerRole::Learner).filter_map(member).collect()
    }

    /// Takes the next step towards as many members as there are to be, on stores that are there. Every heartbeat calls
    /// it: a step that failed is taken again.
    pub(super) async fn heal_members(&self, serving: &Arc<Serving>) -> PdResult<()> {
        let view = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?;
        if serving.changes_members.load(Ordering::Relaxed) || !self.leads_term(&view, serving.term) {
            return Ok(());
        }
        let group = view.region();
        let wanted = self.inner.options.members;
        let next = |cluster: &mut super::Cluster, state: &super::PdState, now_ms| {
            cluster.own_step(state, &group, view.peer, wanted, now_ms)
        };
        match self.look(serving, next) {
            None => {}
            Some(OwnStep::Name(store)) => {
                let id = self.command(Op::AllocIds(AllocIds { count: 1 })).await?;
                self.look(serving, |cluster, _, _| cluster.name_own_learner(&group, store, id));
            }
            Some(OwnStep::Change(changes)) => {
                // It may take as long as a quorum of the new members needs; the heartbeat does not wait for that.
                serving.changes_members.store(true, Ordering::Relaxed);
                let (server, serving) = (self.clone(), serving.clone());
                tracing::info!(?changes, "changing the placement driver's members");
                task::spawn(async move {
                    let command = change_members(&group, changes);
                    if let Err(why) = server.change(serving.term, command).await {
                        tracing::debug!(%why, "the placement driver's members did not change");
                    }
                    serving.changes_members.store(false, Ordering::Relaxed);
                });
            }
        }
        Ok(())
    }

    async fn change(&self, term: u64, command: crate::raft::frame::Command) -> PdResult<()> {
        let reply = self.inner.handle.propose(GroupId::PD, term, command).await.map_err(|error| self.refusal(error))?;
        let PdReply { refused, .. } = super::decode(reply)?;
        if refused.is_empty() { Ok(()) } else { Err(PdError::Invalid(refused)) }
    }
}
