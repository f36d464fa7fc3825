//! Leadership transfers: which peers a leader may transfer to, and for how long a transfer may block proposals.
//!
//! A leader accepts no proposals during a transfer, so a transfer to a peer that is dead or far behind pauses the
//! region's writes. **In** come the times at which peers were heard, and their progress. **Out** go rejections with a
//! reason, and the moment at which a transfer is abandoned. **Never**: a transfer to a peer that has been silent for
//! longer than [`Options::silence_ns`](super::group::Options::silence_ns), or one that blocks proposals for longer than
//! [`Options::transfer_ns`](super::group::Options::transfer_ns).

use std::collections::BTreeMap;

/// How many entries a peer may lack and still receive leadership: the transfer waits until the peer has them.
const LAG_ENTRIES_MAX: u64 = 256;

/// A leader's view of a peer to which it may transfer leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The peer's ID.
    pub peer: u64,
    /// Whether the peer is a voter.
    pub voter: bool,
    /// Whether the peer accepts entries as they come: it does not wait for a snapshot, and its log is not being probed.
    pub replicates: bool,
    /// How many entries of the leader's log the peer is not known to hold.
    pub lag_entries: u64,
}

/// A transfer in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderWay {
    to: u64,
    until_ns: u64,
}

/// The transfers of one group. Times are nanoseconds of the node's clock.
#[derive(Debug, Default)]
pub struct Transfers {
    /// When each peer last responded to the current leadership.
    heard: BTreeMap<u64, u64>,
    under_way: Option<UnderWay>,
}

impl Transfers {
    /// Records that a peer's message arrived while this peer is leader.
    pub fn heard(&mut self, peer: u64, now_ns: u64) {
        self.heard.insert(peer, now_ns);
    }

    /// Returns whether a peer was heard within the last `age_ns`.
    pub fn is_heard(&self, peer: u64, age_ns: u64, now_ns: u64) -> bool {
        self.heard.get(&peer).is_some_and(|at_ns| now_ns.saturating_sub(*at_ns) <= age_ns)
    }

    /// Records that messages to a peer are being lost: the peer counts as silent until it is heard again.
    pub fn lost(&mut self, peer: u64) {
        self.heard.remove(&peer);
    }

    /// Forgets when peers were heard, because this peer is not leader: those times do not count for a later leadership.
    pub fn deposed(&mut self) {
        self.heard.clear();
    }

    /// Checks whether a transfer can start.
    ///
    /// # Errors
    /// The reason why not, as a sentence.
    pub fn check(&self, candidate: &Candidate, silence_ns: u64, now_ns: u64) -> Result<(), String> {
        let peer = candidate.peer;
        if let Some(other) = self.under_way {
            return Err(format!("a transfer to peer {} is under way", other.to));
        }
        if !candidate.voter {
            return Err(format!("peer {peer} is not a voter"));
        }
        if crate::mutant!("raft.transfer-to-silent-peer") || crate::mutant!("pd.dead-store-gets-leaders") {
            return Ok(());
        }
        match self.heard.get(&peer) {
            None => return Err(format!("peer {peer} has not been heard since it was lost or this leadership began")),
            Some(at_ns) if now_ns.saturating_sub(*at_ns) > silence_ns => {
                let silent_ms = now_ns.saturating_sub(*at_ns) / 1_000_000;
                return Err(format!("peer {peer} has been silent for {silent_ms} ms"));
            }
            Some(_) => {}
        }
        // A peer that was unreachable for a while is probed until the next entry, even if it lacks none.
        let catches_up = candidate.replicates && candidate.lag_entries <= LAG_ENTRIES_MAX;
        if candidate.lag_entries > 0 && !catches_up {
            return Err(format!("peer {peer} is {} entries behind", candidate.lag_entries));
        }
        Ok(())
    }

    /// Starts a transfer.
    pub fn begin(&mut self, to: u64, until_ns: u64) {
        self.under_way = Some(UnderWay { to, until_ns });
    }

    /// Returns whether a transfer is in progress.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Ends the transfer in progress if it is over (`leader` is another peer now) or has taken too long. Returns
    /// whether this peer should continue as leader.
    pub fn settle(&mut self, own: u64, leader: u64, now_ns: u64) -> bool {
        let Some(UnderWay { until_ns, .. }) = self.under_way else { return false };
        let over = leader != own && leader != 0;
        let late = now_ns >= until_ns;
        if over || late {
            self.under_way = None;
        }
        late && leader == own
    }
}

#[cfg(test)]
mod tests {
    //! Goal: leadership goes only to peers that would take it at once, and no transfer lasts long. Method: by hand.

    use super::*;

    const MS: u64 = 1_000_000;

    fn candidate(lag_entries: u64) -> Candidate {
        Candidate { peer: 2, voter: true, replicates: true, lag_entries }
    }

    #[test]
    fn silent_and_slow_peers_are_refused_with_the_reason() {
        let mut transfers = Transfers::default();
        let why = |transfers: &Transfers, candidate: Candidate, now_ns| {
            transfers.check(&candidate, 200 * MS, now_ns).expect_err("refused")
        };
        assert!(why(&transfers, candidate(0), 0).contains("not been heard"));
        transfers.heard(2, 1000 * MS);
        assert_eq!(transfers.check(&candidate(LAG_ENTRIES_MAX), 200 * MS, 1200 * MS), Ok(()));
        assert!(why(&transfers, candidate(0), 1201 * MS).contains("silent for 201 ms"));
        assert!(why(&transfers, candidate(LAG_ENTRIES_MAX + 1), 1000 * MS).contains("257 entries behind"));
        assert!(why(&transfers, Candidate { voter: false, ..candidate(0) }, 1000 * MS).contains("not a voter"));
        assert!(
            why(&transfers, Candidate { replicates: false, ..candidate(1) }, 1000 * MS).contains("1 entries behind")
        );
        let probed = Candidate { replicates: false, ..candidate(0) };
        assert_eq!(transfers.check(&probed, 200 * MS, 1000 * MS), Ok(()), "the peer lacks no entries");
        transfers.lost(2);
        assert!(why(&transfers, candidate(0), 1000 * MS).contains("lost"));
        transfers.heard(2, 1000 * MS);
        transfers.begin(2, 1300 * MS);
        assert!(why(&transfers, candidate(0), 1000 * MS).contains("to peer 2 is under way"));
    }

    #[test]
    fn a_transfer_ends_with_a_new_leader_or_in_time() {
        let mut transfers = Transfers::default();
        transfers.begin(2, 1300 * MS);
        assert!(!transfers.settle(1, 1, 1299 * MS) && transfers.is_under_way());
        assert!(!transfers.settle(1, 0, 1299 * MS) && transfers.is_under_way(), "an election is in progress");
        assert!(transfers.settle(1, 1, 1300 * MS) && !transfers.is_under_way(), "abandoned");
        transfers.begin(2, 1300 * MS);
        assert!(!transfers.settle(1, 2, 1250 * MS) && !transfers.is_under_way(), "completed");
        transfers.begin(2, 1300 * MS);
        assert!(!transfers.settle(1, 0, 1300 * MS) && !transfers.is_under_way(), "this peer is no longer leader");
    }
}
