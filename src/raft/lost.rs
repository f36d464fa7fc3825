//! A leader whose store cannot be reached: its followers need not wait out their election timeout by ticks.
//!
//! A follower campaigns after a random number of ticks, so that followers do not all campaign at once, and must not before its promise
//! to the leader has ended. Where the connection to the leader's store broke and nothing came from the leader since, chance is not
//! needed: the follower with the lowest id goes first, soon after its promise, the next one two ticks later, and again if that fails.
//! **In** comes the word that a store cannot be reached; **out** goes whether it is time to campaign. **Never**: a campaign that the
//! promise forbids, or one against a leader that was heard meanwhile.

/// Ticks from the end of the promise to the first follower's campaign: the others' promises end about then, too.
const FIRST_TICKS: usize = 1;
/// Ticks from one follower's campaign to the next one's: an election takes less, on a network that works.
const NEXT_TICKS: usize = 2;
/// Ticks from a campaign that failed to the next: somebody's promise had not ended, or somebody's log holds more.
const AGAIN_TICKS: usize = 4;
/// Campaigns; then chance decides, as ever.
const CAMPAIGNS: usize = 3;

/// What a follower knows of its leader's loss.
#[derive(Debug, Default)]
pub struct LostLeader {
    lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    /// How many other followers go first.
    rank: usize,
    /// Ticks since the promise to the leader ended.
    ticks: usize,
}

impl LostLeader {
    /// The leader's store cannot be reached; so many followers campaign before this one.
    pub fn lost(&mut self, rank: usize) {
        self.lost.get_or_insert(Lost { rank, ticks: 0 });
    }

    /// The leader was heard, or there is another.
    pub fn found(&mut self) {
        self.lost = None;
    }

    /// One tick has passed. Whether the follower is to campaign now.
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
    //! Goal: one campaign at its time, none when the leader is back. Method: by hand.
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
