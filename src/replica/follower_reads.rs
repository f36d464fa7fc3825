//! Linearizable reads through peers that do not lead, and reads of transactions as of a moment that has passed.
//!
//! A peer asks its group's leader for the commit index, waits until it has applied that much, and serves the read from
//! its own engine. The leader answers while it is certain that it leads. Since the peer may apply an entry before the
//! leader does, a leader that was asked in a term serves its own reads only where it has applied all that is committed.
//! A transaction's read names its timestamp and keys: the leader makes sure that no transaction commits there at or
//! below that timestamp any more, before it looks at its commit index ([`super::ReadChecks`]).
//!
//! One question at a time is under way for a group. A read that comes meanwhile waits for the next one: the answer to a
//! question that was asked before it need not include what was acknowledged before it.
//!
//! A read as of a moment that has passed needs no question if the peer knows a later [`SafeTime`]. One is asked for
//! when it is needed, and again in the background while such reads come.
//!
//! **In** come reads; **out** go questions to leaders, and the index from which on a read may be served. **Never**: a
//! read that is served by the answer to a question that was asked before the read; a transaction's read at a timestamp
//! at or below which its region may still get a commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;

use super::handle::Handle;
use super::transport::{Addresses, Local};
use super::view::PeerView;
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::{ReadAt, ReadIndexRequest, SafeTime, SafeTimesRequest};
use crate::proto::kvrpcpb::LockInfo;
use crate::rt::clock::Clock;
use crate::rt::net::{Channel, Net};
use crate::rt::sync::{oneshot, watch};
use crate::rt::task;
use crate::types::limits::{READ_INDEX_WAIT_MAX, READS_ASKED_BYTES_MAX, SAFE_TIMES_AT_ONCE_MAX};
use crate::types::{Error, GroupId, Result};

/// A safe time that is older than this is asked for again when it is used.
const SAFE_TIME_AGE: Duration = Duration::from_millis(500);

/// An index from which on a read may be served, and the lock that it has to wait for instead.
type Answer = Result<(u64, Option<LockInfo>)>;

/// A reader that waits for an answer, and what it reads, if it is a transaction's.
type Reader = (Option<ReadAt>, oneshot::Sender<Answer>);

/// The readers that wait for an answer, by group.
type Waiting = BTreeMap<GroupId, Vec<Reader>>;

/// Those who wait for a group's safe time.
type WaitingForTime = BTreeMap<GroupId, Vec<oneshot::Sender<()>>>;

/// Asks leaders on behalf of this store's peers. Clones share the questions.
#[derive(Clone)]
pub struct FollowerReads {
    local: Local,
    net: Net,
    clock: Clock,
    addresses: watch::Receiver<Addresses>,
    /// By group with a question under way: the readers that wait for the next one.
    next: Arc<Mutex<Waiting>>,
    /// By group whose safe time is asked for: those who wait for the answer.
    times: Arc<Mutex<WaitingForTime>>,
}

impl std::fmt::Debug for FollowerReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowerReads").field("local", &self.local).finish_non_exhaustive()
    }
}

impl FollowerReads {
    /// Creates the reads of a store.
    pub(super) fn new(local: Local, net: Net, clock: Clock, addresses: watch::Receiver<Addresses>) -> FollowerReads {
        FollowerReads { local, net, clock, addresses, next: Arc::default(), times: Arc::default() }
    }

    /// Completes when a snapshot of the engine that is taken afterwards is linearizable for a group that this store
    /// does not lead, if the peer is still a member then. A transaction says what it `reads`: if that has to wait for a
    /// lock that stands in the leader's memory, the lock is returned instead.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if the leader is not known or does not answer; [`Error::Busy`] if this store lags;
    /// [`Error::Stopped`].
    pub async fn confirm(
        &self,
        handle: &Handle,
        view: &Arc<PeerView>,
        reads: Option<ReadAt>,
    ) -> Result<Option<LockInfo>> {
        check_serves(handle)?;
        let leader = view.leader_peer().ok_or_else(|| view.not_leader())?;
        if crate::mutant!("replica.follower-reads-unasked") {
            return Ok(None);
        }
        let (index, lock) = self.index(view.group, leader.store_id, reads).await.map_err(|error| {
            tracing::debug!(group = %view.group, %error, "no index for a follower's read");
            view.not_leader()
        })?;
        if lock.is_none() {
            view.wait_applied(index).await;
            crate::reach!("replica.follower-read");
        }
        Ok(lock)
    }

