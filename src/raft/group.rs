//! One raft group's peer.

use std::collections::{BTreeMap, VecDeque};

use ::raft::eraftpb::{Entry, HardState, Message, MessageType};
use ::raft::{Config, GetEntriesContext, ProgressState, RawNode, SnapshotStatus, StateRole};
use bytes::Bytes;

use crate::types::limits::CLOCK_DRIFT_PERMILLE;
use crate::types::{Error, GroupId, Result};

use super::frame;
use super::kinds::{continuous, is_between_peers, is_from_leader, is_vote_request, split};
use super::lease::{Lease, Promise};
use super::log_view::LogView;
use super::lost::LostLeader;
use super::output::Output;
use super::pre_vote::PreVotes;
use super::read::Reads;
use super::transfer::{Candidate, Transfers};

/// Options of a store's groups. They may differ between stores, as they do while a cluster is being reconfigured:
/// leases stay safe (see [`super::lease`]).
#[derive(Clone, Debug)]
pub struct Options {
    /// Duration of a tick in nanoseconds.
    pub tick_ns: u64,
    /// Ticks without a leader after which a follower campaigns (plus a random delay of up to half as many ticks).
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Whether a leader serves reads by itself while its lease lasts.
    pub lease_reads: bool,
    /// Maximum bytes of entries in one append message (but at least one entry).
    pub append_bytes_max: u64,
    /// Maximum number of append messages in flight to one follower.
    pub appends_inflight_max: usize,
    /// Maximum bytes of committed entries returned at once.
    pub apply_bytes_max: u64,
}

impl Options {
    /// Returns the election timeout in nanoseconds, on which leases and promises are based.
    pub fn election_ns(&self) -> u64 {
        self.tick_ns * self.election_ticks as u64
    }

    /// Returns how long a peer may be silent and still receive leadership, in nanoseconds: two rounds of heartbeats and
    /// a tick.
    pub fn silence_ns(&self) -> u64 {
        self.tick_ns * (2 * self.heartbeat_ticks as u64 + 1)
    }

    /// Returns how long a transfer may block proposals, in nanoseconds: three rounds of heartbeats, at most half an
    /// election timeout.
    pub fn transfer_ns(&self) -> u64 {
        (self.tick_ns * 3 * self.heartbeat_ticks as u64).min(self.election_ns() / 2)
    }
}

/// The process run that a peer belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Drawn when the process starts, and different in every run.
    pub nonce: u64,
    /// The longest promise that the store ever made, in nanoseconds; 0 if none.
    pub longest_promise_ns: u64,
    /// The time of the node's clock in nanoseconds.
    pub now_ns: u64,
}

/// One peer of one raft group. Inputs go in through its methods; [`Group::take`] returns outputs.
pub struct Group {
    id: GroupId,
    pub(super) peer: u64,
    pub(super) node: RawNode<LogView>,
    options: Options,
    lease: Lease,
    pub(super) promise: Promise,
    pub(super) reads: Reads,
    /// Index and time of each proposal of the current leadership that is not committed yet.
    proposed: VecDeque<(u64, u64)>,
    pub(super) transfers: Transfers,
    pub(super) lost_leader: LostLeader,
    pre_votes: PreVotes,
    /// The number of ticks handled.
    ticks: usize,
    /// The number of ticks for which no leader has been known.
    pub(super) leaderless_ticks: usize,
    /// By peer: the index of a snapshot that was delivered and not acknowledged yet.
    delivered: BTreeMap<u64, u64>,
    /// The index of the last entry proposed here that changes the group itself and is not applied yet; 0 if none.
    fence: u64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let raft = &self.node.raft;
        write!(f, "Group {{ {} peer {} {:?} term {} }}", self.id, self.peer, raft.state, raft.term)
    }
}

