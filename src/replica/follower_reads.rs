//! Linearizable reads through peers that do not lead.
//!
//! A peer asks its group's leader for the commit index, waits until it has applied that much, and serves the read from
//! its own engine. The leader answers while it is certain that it leads. Since the peer may apply an entry before the
//! leader does, a leader that was asked in a term serves its own reads only where it has applied all that is committed.
//!
//! One question at a time is under way for a group. A read that comes meanwhile waits for the next one: the answer to a
//! question that was asked before it need not include what was acknowledged before it.
//!
//! **In** come reads; **out** go questions to leaders, and the index from which on a read may be served. **Never**: a
//! read that is served by the answer to a question that was asked before the read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::handle::Handle;
use super::transport::{Addresses, Local};
use super::view::PeerView;
use crate::proto::armilla::raft::ReadIndexRequest;
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::rt::clock::Clock;
use crate::rt::net::Net;
use crate::rt::sync::{oneshot, watch};
use crate::rt::task;
use crate::types::limits::READ_INDEX_WAIT_MAX;
use crate::types::{Error, GroupId, Result};

/// The readers that wait for an answer, by group.
type Waiting = BTreeMap<GroupId, Vec<oneshot::Sender<Result<u64>>>>;

/// Asks leaders on behalf of this store's peers. Clones share the questions.
#[derive(Clone)]
pub struct FollowerReads {
    local: Local,
    net: Net,
    clock: Clock,
    addresses: watch::Receiver<Addresses>,
    /// By group with a question under way: the readers that wait for the next one.
    next: Arc<Mutex<Waiting>>,
}

impl std::fmt::Debug for FollowerReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowerReads").field("local", &self.local).finish_non_exhaustive()
    }
}

impl FollowerReads {
    /// Creates the reads of a store.
    pub(super) fn new(local: Local, net: Net, clock: Clock, addresses: watch::Receiver<Addresses>) -> FollowerReads {
        FollowerReads { local, net, clock, addresses, next: Arc::default() }
    }

    /// Completes when a snapshot of the engine that is taken afterwards is linearizable for a group that this store
    /// does not lead, if the peer is still a member then.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if the leader is not known or does not answer; [`Error::Busy`] if this store lags;
    /// [`Error::Stopped`].
    pub async fn confirm(&self, handle: &Handle, view: &Arc<PeerView>) -> Result<()> {
        if let Some(why) = handle.poisoned() {
            return Err(Error::Stopped(why));
        }
        if handle.is_stalled() {
            return Err(Error::Busy("the engine or the raft log of this store stalls: its replicas lag".into()));
        }
        let leader = view.leader_peer().ok_or_else(|| view.not_leader())?;
        if crate::mutant!("replica.follower-reads-unasked") {
            return Ok(());
        }
        let index = self.index(view.group, leader.store_id).await.map_err(|error| {
            tracing::debug!(group = %view.group, %error, "no index for a follower's read");
            view.not_leader()
        })?;
        view.wait_applied(index).await;
        crate::reach!("replica.follower-read");
        Ok(())
    }

    /// Returns the index up to which a peer of `group` must have applied the log to serve a read that is asked for now.
    /// `leader` is the store that is asked.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the leader's store does not answer, or does not lead.
    async fn index(&self, group: GroupId, leader: u64) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut next = self.next.lock().expect("no holder panics");
            let first = !next.contains_key(&group);
            next.entry(group).or_default().push(reply);
            first
        };
        if first {
            task::spawn(self.clone().ask(group, leader));
        }
        answer.await.unwrap_or_else(|_| Err(Error::Timeout("the question to the leader was dropped".into())))
    }

    /// Asks for the readers that wait, again and again, until none is left.
    async fn ask(self, group: GroupId, leader: u64) {
        loop {
            let readers = {
                let mut next = self.next.lock().expect("no holder panics");
                let readers = next.get_mut(&group).map(std::mem::take).unwrap_or_default();
                if readers.is_empty() {
                    next.remove(&group);
                    return;
                }
                readers
            };
            let answer = self.clock.timeout(READ_INDEX_WAIT_MAX, self.ask_once(group, leader)).await;
            let answer = answer.unwrap_or_else(|_| Err(Error::Timeout("the leader does not answer".into())));
            // Readers that came while the question was under way.
            let joined = if crate::mutant!("replica.read-joins-question") {
                self.next.lock().expect("no holder panics").get_mut(&group).map(std::mem::take).unwrap_or_default()
            } else {
                Vec::new()
            };
            for reader in readers.into_iter().chain(joined) {
                // The reader may have given up.
                let _ = reader.send(answer.clone());
            }
        }
    }

    async fn ask_once(&self, group: GroupId, leader: u64) -> Result<u64> {
        let failed = |why: String| Error::Timeout(format!("the leader's store {leader}: {why}"));
        let address = self.addresses.borrow().get(&leader).cloned();
        let address = address.ok_or_else(|| failed("its address is unknown".into()))?;
        let channel = self.net.channel(&address).map_err(|error| failed(error.to_string()))?;
        let Local { cluster, store, .. } = self.local;
        let request = ReadIndexRequest { cluster_id: cluster, from_store: store, to_store: leader, group_id: group.0 };
        let reply = TransportClient::new(channel).read_index(request).await;
        reply.map(|reply| reply.into_inner().index).map_err(|status| failed(status.message().to_owned()))
    }
}