    /// Returns the index up to which a peer of `group` must have applied the log to serve a read that is asked for now.
    /// `leader` is the store that is asked.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the leader's store does not answer, or does not lead.
    async fn index(&self, group: GroupId, leader: u64, reads: Option<ReadAt>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut next = self.next.lock().expect("no holder panics");
            let first = !next.contains_key(&group);
            next.entry(group).or_default().push((reads, reply));
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
            let (reads, readers): (Vec<_>, Vec<_>) = {
                let mut next = self.next.lock().expect("no holder panics");
                let waiting = next.entry(group).or_default();
                let count = fitting(waiting.iter().map(|(reads, _)| reads.as_ref().map_or(0, Message::encoded_len)));
                if count == 0 {
                    next.remove(&group);
                    return;
                }
                waiting.drain(..count).unzip()
            };
            let asked: Vec<ReadAt> = reads.iter().flatten().cloned().collect();
            let answer = self.clock.timeout(READ_INDEX_WAIT_MAX, self.ask_once(group, leader, asked)).await;
            let answer = answer.unwrap_or_else(|_| Err(Error::Timeout("the leader does not answer".into())));
            // Readers that came while the question was under way.
            let joined = if crate::mutant!("replica.read-joins-question") {
                self.next.lock().expect("no holder panics").get_mut(&group).map(std::mem::take).unwrap_or_default()
            } else {
                Vec::new()
            };
            let (index, mut verdicts) = match answer {
                Ok((index, verdicts)) => (Ok(index), verdicts.into_iter()),
                Err(error) => (Err(error), Vec::new().into_iter()),
            };
            for (read, reader) in reads.into_iter().zip(readers).chain(joined) {
                let lock = if read.is_some() { verdicts.next().flatten() } else { None };
                // The reader may have given up.
                let _ = reader.send(index.clone().map(|index| (index, lock)));
            }
        }
    }

    async fn ask_once(&self, group: GroupId, leader: u64, reads: Vec<ReadAt>) -> Result<(u64, Vec<Option<LockInfo>>)> {
        let channel = self.channel(leader)?;
        let Local { cluster, store, .. } = self.local;
        let asked = reads.len();
        let request =
            ReadIndexRequest { cluster_id: cluster, from_store: store, to_store: leader, group_id: group.0, reads };
        let reply = TransportClient::new(channel).read_index(request).await;
        let reply = reply.map_err(|status| failed(leader, status.message()))?.into_inner();
        if reply.reads.len() != asked {
            return Err(failed(leader, "it does not know reads of transactions"));
        }
        Ok((reply.index, reply.reads.into_iter().map(|verdict| verdict.lock).collect()))
    }

    /// Returns whether a snapshot of the engine that is taken afterwards holds everything that transactions commit at
    /// or below `at` in this version of the region; false if that is not known and cannot be learnt now.
    ///
    /// # Errors
    /// As [`FollowerReads::confirm`], without [`Error::NotLeader`].
    pub async fn is_safe(&self, handle: &Handle, view: &Arc<PeerView>, version: u64, at: u64) -> Result<bool> {
        check_serves(handle)?;
        let is_of = |safe: &SafeTime| safe.version == version || crate::mutant!("replica.safe-time-of-another-range");
        let known = |view: &PeerView| view.safe_time().filter(|(safe, _)| is_of(safe) && at <= safe.at);
        let found = match known(view) {
            Some((safe, learnt)) => {
                if self.clock.now().since(learnt) > SAFE_TIME_AGE {
                    let (reads, handle, view) = (self.clone(), handle.clone(), view.clone());
                    task::spawn(async move { reads.learn_time(&handle, &view).await });
                }
                Some(safe)
            }
            None => {
                self.learn_time(handle, view).await;
                known(view).map(|(safe, _)| safe)
            }
        };
        let Some(safe) = found else { return Ok(false) };
        if !crate::mutant!("replica.safe-time-before-applied") {
            view.wait_applied(safe.index).await;
        }
        crate::reach!("replica.stale-read");
        Ok(true)
    }

    /// Learns a group's safe time, or waits for a task that does so already.
    async fn learn_time(&self, handle: &Handle, view: &Arc<PeerView>) {
        let joined = {
            let mut times = self.times.lock().expect("no holder panics");
            match times.get_mut(&view.group) {
                Some(waiting) => {
                    let (told, answer) = oneshot::channel();
                    waiting.push(told);
                    Some(answer)
                }
                None => {
                    times.insert(view.group, Vec::new());
                    None
                }
            }
        };
        if let Some(answer) = joined {
            // It ends with that task.
            let _ = answer.await;
            return;
        }
        let asking = Asking { times: self.times.clone(), group: view.group };
        let Some(leader) = view.leader_peer() else { return };
        self.learn_times(handle, leader.store_id, vec![view.group]).await;
        drop(asking);
    }

    /// Learns the safe times of groups that a store leads.
    pub async fn learn_times(&self, handle: &Handle, leader: u64, groups: Vec<GroupId>) {
        for groups in groups.chunks(SAFE_TIMES_AT_ONCE_MAX) {
            let asked = self.ask_times(handle, leader, groups.to_vec());
            let times = match self.clock.timeout(READ_INDEX_WAIT_MAX, asked).await {
                Ok(Ok(times)) => times,
                Ok(Err(error)) => {
                    tracing::debug!(leader, %error, "no safe times");
                    return;
                }
                Err(_) => return,
            };
            for time in times {
                if let Some(view) = handle.view(GroupId(time.group_id)) {
                    view.learn_safe_time(time, self.clock.now());
                }
            }
        }
    }

    async fn ask_times(&self, handle: &Handle, leader: u64, groups: Vec<GroupId>) -> Result<Vec<SafeTime>> {
        if leader == self.local.store {
            return handle.safe_times(groups).await;
        }
        let channel = self.channel(leader)?;
        let Local { cluster, store, .. } = self.local;
        let group_ids = groups.iter().map(|group| group.0).collect();
        let request = SafeTimesRequest { cluster_id: cluster, from_store: store, to_store: leader, group_ids };
        let reply = TransportClient::new(channel).safe_times(request).await;
        reply.map(|reply| reply.into_inner().times).map_err(|status| failed(leader, status.message()))
    }

    fn channel(&self, leader: u64) -> Result<Channel> {
        let address = self.addresses.borrow().get(&leader).cloned();
        let address = address.ok_or_else(|| failed(leader, "its address is unknown"))?;
        self.net.channel(&address).map_err(|error| failed(leader, &error.to_string()))
    }
}

