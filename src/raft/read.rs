//! Reads that wait for a quorum's word that the leader still leads.

use std::collections::VecDeque;

/// A round of ReadIndex: everything that was waiting when it was sent.
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
    /// Not yet in a round.
    waiting: Vec<u64>,
    rounds: VecDeque<Round>,
    next_context: u64,
    /// The first bytes of every context: the peer, and a number that no other run of this process has.
    whose: [u8; 16],
}

impl Reads {
    /// The reads of a peer in the run of the process that drew `nonce`. A message of an earlier run may still be on its way: what
    /// it confirms must be no round of this one.
    pub fn new(peer: u64, nonce: u64) -> Reads {
        let mut whose = [0; 16];
        whose[..8].copy_from_slice(&peer.to_be_bytes());
        whose[8..].copy_from_slice(&nonce.to_be_bytes());
        Reads { whose, ..Reads::default() }
    }

    /// A round's context as messages carry it.
    pub fn encode(&self, context: u64) -> Vec<u8> {
        [&self.whose[..], &context.to_be_bytes()].concat()
    }

    /// The round of a context; nothing if it is none of this run's.
    pub fn decode(&self, context: &[u8]) -> Option<u64> {
        let number = context.strip_prefix(&self.whose[..])?;
        Some(u64::from_be_bytes(number.try_into().ok()?))
    }

    /// Queues a read.
    pub fn push(&mut self, id: u64) {
        self.waiting.push(id);
    }

    /// Whether any read waits for a round to begin.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing waits at all.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rounds.is_empty()
    }

    /// Begins a round of everything that waits; the result is the round's context.
    pub fn begin(&mut self, now_ns: u64) -> u64 {
        self.next_context += 1;
        let reads = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { context: self.next_context, sent_ns: now_ns, reads, index: None });
        self.next_context
    }

    /// The oldest unconfirmed round's age, to send it again when it gets old.
    pub fn oldest_unconfirmed_ns(&self) -> Option<u64> {
        self.rounds.iter().find(|round| round.index.is_none()).map(|round| round.sent_ns)
    }

    /// Puts all unconfirmed rounds back to the waiting ones: their messages may be lost.
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

    /// A quorum confirmed the round (and with it all before): the time it was sent.
    pub fn confirm(&mut self, context: u64, index: u64) -> Option<u64> {
        let at = self.rounds.iter().position(|round| round.context == context)?;
        for round in self.rounds.iter_mut().take(at + 1) {
            round.index.get_or_insert(index);
        }
        Some(self.rounds[at].sent_ns)
    }

    /// The reads whose index is applied.
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

    /// All reads: leadership is lost.
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
    //! Goal: a confirmation of another run of the process confirms nothing. Method: by hand.
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
