//! Faster elections when the leader's store is unreachable: followers need not wait out their randomized election
//! timeout.
//!
//! Normally a follower campaigns after a random number of ticks, so that followers do not all campaign at once, and not
//! before its promise to the leader has ended. If the connection to the leader's store broke and nothing has arrived
//! from the leader since, no randomness is needed: the follower with the lowest ID campaigns first, soon after its
//! promise has ended, the next one two ticks later, and each tries again if that fails. **In** comes the report that a
//! store is unreachable. **Out** goes whether it is time to campaign. **Never**: a campaign within the promise, or
//! against a leader that was heard in the meantime.

/// Ticks from the end of the promise to the first follower's campaign; the other followers' promises end at about the
/// same time.
const FIRST_TICKS: usize = 1;
/// Ticks between the campaigns of two followers: longer than an election takes on a working network.
const NEXT_TICKS: usize = 2;
/// Ticks from a failed campaign to the next: another voter's promise had not ended, or another voter's log is longer.
const AGAIN_TICKS: usize = 4;
/// Number of campaigns before the randomized timeout takes over again.
const CAMPAIGNS: usize = 3;

/// A follower's record of its leader's loss.
#[derive(Debug, Default)]
pub struct LostLeader {
    lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    /// How many other followers campaign earlier.
    rank: usize,
    /// Ticks since the promise to the leader ended.
    ticks: usize,
}

impl LostLeader {
    /// Records that the leader's store is unreachable; `rank` followers campaign before this one.
    pub fn lost(&mut self, rank: usize) {
        self.lost.get_or_insert(Lost { rank, ticks: 0 });
    }

    /// Cancels the campaigns: the leader was heard, or there is another leader.
    pub fn found(&mut self) {
        self.lost = None;
    }

    /// Counts one tick. Returns whether the follower should campaign now.
    pub fn tick(&mut self, promise_binds: bool) -> bool {
        let waits = promise_binds && !crate::mutant!("raft.lost-leader-frees-of-promises");
        let Some(lost) = self.lost.as_mut().filter(|_| !waits) else { return false };
        lost.ticks += 1;
        let first = FIRST_TICKS + NEXT_TICKS * lost.rank + 1;
        let due = lost.ticks >= first && (lost.ticks - first).is_multiple_of(AGAIN_TICKS);
        if lost.ticks >= first + AGAIN_TICKS * (CAMPAIGNS - 1) {
            self.lost = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    //! Goal: campaigns happen at the right ticks, and not at all when the leader is back. Method: by hand.
    use super::*;

    #[test]
    fn followers_campaign_one_after_the_other() {
        for (rank, expected) in [(0, [2, 6, 10]), (1, [4, 8, 12]), (3, [8, 12, 16])] {
            let mut leader = LostLeader::default();
            assert!((0..9).all(|_| !leader.tick(false)), "not lost");
            leader.lost(rank);
            assert!((0..9).all(|_| !leader.tick(true)), "promised");
            leader.lost(rank);
            let campaigns: Vec<usize> = (1..30).filter(|_| leader.tick(false)).collect();
            assert_eq!(campaigns, expected);
            leader.lost(rank);
            leader.tick(false);
            leader.found();
            assert!((0..9).all(|_| !leader.tick(false)), "heard");
        }
    }
}
