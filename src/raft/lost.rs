//! A leader whose store cannot be reached: its followers need not wait out their election timeout by ticks.
//!
//! A follower campaigns after a random number of ticks, so that followers do not all campaign at once, and must not before its promise
//! to the leader has ended. Where the connection to the leader's store broke and nothing came from the leader since, chance is not
//! needed: the follower with the lowest id goes first, one tick after its promise, the next one two ticks later. **In** comes
//! the word that a store cannot be reached; **out** goes whether it is time to campaign. **Never**: a campaign that the promise forbids, or
//! one against a leader that was heard meanwhile.

/// Ticks from the end of the promise to the first follower's campaign: the others' promises end about then, too.
const FIRST_TICKS: usize = 1;
/// Ticks from one follower's campaign to the next one's: an election takes less, on a network that works.
const NEXT_TICKS: usize = 2;

/// What a follower knows of its leader's loss.
#[derive(Debug, Default)]
pub struct LostLeader {
    /// Ticks since the promise to it ended; nothing if it is not lost.
    ticks: Option<usize>,
}

impl LostLeader {
    /// The leader's store cannot be reached.
    pub fn lost(&mut self) {
        self.ticks.get_or_insert(0);
    }

    /// The leader was heard, or there is another, or none.
    pub fn found(&mut self) {
        self.ticks = None;
    }

    /// One tick has passed. Whether the follower that `rank` others go before is to campaign now.
    pub fn tick(&mut self, promise_binds: bool, rank: usize) -> bool {
        let Some(ticks) = self.ticks.as_mut().filter(|_| !promise_binds) else { return false };
        *ticks += 1;
        let due = *ticks > FIRST_TICKS + NEXT_TICKS * rank;
        if due {
            // If this one fails, chance decides, as ever.
            self.ticks = None;
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
        for (rank, expected) in [(0, 2), (1, 4), (3, 8)] {
            let mut leader = LostLeader::default();
            assert!((0..9).all(|_| !leader.tick(false, rank)), "not lost");
            leader.lost();
            assert!((0..9).all(|_| !leader.tick(true, rank)), "promised");
            leader.lost();
            let campaigns: Vec<usize> = (1..20).filter(|_| leader.tick(false, rank)).collect();
            assert_eq!(campaigns, [expected], "once");
            leader.lost();
            leader.tick(false, rank);
            leader.found();
            assert!((0..9).all(|_| !leader.tick(false, rank)), "heard");
        }
    }
}
