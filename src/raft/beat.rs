//! Heartbeats that say nothing new, and their answers, without the ceremony of messages.
//!
//! Most of what a store with many groups sends are heartbeats of groups in which nothing happens. They are the same heartbeats as
//! raft's, in numbers instead of messages: those of all groups to one store travel together. **In** come the numbers; where they
//! change nothing but who was heard, that is noted here, and the answer goes **out** at once. Whatever else they say (another term,
//! a commit that the follower does not know, a follower that lags) they say as the messages that they stand for. **Never**: a word of
//! a heartbeat that is lost because it came in numbers.

use ::raft::eraftpb::{Message, MessageType};
use ::raft::{ProgressState, StateRole};

use super::Group;

/// A heartbeat of a leader to one peer, or a peer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The peer that sends it.
    pub from: u64,
    /// The peer that it is for.
    pub to: u64,
    /// The sender's term.
    pub term: u64,
    /// Of a leader: up to where what the peer holds is committed. Of an answer: the peer's commit index.
    pub commit: u64,
}

impl Beat {
    /// The heartbeat, as the message that it stands for.
    pub fn heartbeat(&self) -> Message {
        self.message(MessageType::MsgHeartbeat)
    }

    /// The answer, as the message that it stands for.
    pub fn answer(&self) -> Message {
        self.message(MessageType::MsgHeartbeatResponse)
    }

    fn message(&self, kind: MessageType) -> Message {
        let Beat { from, to, term, commit } = *self;
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term, message.commit) = (from, to, term, commit);
        message
    }
}

impl Group {
    /// The heartbeats that are due, if this peer leads. Called for all groups of a store at once, every
    /// [`super::Options::heartbeat_ticks`] ticks. While reads wait for a quorum they leave as messages, for they carry what is asked.
    pub fn beats(&mut self) -> Vec<Beat> {
        if !self.leads() {
            return Vec::new();
        }
        if !self.reads.is_empty() {
            self.node.ping();
            return Vec::new();
        }
        let (from, term, committed) = (self.peer, self.term(), self.committed());
        let others = self.node.raft.prs().iter().filter(|(peer, _)| **peer != from);
        others.map(|(to, progress)| Beat { from, to: *to, term, commit: progress.matched.min(committed) }).collect()
    }

    /// Hears a heartbeat. The answer, if it says nothing but that the leader is there; otherwise nothing is done, and
    /// [`Beat::heartbeat`] is to be stepped. `election_ns` is the timeout that the leader's store goes by.
    pub fn hear(&mut self, beat: &Beat, election_ns: u64, now_ns: u64) -> Option<Beat> {
        let raft = &mut self.node.raft;
        let follows = raft.state == StateRole::Follower && raft.term == beat.term && raft.leader_id == beat.from;
        let news = beat.commit > raft.raft_log.committed && !crate::mutant!("raft.beat-hides-a-commit");
        if !follows || news || crate::buggify!("raft.beat-as-message") {
            return None;
        }
        raft.election_elapsed = 0;
        let commit = raft.raft_log.committed;
        self.promise.heard(election_ns, now_ns);
        self.lost_leader.found();
        Some(Beat { from: self.peer, to: beat.from, term: beat.term, commit })
    }

    /// Hears the answer of a peer. True if it says nothing but that the peer is there; otherwise nothing is done, and
    /// [`Beat::answer`] is to be stepped.
    pub fn hear_answer(&mut self, beat: &Beat, now_ns: u64) -> bool {
        let (leads, term) = (self.leads(), self.term());
        let last = self.node.raft.raft_log.last_index();
        let Some(progress) = self.node.raft.mut_prs().get_mut(beat.from) else { return false };
        let whole = progress.state == ProgressState::Replicate && progress.matched == last;
        let whole = whole || crate::mutant!("raft.beat-hides-a-lag");
        if !leads || term != beat.term || !whole || crate::buggify!("raft.beat-as-message") {
            return false;
        }
        progress.update_committed(beat.commit);
        progress.recent_active = !crate::mutant!("raft.beat-unheard");
        self.transfers.heard(beat.from, now_ns);
        self.settle_transfer(now_ns);
        true
    }
}
