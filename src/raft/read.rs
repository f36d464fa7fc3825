//! Reads that wait until a quorum confirms that the leader is still leader.

use std::collections::VecDeque;

/// A round of ReadIndex: all reads that were waiting when it was sent.
#[derive(Debug)]
struct Round {
    context: u64,
    sent_ns: u64,
    reads: Vec<u64>,
    /// The confirmed index, once known.
    index: Option<u64>,
}

/// The reads of one group's leader, in rounds.
#[derive(Debug, Default)]
pub struct Reads {
    /// Reads that are not yet part of a round.
    waiting: Vec<u64>,
    rounds: VecDeque<Round>,
    next_context: u64,
    /// The first bytes of every context: the peer, and a number that is unique to this run of the process.
    whose: [u8; 16],
}

impl Reads {
    /// Creates the reads of a peer in the run of the process that drew `nonce`. A message of an earlier run may still
    /// be in flight and must not confirm a round of this run.
    pub fn new(peer: u64, nonce: u64) -> Reads {
        let mut whose = [0; 16];
        whose[..8].copy_from_slice(&peer.to_be_bytes());
        whose[8..].copy_from_slice(&nonce.to_be_bytes());
        Reads { whose, ..Reads::default() }
    }

    /// Returns a round's context as messages carry it.
    pub fn encode(&self, context: u64) -> Vec<u8> {
        [&self.whose[..], &context.to_be_bytes()].concat()
    }

    /// Returns the round of a context, or `None` if the context is not from this run.
    pub fn decode(&self, context: &[u8]) -> Option<u64> {
        let number = context.strip_prefix(&self.whose[..])?;
        Some(u64::from_be_bytes(number.try_into().ok()?))
    }

    /// Queues a read.
    pub fn push(&mut self, id: u64) {
        self.waiting.push(id);
    }

    /// Returns whether any read waits for a round to start.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether no read waits at all.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rounds.is_empty()
    }

    /// Starts a round with all waiting reads and returns the round's context.
    pub fn begin(&mut self, now_ns: u64) -> u64 {
        self.next_context += 1;
        let reads = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { context: self.next_context, sent_ns: now_ns, reads, index: None });
        self.next_context
    }

    /// Returns when the oldest unconfirmed round was sent, so that an old one can be sent again.
    pub fn oldest_unconfirmed_ns(&self) -> Option<u64> {
        self.rounds.iter().find(|round| round.index.is_none()).map(|round| round.sent_ns)
    }

    /// Moves the reads of all unconfirmed rounds back to the waiting ones: their messages may be lost.
    pub fn again(&mut self) {
        let mut kept = VecDeque::new();
        for round in self.rounds.drain(..) {
            if round.index.is_some() {
                kept.push_back(round);
            } else {
                self.waiting.extend(round.reads);
            }
        }
        self.rounds = kept;
    }

    /// Marks the round and all rounds before it as confirmed by a quorum. Returns the time at which it was sent.
    pub fn confirm(&mut self, context: u64, index: u64) -> Option<u64> {
        let at = self.rounds.iter().position(|round| round.context == context)?;
        for round in self.rounds.iter_mut().take(at + 1) {
            round.index.get_or_insert(index);
        }
        Some(self.rounds[at].sent_ns)
    }

    /// Removes and returns the reads whose index is applied.
    pub fn take_served(&mut self, applied: u64) -> Vec<u64> {
        let mut served = Vec::new();
        while let Some(round) = self.rounds.front() {
            match round.index {
                Some(index) if index <= applied => {
                    served.extend(self.rounds.pop_front().expect("just seen").reads);
                }
                _ => break,
            }
        }
        served
    }

    /// Removes and returns all reads, because leadership was lost.
    pub fn take_all(&mut self) -> Vec<u64> {
        let mut all = std::mem::take(&mut self.waiting);
        for round in self.rounds.drain(..) {
            all.extend(round.reads);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a confirmation from another run of the process has no effect. Method: by hand.
    use super::*;

    #[test]
    fn contexts_are_of_one_peer_and_one_run() {
        let mut reads = Reads::new(7, 99);
        reads.push(1);
        let context = reads.begin(5);
        let sent = reads.encode(context);
        assert_eq!(reads.decode(&sent), Some(context));
        assert_eq!(Reads::new(7, 98).decode(&sent), None, "another run");
        assert_eq!(Reads::new(8, 99).decode(&sent), None, "another peer");
        assert_eq!(reads.decode(&sent[..23]), None);
    }
}
