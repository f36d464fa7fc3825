//! Leadership transfers: to whom a leader hands over, and for how long it lets a transfer stop proposals.
//!
//! A leader takes no proposals while it hands over, so a transfer to a peer that is dead or far behind is a pause of the region.
//! **In** come the times at which peers were heard, and their progress; **out** go refusals with a reason, and the moment at
//! which a transfer is given up. **Never**: a transfer to a peer that has been silent for longer than
//! [`Options::silence_ns`](super::group::Options::silence_ns), or one that stops proposals for longer than
//! [`Options::transfer_ns`](super::group::Options::transfer_ns).

use std::collections::BTreeMap;

/// Entries that a peer may lack and still be handed leadership: the transfer waits until it has them.
const LAG_ENTRIES_MAX: u64 = 256;

/// What a leader knows of a peer that it may hand over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The peer.
    pub peer: u64,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it takes entries as they come: it neither waits for a snapshot nor is its log being probed.
    pub replicates: bool,
    /// Entries of the leader's log that it is not known to hold.
    pub lag_entries: u64,
}

/// A transfer that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderWay {
    to: u64,
    until_ns: u64,
}

/// One group's side of transfers. Times are nanoseconds of the node's clock.
#[derive(Debug, Default)]
pub struct Transfers {
    /// When each peer last answered the present leadership.
    heard: BTreeMap<u64, u64>,
    under_way: Option<UnderWay>,
}

impl Transfers {
    /// A peer's message arrived while this peer leads.
    pub fn heard(&mut self, peer: u64, now_ns: u64) {
        self.heard.insert(peer, now_ns);
    }

    /// Messages to a peer are being lost: it counts as silent until it is heard again.
    pub fn lost(&mut self, peer: u64) {
        self.heard.remove(&peer);
    }

    /// This peer does not lead (any more): whom it heard as a leader says nothing about the next time.
    pub fn deposed(&mut self) {
        self.heard.clear();
    }

    /// Whether a transfer can begin.
    ///
    /// # Errors
    /// Why not, as a sentence.
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
        // A peer that was lost for a while is probed until the next entry, though it lacks none.
        let catches_up = candidate.replicates && candidate.lag_entries <= LAG_ENTRIES_MAX;
        if candidate.lag_entries > 0 && !catches_up {
            return Err(format!("peer {peer} is {} entries behind", candidate.lag_entries));
        }
        Ok(())
    }

    /// A transfer begins.
    pub fn begin(&mut self, to: u64, until_ns: u64) {
        self.under_way = Some(UnderWay { to, until_ns });
    }

    /// Whether a transfer is under way.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Ends the transfer under way if it is over (`leader` is somebody else now) or has taken too long. True: this peer is to go
    /// on as the leader.
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
    //! Goal: nobody is handed leadership who would not take it at once; no transfer lasts. Method: by hand.

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
        assert_eq!(transfers.check(&probed, 200 * MS, 1000 * MS), Ok(()), "it lacks nothing");
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
        assert!(!transfers.settle(1, 0, 1299 * MS) && transfers.is_under_way(), "a vote is under way");
        assert!(transfers.settle(1, 1, 1300 * MS) && !transfers.is_under_way(), "given up");
        transfers.begin(2, 1300 * MS);
        assert!(!transfers.settle(1, 2, 1250 * MS) && !transfers.is_under_way(), "carried out");
        transfers.begin(2, 1300 * MS);
        assert!(!transfers.settle(1, 0, 1300 * MS) && !transfers.is_under_way(), "no leader to go on");
    }
}
