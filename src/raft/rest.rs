//! Rest: what a group must look like before its peers may sleep, and what changes in raft when one is woken.
//!
//! A peer that sleeps gets no ticks and sends nothing. Its leader's store sends signs of life for all its sleeping
//! groups together (`replica::driver::sleep`): for a follower they are what heartbeats are, for its leader they renew
//! no lease. **In** come questions whether a peer may sleep, and wake-ups. **Out** go answers. **Never**: a sleeping
//! group one of whose peers that are alive lacks an entry; a wake-up that frees a voter of its promise.

use ::raft::{ProgressState, StateRole};

use super::{Beat, Group};

impl Group {
    /// Returns whether this peer leads and nothing is under way: what is logged is applied here, and every peer but
    /// those in `absent` has it.
    pub fn is_at_rest(&self, absent: &[u64]) -> bool {
        let last = self.last_index();
        let changing = self.is_changing() || !self.log().conf_state().voters_outgoing.is_empty();
        let idle = self.ready() && !self.transfers() && !changing && !self.has_work();
        let lags = crate::mutant!("raft.sleeps-beside-a-laggard");
        idle && self.has_all(last)
            && self.node.raft.prs().iter().all(|(peer, progress)| {
                // A peer that was unreachable is probed until the next entry, even if it lacks none.
                let whole = progress.state != ProgressState::Snapshot && progress.matched == last;
                whole || absent.contains(peer) || (lags && *peer != self.peer)
            })
    }

    /// Returns whether everything up to the end of the log, which is `last`, is durable, committed and applied.
    fn has_all(&self, last: u64) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == last && log.committed == last && self.log().applied().0 == last
    }

    /// Returns the questions whether the other peers may sleep, too.
    pub fn ask_to_sleep(&self) -> Vec<Beat> {
        let (from, term, commit) = (self.peer, self.term(), self.last_index());
        let others = self.node.raft.prs().iter().map(|(peer, _)| *peer).filter(|peer| *peer != from);
        others.map(|to| Beat { from, to, term, commit }).collect()
    }

    /// Returns this follower's consent to its leader's question, if it may sleep: it follows this leader and lacks
    /// nothing. `election_ns` is the election timeout of the leader's store.
    pub fn agree_to_sleep(&mut self, ask: &Beat, election_ns: u64, now_ns: u64) -> Option<Beat> {
        let raft = &self.node.raft;
        let follows = raft.state == StateRole::Follower && raft.term == ask.term && raft.leader_id == ask.from;
        let whole = self.last_index() == ask.commit && self.has_all(ask.commit);
        let whole = whole || crate::mutant!("raft.sleeps-beside-a-laggard");
        if !follows || !whole || self.has_work() || self.is_installing() {
            return None;
        }
        self.promise.heard(election_ns, now_ns);
        self.lost_leader.found();
        Some(Beat { from: self.peer, to: ask.from, ..*ask })
    }

    /// Returns whether a peer's consent is for the present term and the present end of the log, and records that the
    /// peer is alive.
    pub fn hear_consent(&mut self, consent: &Beat, now_ns: u64) -> bool {
        let fits = self.leads() && consent.term == self.term() && consent.commit == self.last_index();
        if fits {
            self.note_alive(consent.from, now_ns);
        }
        fits
    }

    /// Returns whether these peers and this one are a quorum of a group whose members do not change just now.
    pub fn is_quorum(&self, others: impl Iterator<Item = u64>) -> bool {
        let voters = &self.log().conf_state().voters;
        let count = others.chain([self.peer]).filter(|peer| voters.contains(peer)).count();
        2 * count > voters.len()
    }

    /// Records that a peer's store was alive at `at_ns`.
    pub fn note_alive(&mut self, peer: u64, at_ns: u64) {
        if let Some(progress) = self.node.raft.mut_prs().get_mut(peer) {
            progress.recent_active = true;
        }
        if self.leads() {
            self.transfers.heard(peer, at_ns);
        }
    }

    /// Continues after a sleep. A leader has a whole election timeout to hear of its followers. `heard` says when (node
    /// clock, ns) a follower's leader's store was heard last, and that store's election timeout; the follower's own
    /// timeout counts from then on, as if it had been awake.
    pub fn wake(&mut self, heard: Option<(u64, u64)>, now_ns: u64) {
        if let Some((election_ns, at_ns)) = heard {
            self.promise.heard(election_ns, at_ns);
        }
        let left_ticks = self.promise.left_ns(now_ns).div_ceil(self.tick_ns()) as usize;
        self.node.raft.election_elapsed =
            if self.leads() { 0 } else { self.election_ticks().saturating_sub(left_ticks) };
        self.leaderless_ticks = 0;
    }
}