impl Group {
    /// Creates a peer that continues from `view`.
    ///
    /// # Errors
    /// If the options or the view are not valid for a raft peer.
    pub fn new(id: GroupId, peer: u64, options: Options, view: LogView, run: Run) -> Result<Group> {
        let config = Config {
            id: peer,
            election_tick: options.election_ticks,
            // Half a timeout of randomness keeps candidates apart at these tick counts and shortens the time without a
            // leader.
            max_election_tick: options.election_ticks + (options.election_ticks / 2).max(2),
            // Heartbeats are sent by `beats`, so that those of all groups leave together.
            heartbeat_tick: options.election_ticks - 1,
            applied: view.applied().0,
            max_size_per_msg: options.append_bytes_max,
            max_inflight_msgs: options.appends_inflight_max,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Followers learn of commits with the next append or heartbeat: they serve no reads yet.
            skip_bcast_commit: true,
            max_committed_size_per_ready: options.apply_bytes_max,
            ..Config::default()
        };
        let fresh = view.is_untouched();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, view, &logger)
            .map_err(|e| Error::Invalid(format!("group {id}: raft does not start: {e}")))?;
        let election_ns = options.election_ns();
        Ok(Group {
            id,
            peer,
            node,
            lease: Lease::new(election_ns, CLOCK_DRIFT_PERMILLE),
            promise: Promise::new(election_ns, run.longest_promise_ns, run.now_ns, fresh),
            options,
            reads: Reads::new(peer, run.nonce),
            proposed: VecDeque::new(),
            transfers: Transfers::default(),
            lost_leader: LostLeader::default(),
            pre_votes: PreVotes::new(run.nonce),
            ticks: 0,
            leaderless_ticks: 0,
            delivered: BTreeMap::new(),
            fence: 0,
        })
    }

    /// Returns the election timeout in nanoseconds.
    pub(super) fn election_ns(&self) -> u64 {
        self.options.election_ns()
    }
    pub(super) fn election_ticks(&self) -> usize {
        self.options.election_ticks
    }
    pub(super) fn tick_ns(&self) -> u64 {
        self.options.tick_ns
    }
    /// Returns the group's ID.
    pub fn id(&self) -> GroupId {
        self.id
    }
    /// Returns this peer's ID.
    pub fn peer(&self) -> u64 {
        self.peer
    }
    /// Returns the current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }
    /// Returns the peer that this peer voted for in its term; 0 if none.
    pub fn vote(&self) -> u64 {
        self.node.raft.vote
    }
    /// Returns the leader's peer ID; 0 if unknown.
    pub fn leader(&self) -> u64 {
        self.node.raft.leader_id
    }
    /// Returns whether this peer is leader.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }
    /// Returns whether this peer is leader and has applied an entry of its own term.
    pub fn ready(&self) -> bool {
        self.leads() && self.log().applied().1 == self.term()
    }
    /// Returns until when (exclusive, node clock) this peer may serve reads by itself; 0 if it may not.
    pub fn lease_until(&self) -> u64 {
        let allowed = self.options.lease_reads || crate::mutant!("raft.lease-reads-all-the-same");
        if self.ready() && allowed && !self.is_fenced() { self.lease.until(self.term()) } else { 0 }
    }
    /// Returns whether an entry that changes the group itself was proposed here and is not applied: others may have
    /// applied it, and parts of the group's range may be served elsewhere.
    fn is_fenced(&self) -> bool {
        self.log().applied().0 < self.fence && !crate::mutant!("raft.fence-skipped")
    }
    /// Returns whether an entry that changes the group itself was proposed here and is not applied yet.
    pub fn is_changing(&self) -> bool {
        self.log().applied().0 < self.fence
    }
    /// Records that the entry at `index` of `term` is committed, which another group's log says. Returns false if it is
    /// not in the log.
    pub fn commit_to(&mut self, index: u64, term: u64) -> bool {
        let log = &mut self.node.raft.raft_log;
        if log.committed >= index {
            return true;
        }
        let held = log.last_index() >= index && log.term(index) == Ok(term);
        if held {
            crate::reach!("raft.commit-told-by-another-group");
            log.commit_to(index);
        }
        held
    }
    /// Returns the commit index.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }
    /// Returns whether everything that is committed is applied.
    pub fn has_applied_all(&self) -> bool {
        self.log().applied().0 == self.committed()
    }
    /// Returns raft's view of the log.
    pub fn log(&self) -> &LogView {
        self.node.store()
    }
    /// Returns raft's view of the log, mutably.
    pub fn log_mut(&mut self) -> &mut LogView {
        self.node.mut_store()
    }

    /// Returns the index up to which every peer is known to hold the log, or the last index if this peer is not leader.
    pub fn slowest_follower(&self) -> u64 {
        let last = self.log().last();
        if !self.leads() {
            return last;
        }
        self.node.raft.prs().iter().map(|(_, progress)| progress.matched).min().unwrap_or(last)
    }

    /// Returns the lowest index of a snapshot that is on its way to a follower, from which the follower will continue;
    /// `u64::MAX` if there is none.
    pub fn snapshots_under_way(&mut self) -> u64 {
        if !self.leads() {
            self.delivered.clear();
            return u64::MAX;
        }
        let progress = self.node.raft.prs();
        self.delivered.retain(|peer, index| progress.get(*peer).is_some_and(|peer| peer.matched < *index));
        let sent = progress.iter().filter(|(_, peer)| peer.state == ProgressState::Snapshot);
        let sent = sent.map(|(_, peer)| peer.pending_snapshot);
        sent.chain(self.delivered.values().copied()).min().unwrap_or(u64::MAX)
    }

    /// Returns whether a snapshot was accepted whose state the engine does not hold yet. When it campaigns, raft-rs
    /// looks for the entries that are not applied, which the log does not have: until the snapshot is installed this
    /// peer must not campaign.
    pub(super) fn is_installing(&self) -> bool {
        self.log().applied().0 > self.node.raft.raft_log.applied
    }

    /// Counts one tick of the clock.
    pub fn tick(&mut self, now_ns: u64) {
        if self.is_installing() && !crate::mutant!("raft.campaign-while-installing") {
            crate::reach!("raft.tick-while-installing");
            return;
        }
        // The promise also binds this peer's own candidacy. Counting ticks is not enough: the first one comes at any
        // time after the leader was heard, and delayed ticks come close together.
        let campaigns = self.node.raft.election_elapsed + 1 >= self.node.raft.randomized_election_timeout();
        let held = campaigns && self.promise.binds(now_ns) && !crate::mutant!("raft.campaign-within-promise");
        if held {
            crate::reach!("raft.promise-holds-a-campaign");
        }
        // A skipped tick simulates a slow clock.
        if (self.leads() || !held) && !crate::buggify!("raft.skip-tick") {
            self.node.tick();
            self.pre_votes.begin(&mut self.node.raft.msgs);
            if self.node.raft.heartbeat_elapsed() == 0 && self.leads() {
                self.drop_own_heartbeats();
            }
        }
        self.campaign_for_the_lost(now_ns);
        self.ticks += 1;
        self.leaderless_ticks = if self.leader() == 0 { self.leaderless_ticks + 1 } else { 0 };
        if self.ticks.is_multiple_of(self.options.election_ticks) {
            self.introduce();
        }
        self.settle_transfer(now_ns);
        let old = self.options.tick_ns * 2 * self.options.heartbeat_ticks as u64;
        if self.reads.oldest_unconfirmed_ns().is_some_and(|sent| now_ns >= sent + old) {
            self.reads.again();
        }
    }

    /// A peer's store is unreachable: if that peer is leader, its followers need not wait for the whole election
    /// timeout.
    pub fn lost(&mut self, peer: u64) {
        let voters = &self.log().conf_state().voters;
        if self.leads() || self.leader() != peer || !voters.contains(&self.peer) {
            return;
        }
        let rank = voters.iter().filter(|other| **other < self.peer && **other != peer).count();
        self.lost_leader.lost(rank);
    }

    fn campaign_for_the_lost(&mut self, now_ns: u64) {
        // A follower of the lost leader, or a candidate that has not won: two that campaigned at once share the votes.
        let alone = match self.node.raft.state {
            StateRole::Follower => self.leader() != 0,
            StateRole::PreCandidate | StateRole::Candidate => true,
            StateRole::Leader => false,
        };
        // The randomized timeout may have made it campaign in this very tick.
        let just_campaigned = self.node.raft.election_elapsed == 0;
        if !alone {
            self.lost_leader.found();
        } else if !just_campaigned && self.lost_leader.tick(self.promise.binds(now_ns)) {
            crate::reach!("raft.campaigns-for-a-lost-leader");
            self.campaign();
        }
    }

    /// Drops raft-rs's own heartbeats, which it sends by its own count, at the longest interval that it allows:
    /// [`Group::beats`] already sends them.
    fn drop_own_heartbeats(&mut self) {
        let asks = |message: &Message| !message.context.is_empty();
        self.node.raft.msgs.retain(|message| message.get_msg_type() != MessageType::MsgHeartbeat || asks(message));
    }

    /// Returns the last index of the log, durable or not.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Returns whether [`Group::take`] may return an output.
    pub fn has_work(&self) -> bool {
        self.node.has_ready() || !self.reads.is_empty() || self.log().wants()
    }

    /// Handles a message of another peer, whose store has the election timeout `election_ns`. Drops messages that a
    /// voter's promise forbids to answer, and messages that peers never send.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the leader proves that this peer's log has lost entries which it had acknowledged: any
    /// vote or acknowledgement from then on could lose writes.
    pub fn step(&mut self, message: Message, election_ns: u64, now_ns: u64) -> Result<()> {
        let kind = message.get_msg_type();
        if !is_between_peers(kind) {
            return Ok(());
        }
        let last = self.node.raft.raft_log.last_index();
        if kind == MessageType::MsgHeartbeat && message.commit > last && message.term >= self.term() {
            if crate::mutant!("raft.lost-entries-ignored") {
                return Ok(());
            }
            // A leader's heartbeat never names a higher commit index than it knows this peer to hold.
            return Err(Error::Corruption(format!(
                "group {}: peer {}'s log ends at {last}, but its leader knows that it acknowledged entries up to {}: \
                 the log lost what it had acknowledged, or an older copy of the data directory was restored. Restore \
                 the newer copy, or start with an empty data directory as a new store",
                self.id, self.peer, message.commit
            )));
        }
        let forced = message.context.as_ref() == ::raft::CAMPAIGN_TRANSFER;
        if is_vote_request(kind) && !forced && self.promise.binds(now_ns) {
            crate::reach!("raft.promise-forbids-a-vote");
            return Ok(());
        }
        if kind == MessageType::MsgTimeoutNow && crate::buggify!("raft.lose-order-to-campaign") {
            return Ok(());
        }
        if kind == MessageType::MsgTimeoutNow && self.is_installing() {
            return Ok(());
        }
        // An earlier leader's heartbeat may name more than this peer's log still holds.
        if kind == MessageType::MsgHeartbeat && message.commit > last {
            return Ok(());
        }
        let (from, term) = (message.from, message.term);
        // A later term is news in any case.
        let is_late = kind == MessageType::MsgRequestPreVoteResponse && self.pre_votes.is_of_an_earlier_round(&message);
        if is_late && !(message.reject && term > self.term()) {
            crate::reach!("raft.late-pre-vote");
            return Ok(());
        }
        let round = (kind == MessageType::MsgRequestPreVote).then(|| message.context.clone());
        // An error means that the message was not meant for this peer (an unknown peer, a local message), so it is
        // dropped.
        let _ = self.node.step(message);
        if let Some(round) = round {
            PreVotes::answer(&mut self.node.raft.msgs, from, &round);
        }
        if is_from_leader(kind) && term == self.term() && self.leader() == from {
            self.promise.heard(election_ns, now_ns);
            self.lost_leader.found();
        }
        if self.leads() {
            self.transfers.heard(from, now_ns);
        }
        self.settle_transfer(now_ns);
        Ok(())
    }

    /// Returns whether a snapshot that was stepped waits for the next output.
    pub fn has_snapshot(&self) -> bool {
        self.node.raft.raft_log.unstable.snapshot.is_some()
    }

    /// Returns the peers to which the entry at `low` must be sent next.
    pub fn waits_for(&self, low: u64) -> Vec<u64> {
        self.node.raft.prs().iter().filter(|(_, progress)| progress.next_idx == low).map(|(peer, _)| *peer).collect()
    }

    /// Proposes an entry and returns its index and term.
    ///
    /// # Errors
    /// [`Error::NotLeader`], without any effect.
    pub fn propose(&mut self, payload: Bytes, now_ns: u64) -> Result<(u64, u64)> {
        let mut entry = Entry::default();
        entry.data = payload;
        self.propose_entry(entry, now_ns)
    }

    pub(super) fn propose_entry(&mut self, entry: Entry, now_ns: u64) -> Result<(u64, u64)> {
        let refused = Error::NotLeader { group: self.id, leader: None };
        if !self.leads() || self.transfers() || self.node.raft.lead_transferee.is_some() {
            return Err(refused);
        }
        let changes_group = frame::changes_group(frame::payload(&entry));
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.peer;
        message.set_entries(vec![entry].into());
        self.node.raft.step(message).map_err(|_| refused)?;
        let index = self.node.raft.raft_log.last_index();
        self.proposed.push_back((index, now_ns));
        if changes_group {
            self.fence = index;
            // Followers must apply it soon: what begins with it needs their votes.
            self.node.skip_bcast_commit(false);
        }
        Ok((index, self.term()))
    }

    /// Requests a linearizable read. Its `id` is returned in [`Output::reads`] or [`Output::reads_lost`].
    pub fn read(&mut self, id: u64) {
        self.reads.push(id);
    }

    /// Returns whether proposals are accepted: this peer is leader, its state is complete, and no transfer is in
    /// progress.
    pub fn accepts(&self) -> bool {
        self.ready() && !self.transfers.is_under_way()
    }

    /// Returns whether a transfer of leadership from this peer is in progress. Proposals should wait meanwhile: it ends
    /// within [`Options::transfer_ns`].
    pub fn transfers(&self) -> bool {
        self.transfers.is_under_way()
    }

    /// Starts to transfer leadership to `to_peer`. The lease ends at once, and proposals are rejected until the
    /// transfer is over.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or [`Error::Invalid`] with the reason if that peer would not take over at once. Neither
    /// has any effect.
    pub fn transfer_leader(&mut self, to_peer: u64, now_ns: u64) -> Result<()> {
        if !self.leads() {
            return Err(Error::NotLeader { group: self.id, leader: None });
        }
        if to_peer == self.peer {
            return Ok(());
        }
        let refused = |why| Error::Invalid(format!("group {}: no transfer of leadership: {why}", self.id));
        let candidate = self.candidate(to_peer);
        self.transfers.check(&candidate, self.options.silence_ns(), now_ns).map_err(refused)?;
        let long = crate::mutant!("pd.dead-store-gets-leaders");
        let limit_ns = if long { self.options.election_ns() } else { self.options.transfer_ns() };
        self.transfers.begin(to_peer, now_ns + limit_ns);
        self.lease.forfeit(self.term());
        self.node.transfer_leader(to_peer);
        Ok(())
    }

    /// Returns the peers that would take over leadership at once, the most up-to-date peer first.
    pub fn successors(&self, now_ns: u64) -> Vec<u64> {
        if !self.leads() {
            return Vec::new();
        }
        let voters = self.log().conf_state().voters.iter().filter(|peer| **peer != self.peer);
        let mut fit: Vec<Candidate> = voters.map(|peer| self.candidate(*peer)).collect();
        fit.retain(|one| self.transfers.check(one, self.options.silence_ns(), now_ns).is_ok());
        fit.sort_by_key(|one| (one.lag_entries, one.peer));
        fit.into_iter().map(|one| one.peer).collect()
    }

    fn candidate(&self, peer: u64) -> Candidate {
        let last = self.node.raft.raft_log.last_index();
        let progress = self.node.raft.prs().get(peer);
        Candidate {
            peer,
            voter: self.log().conf_state().voters.contains(&peer),
            replicates: progress.is_some_and(|progress| progress.state == ProgressState::Replicate),
            lag_entries: progress.map_or(last, |progress| last.saturating_sub(progress.matched)),
        }
    }

    /// Ends a transfer that is over, and continues as leader if it has taken too long.
    pub(super) fn settle_transfer(&mut self, now_ns: u64) {
        let leader = if self.leads() { self.peer } else { self.leader() };
        if self.transfers.settle(self.peer, leader, now_ns) {
            self.node.raft.abort_leader_transfer();
        }
        if !self.leads() {
            self.transfers.deposed();
        }
    }

    /// Tries to become leader now (used where a group is known to be new).
    pub fn campaign(&mut self) {
        let _ = self.node.campaign();
        self.pre_votes.begin(&mut self.node.raft.msgs);
    }

    /// Returns the next round of work, if there is any.
    pub fn take(&mut self, now_ns: u64) -> Option<Output> {
        let mut output = Output::default();
        self.pump_reads(now_ns, &mut output);
        if self.node.has_ready() {
            self.take_ready(now_ns, &mut output);
        }
        output.fetches = self.log_mut().take_wanted();
        output.reads.extend(self.reads.take_served(self.log().applied().0));
        let work = output.number != 0
            || !(output.reads.is_empty() && output.reads_lost.is_empty() && output.fetches.is_empty());
        work.then_some(output)
    }

    fn pump_reads(&mut self, now_ns: u64, output: &mut Output) {
        if !self.leads() {
            self.proposed.clear();
            if !self.reads.is_empty() {
                output.reads_lost = self.reads.take_all();
            }
            return;
        }
        // A new leader holds everything that its predecessors committed, but it knows the commit index only once an
        // entry of its own term is committed.
        let knows = self.node.raft.commit_to_current_term();
        let too_early = crate::mutant!("raft.read-before-applied") && !knows;
        if self.reads.has_waiting() && (knows || too_early) {
            let context = self.reads.begin(now_ns);
            if crate::mutant!("raft.read-index-without-quorum") || too_early {
                let index = self.log().applied().0;
                self.reads.confirm(context, index);
            } else {
                self.node.read_index(self.reads.encode(context));
            }
        }
    }

    fn take_ready(&mut self, now_ns: u64, output: &mut Output) {
        let mut ready = self.node.ready();
        output.number = ready.number();
        output.messages = ready.take_messages();
        output.messages_after_persist = ready.take_persisted_messages();
        let max = self.options.append_bytes_max;
        let fit = |messages: &mut Vec<Message>| {
            let all = std::mem::take(messages).into_iter();
            *messages = all.filter(continuous).flat_map(|one| split(one, max)).collect();
        };
        fit(&mut output.messages);
        fit(&mut output.messages_after_persist);
        output.committed = ready.take_committed_entries();
        output.entries = ready.take_entries();
        for state in ready.take_read_states() {
            let Some(context) = self.reads.decode(&state.request_ctx) else { continue };
            if let Some(sent_ns) = self.reads.confirm(context, state.index) {
                self.lease.renew(self.node.raft.term, sent_ns);
            }
        }
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            let metadata = snapshot.get_metadata();
            let (index, term) = (metadata.index, metadata.term);
            let conf_state = metadata.get_conf_state().clone();
            self.log_mut().restore(index, term, conf_state, snapshot.data.clone());
            output.snapshot = Some(snapshot);
        }
        self.log_mut().append(&output.entries);
        if let Some(state) = ready.hs() {
            self.log_mut().set_hard_state(state);
        }
        // A record of the group carries its commit index if that advanced, so that after a restart this peer knows
        // everything that was committed when its last entry was written: with an older membership than the log's, it
        // might otherwise win an election that it should not.
        let record = ready.must_sync() || !output.entries.is_empty() || output.snapshot.is_some();
        if record && (ready.hs().is_some() || !crate::mutant!("raft.commit-not-carried")) {
            output.hard_state = self.log_mut().take_unsaved();
        }
        if let Some(last) = output.committed.last() {
            self.renew_by_commit(last.index, now_ns);
        }
        self.node.advance_append_async(ready);
    }

    fn renew_by_commit(&mut self, committed: u64, now_ns: u64) {
        while let Some((index, sent_ns)) = self.proposed.front().copied() {
            if index > committed {
                break;
            }
            self.proposed.pop_front();
            if self.leads() {
                let since = if crate::mutant!("raft.lease-from-commit") { now_ns } else { sent_ns };
                self.lease.renew(self.term(), since);
            }
        }
    }

    /// Records that everything up to output `number` is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Records that everything up to `index` is applied.
    pub fn applied(&mut self, index: u64, term: u64) {
        self.log_mut().set_applied(index, term);
        self.node.advance_apply_to(index);
        if self.fence != 0 && index >= self.fence {
            self.fence = 0;
            self.node.skip_bcast_commit(true);
        }
    }

    /// Returns the hard state if the log does not have it yet, to be written with a record that carries other data of
    /// this group.
    pub fn take_unsaved(&mut self) -> Option<HardState> {
        if crate::mutant!("raft.commit-not-carried") { None } else { self.log_mut().take_unsaved() }
    }

    /// Passes on the log entries that a [`super::Fetch`] requested; `entries` is empty if they no longer exist.
    pub fn fetched(&mut self, context: GetEntriesContext, entries: Vec<Entry>) {
        self.log_mut().set_fetched(entries);
        self.node.on_entries_fetched(context);
    }

    /// Records whether the snapshot of `index` was delivered to a peer. Ignored if the peer no longer waits for that
    /// snapshot.
    pub fn snapshot_sent(&mut self, to_peer: u64, index: u64, delivered: bool) {
        let progress = self.node.raft.prs().get(to_peer);
        let waits = |index| progress.is_some_and(|progress| progress.pending_snapshot == index);
        if !waits(index) {
            return;
        }
        let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to_peer, status);
        if delivered {
            self.delivered.insert(to_peer, index);
        } else {
            self.delivered.remove(&to_peer);
        }
    }

    /// Returns whether the receiver of a message may lack the group: nothing is known of its log. A candidate knows
    /// nothing of any.
    pub fn may_be_lacking(&self, message: &Message) -> bool {
        match message.get_msg_type() {
            MessageType::MsgAppend => self.node.raft.prs().get(message.to).is_some_and(|to| to.matched == 0),
            kind => is_vote_request(kind),
        }
    }

    /// Returns a snapshot message of what is applied, from a peer that does not lead, for a peer that lacks the group.
    pub fn state_for(&self, to: u64) -> Message {
        let (index, term) = self.log().applied();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        (message.from, message.to, message.term) = (self.peer, to, term);
        if let Ok(snapshot) = ::raft::Storage::snapshot(self.log(), index, to) {
            message.set_snapshot(snapshot);
        }
        message
    }

    /// Repeats appends to peers of whose log nothing is known: raft-rs waits for an answer, which a store that lacks
    /// the group gives only once.
    fn introduce(&mut self) {
        if !self.leads() {
            return;
        }
        let unknown: Vec<u64> = {
            let is_unknown =
                |progress: &::raft::Progress| progress.matched == 0 && progress.state == ProgressState::Probe;
            let all = self.node.raft.prs().iter();
            all.filter(|(peer, progress)| **peer != self.peer && is_unknown(progress)).map(|(peer, _)| *peer).collect()
        };
        let next = self.last_index() + 1;
        for peer in unknown {
            if let Some(progress) = self.node.raft.mut_prs().get_mut(peer) {
                // From the end of the log, as after an election: if what comes next for the peer is truncated, raft-rs
                // would send nothing, since a snapshot needs a peer that was heard.
                if !crate::mutant!("raft.unknown-peer-not-asked-again") {
                    progress.next_idx = next;
                }
                progress.resume();
            }
            self.node.raft.send_append(peer);
        }
    }

    /// Records that an append to a peer was dropped before it was sent.
    pub fn dropped(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// The node's clock stopped for a while: times measured before `now_ns` no longer count.
    pub fn clock_stood_still(&mut self, now_ns: u64) {
        self.lease.begin_again(now_ns);
    }

    /// Records that messages to a peer are being lost.
    pub fn unreachable(&mut self, peer: u64) {
        self.transfers.lost(peer);
        self.node.report_unreachable(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_goes_on_where_it_says() {
        let append = |index: u64, entries: &[u64]| {
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgAppend);
            message.index = index;
            let entry = |index: &u64| {
                let mut entry = Entry::default();
                entry.index = *index;
                entry
            };
            message.set_entries(entries.iter().map(entry).collect::<Vec<_>>().into());
            message
        };
        assert!(continuous(&append(7, &[])) && continuous(&append(7, &[8, 9])));
        assert!(!continuous(&append(7, &[3, 4])), "entries batched after a rejection");
        assert!(!continuous(&append(7, &[9])));
        let mut other = append(7, &[3]);
        other.set_msg_type(MessageType::MsgSnapshot);
        assert!(continuous(&other), "only appends are batched");
    }

    #[test]
    fn a_long_append_is_cut_without_a_gap() {
        let mut append = Message::default();
        append.set_msg_type(MessageType::MsgAppend);
        (append.index, append.log_term, append.commit) = (7, 3, 5);
        for index in 8..20 {
            let mut entry = Entry::default();
            (entry.index, entry.term, entry.data) = (index, 3 + index / 10, vec![0; 100].into());
            append.mut_entries().push(entry);
        }
        let parts = split(append.clone(), 250);
        assert_eq!(parts.len(), 4, "three entries each");
        let (mut at, mut term) = (7, 3);
        for part in &parts {
            assert!(continuous(part));
            assert_eq!((part.index, part.log_term, part.commit), (at, term, 5));
            let last = part.entries.last().unwrap();
            (at, term) = (last.index, last.term);
        }
        assert_eq!(at, 19);
        assert_eq!(split(append, 1200).len(), 1);
    }
}
