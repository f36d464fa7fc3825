//! Rounds of pre-votes: before it campaigns, a peer asks the others whether they would vote for it.
//!
//! An answer says what a voter would have done when it was asked. raft-rs counts every answer, so one that was held up
//! on its way (a slow disk, a slow network) could make a peer campaign long after the voter has found a leader, and
//! that leader would be deposed. So each round has a number, which the answers repeat. **In** come messages; **out**
//! goes whether an answer counts. **Never**: an answer that counts in a later round than the one in which it was asked.

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

/// The rounds of pre-votes of one peer.
#[derive(Debug)]
pub struct PreVotes {
    /// The number of the current round. Rounds of different runs of a process have different numbers.
    round: u64,
}

impl PreVotes {
    /// Creates the rounds of a run; `nonce` tells the run apart from all others.
    pub fn new(nonce: u64) -> PreVotes {
        PreVotes { round: nonce }
    }

    /// Numbers the requests that a peer has just created, if there are any: they begin a round.
    pub fn begin(&mut self, sent: &mut [Message]) {
        let is_new = |message: &&mut Message| {
            message.get_msg_type() == MessageType::MsgRequestPreVote && message.context.is_empty()
        };
        let mut new = sent.iter_mut().filter(is_new).peekable();
        if new.peek().is_some() {
            self.round = self.round.wrapping_add(1);
        }
        for message in new {
            message.context = Bytes::copy_from_slice(&self.round.to_be_bytes());
        }
    }

    /// Gives the answer that a peer has just created the number of its request's round.
    pub fn answer(sent: &mut [Message], to: u64, round: &Bytes) {
        let answers = sent.iter_mut().rev().filter(|message| message.to == to);
        let of_kind = |message: &&mut Message| message.get_msg_type() == MessageType::MsgRequestPreVoteResponse;
        if let Some(answer) = answers.filter(of_kind).find(|message| message.context.is_empty()) {
            answer.context = round.clone();
        }
    }

    /// Returns whether an answer belongs to an earlier round. Answers without a number, of peers that do not repeat it
    /// yet, belong to every round.
    pub fn is_of_an_earlier_round(&self, answer: &Message) -> bool {
        let late = !answer.context.is_empty() && answer.context != self.round.to_be_bytes()[..];
        late && !crate::mutant!("raft.late-pre-vote-counts")
    }
}