/// Checks that this store's replicas do not lag for a reason that it knows.
fn check_serves(handle: &Handle) -> Result<()> {
    if let Some(why) = handle.poisoned() {
        return Err(Error::Stopped(why));
    }
    if handle.is_stalled() {
        return Err(Error::Busy("the engine or the raft log of this store stalls: its replicas lag".into()));
    }
    Ok(())
}

/// Returns how many reads of these sizes fit into one question, in order; at least the first.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |(at, size): &(usize, usize)| {
        bytes += size;
        *at == 0 || bytes <= READS_ASKED_BYTES_MAX
    };
    sizes.enumerate().take_while(fits).count()
}

fn failed(leader: u64, why: &str) -> Error {
    Error::Timeout(format!("the leader's store {leader}: {why}"))
}

/// A question for a safe time that is under way. Its end wakes those who wait.
struct Asking {
    times: Arc<Mutex<WaitingForTime>>,
    group: GroupId,
}

impl Drop for Asking {
    fn drop(&mut self) {
        for told in self.times.lock().expect("no holder panics").remove(&self.group).unwrap_or_default() {
            // It may have given up.
            let _ = told.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a question is bounded in bytes. Method: sizes by hand.
    use super::*;

    #[test]
    fn a_question_is_bounded_in_bytes() {
        let max = READS_ASKED_BYTES_MAX;
        for (sizes, fit) in [
            (vec![], 0),
            (vec![0, 0, 0], 3),
            (vec![max, 0], 2),
            (vec![max, 1], 1),
            (vec![max + 1, 1], 1),
            (vec![1, max, 1], 1),
        ] {
            assert_eq!(fitting(sizes.clone().into_iter()), fit, "{sizes:?}");
        }
    }
}
