//! Leases: the leader's right to read alone, and the voter's promise that makes it safe.
//!
//! A follower that heard from its leader at time *h* (on its own clock) votes for nobody before *h* + election timeout. A
//! restarted one promises the same from its start, for it may have forgotten whom it heard. So when a quorum has answered
//! something that the leader sent at *s* (on the leader's clock), nobody else can be elected before *s* + election timeout,
//! up to the drift between the clocks: the leader reads alone until *s* + election timeout × (1 - drift).
//!
//! A leadership transfer makes a vote without asking the promise, at a time that the old leader cannot know (the order to
//! campaign may travel for long): a leader that has begun a transfer takes no lease again in its term.

/// The leader's side.
#[derive(Debug, Default)]
pub struct Lease {
    length_ns: u64,
    term: u64,
    until: u64,
    forfeited: bool,
}

impl Lease {
    /// Leases for followers that wait `election_ns` before they vote, with clocks that drift apart by at most
    /// `drift_permille`.
    pub fn new(election_ns: u64, drift_permille: u64) -> Lease {
        let kept = if crate::mutant!("raft.lease-ignores-drift") { 1000 } else { 1000 - drift_permille };
        Lease { length_ns: election_ns / 1000 * kept, ..Lease::default() }
    }

    /// A quorum has answered what was sent at `sent_ns` in `term`.
    pub fn renew(&mut self, term: u64, sent_ns: u64) {
        if self.term != term {
            *self = Lease { length_ns: self.length_ns, term, until: 0, forfeited: false };
        }
        if !self.forfeited {
            self.until = self.until.max(sent_ns + self.length_ns);
        }
    }

    /// A transfer begins: no lease any more in this term.
    pub fn forfeit(&mut self, term: u64) {
        if !crate::mutant!("raft.lease-kept-in-transfer") {
            *self = Lease { length_ns: self.length_ns, term, until: 0, forfeited: true };
        }
    }

    /// Until when the lease of `term` runs (exclusive); 0 when there is none.
    pub fn until(&self, term: u64) -> u64 {
        if self.term == term { self.until } else { 0 }
    }
}

/// The voter's side.
#[derive(Debug)]
pub struct Promise {
    election_ns: u64,
    heard_ns: u64,
}

impl Promise {
    /// A promise as of `start_ns`; `fresh` when the peer has never voted nor heard of a leader, so that nothing binds it.
    pub fn new(election_ns: u64, start_ns: u64, fresh: bool) -> Promise {
        let free = fresh || crate::mutant!("raft.vote-after-restart");
        Promise { election_ns, heard_ns: if free { 0 } else { start_ns } }
    }

    /// The leader was heard.
    pub fn heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    /// Whether it still binds.
    pub fn binds(&self, now_ns: u64) -> bool {
        self.heard_ns != 0 && now_ns < self.heard_ns + self.election_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_ends_before_the_slowest_promise() {
        let mut lease = Lease::new(1_000_000_000, 200);
        lease.renew(7, 5_000_000_000);
        assert_eq!(lease.until(7), 5_800_000_000);
        lease.renew(7, 4_000_000_000);
        assert_eq!(lease.until(7), 5_800_000_000, "an older answer never shortens it");
        assert_eq!(lease.until(8), 0);
    }

    #[test]
    fn a_transfer_ends_it_for_the_term() {
        let mut lease = Lease::new(1000, 200);
        lease.renew(7, 1);
        lease.forfeit(7);
        lease.renew(7, 2);
        assert_eq!(lease.until(7), 0);
        lease.renew(8, 3);
        assert_eq!(lease.until(8), 803);
    }

    #[test]
    fn a_restarted_voter_keeps_its_promise() {
        let promise = Promise::new(1000, 500, false);
        assert!(promise.binds(1499) && !promise.binds(1500));
        assert!(!Promise::new(1000, 500, true).binds(501));
    }
}
