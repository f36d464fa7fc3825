//! Heartbeats without news, and the responses to them, as plain numbers instead of raft messages.
//!
//! Most of the traffic of a store with many groups is heartbeats of idle groups. A beat is the same heartbeat as
//! raft's, in numbers instead of a message; the beats of all groups to one store travel together. **In** come beats. A
//! beat that tells only that its sender is alive is recorded here, and the response goes **out** at once. A beat that
//! tells more (another term, a commit index that the follower does not know, a follower that lags) is handled as the
//! message that it stands for. **Never**: information of a heartbeat that is lost because it came as numbers.

use ::raft::eraftpb::{Message, MessageType};
use ::raft::{ProgressState, StateRole};

use super::Group;

/// A leader's heartbeat to one peer, or a peer's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The sending peer.
    pub from: u64,
    /// The receiving peer.
    pub to: u64,
    /// The sender's term.
    pub term: u64,
    /// In a heartbeat: the commit index, limited to what the peer is known to hold. In a response: the peer's commit
    /// index.
    pub commit: u64,
}

impl Beat {
    /// Returns the raft message that this heartbeat stands for.
    pub fn heartbeat(&self) -> Message {
        self.message(MessageType::MsgHeartbeat)
    }

    /// Returns the raft message that this response stands for.
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
    /// Returns the heartbeats that are due, if this peer is leader. Called for all groups of a store at once, every
    /// [`super::Options::heartbeat_ticks`] ticks. While reads wait for a quorum, heartbeats are sent as messages
    /// instead, because those carry the reads' context.
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

    /// Handles a heartbeat. Returns the response if the heartbeat tells only that the leader is alive. Otherwise
    /// returns `None` without any effect, and the caller must step [`Beat::heartbeat`]. `election_ns` is the election
    /// timeout of the leader's store.
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

    /// Handles a peer's response. Returns `true` if it tells only that the peer is alive. Otherwise returns `false`
    /// without any effect, and the caller must step [`Beat::answer`].
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
