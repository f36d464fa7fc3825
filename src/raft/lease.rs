//! Leases: the leader's right to read alone, and the voter's promise that makes it safe.
//!
//! A follower that heard from its leader at time *h* (on its own clock) votes for nobody before *h* + election timeout: the
//! leader's timeout, which comes with its messages, or its own if that is longer. Nodes may be configured differently, and are
//! while a cluster is being reconfigured. A restarted voter promises the longest that its store ever gave, from its start, for it
//! has forgotten whom it heard. So when a quorum has answered something that the leader sent at *s* (on the leader's clock), nobody
//! else can be elected before *s* + the leader's election timeout, up to the drift between the clocks: the leader reads alone
//! until *s* + election timeout × (1 - drift).
//!
//! A machine that is suspended together with its clock (as a virtual one may be) loses time beyond any drift: its leases last longer
//! than its followers' promises. It can tell only by the clocks of others, with the first message that it hears afterwards
//! (`replica::transport::clocks`), and gives its leases up then; until then it may read what is old. Where machines are suspended
//! while they run, leases have to be switched off (`raft.lease_reads`).
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
    /// What was sent before this is not to be counted from.
    not_before: u64,
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
            *self = Lease { term, until: 0, forfeited: false, ..*self };
        }
        if !self.forfeited && sent_ns >= self.not_before && !crate::buggify!("raft.lease-not-renewed") {
            self.until = self.until.max(sent_ns + self.length_ns);
        }
    }

    /// A transfer begins: no lease any more in this term.
    pub fn forfeit(&mut self, term: u64) {
        if !crate::mutant!("raft.lease-kept-in-transfer") {
            *self = Lease { term, until: 0, forfeited: true, ..*self };
        }
    }

    /// The clock lost time before `now_ns`: only what is sent from now on makes a lease.
    pub fn begin_again(&mut self, now_ns: u64) {
        (self.until, self.not_before) = (0, now_ns);
    }

    /// Until when the lease of `term` runs (exclusive); 0 when there is none.
    pub fn until(&self, term: u64) -> u64 {
        if self.term == term { self.until } else { 0 }
    }
}

/// The voter's side: what it promised to the leader that it heard last.
#[derive(Debug)]
pub struct Promise {
    /// The own election timeout: the shortest promise.
    election_ns: u64,
    /// Until when it binds (exclusive); 0: nothing binds.
    until_ns: u64,
}

impl Promise {
    /// A promise as of `start_ns`. `longest_ns` is the longest that this store ever gave: a restarted voter does not know which
    /// leader it heard last. `fresh`: the peer has never voted nor heard of a leader, so that nothing binds it.
    pub fn new(election_ns: u64, longest_ns: u64, start_ns: u64, fresh: bool) -> Promise {
        let free = fresh || crate::mutant!("raft.vote-after-restart");
        let length_ns = promised(election_ns, longest_ns);
        Promise { election_ns, until_ns: if free { 0 } else { start_ns + length_ns } }
    }

    /// A leader was heard that goes by `leader_election_ns`: its lease is as long as its own configuration says, not as this
    /// voter's does.
    pub fn heard(&mut self, leader_election_ns: u64, now_ns: u64) {
        self.until_ns = self.until_ns.max(now_ns + promised(self.election_ns, leader_election_ns));
    }

    /// Whether it still binds.
    pub fn binds(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }
}

/// The length of a promise to a leader that goes by `theirs_ns`.
fn promised(own_ns: u64, theirs_ns: u64) -> u64 {
    if crate::mutant!("raft.promise-by-own-timeout") { own_ns } else { own_ns.max(theirs_ns) }
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
    fn a_clock_that_stood_still_ends_it() {
        let mut lease = Lease::new(1000, 200);
        lease.renew(7, 10);
        lease.begin_again(20);
        lease.renew(7, 19);
        assert_eq!(lease.until(7), 0, "an answer to what was sent before");
        lease.renew(7, 20);
        assert_eq!(lease.until(7), 820);
    }

    #[test]
    fn a_restarted_voter_keeps_its_promise() {
        let promise = Promise::new(1000, 0, 500, false);
        assert!(promise.binds(1499) && !promise.binds(1500));
        assert!(!Promise::new(1000, 0, 500, true).binds(501));
        let promise = Promise::new(300, 1000, 500, false);
        assert!(promise.binds(1499) && !promise.binds(1500), "it may have heard a leader with a longer timeout");
    }

    #[test]
    fn a_promise_is_as_long_as_the_leaders_timeout_or_the_own() {
        let mut promise = Promise::new(300, 0, 1, true);
        promise.heard(1000, 10);
        assert!(promise.binds(1009) && !promise.binds(1010));
        promise.heard(100, 900);
        assert!(promise.binds(1199) && !promise.binds(1200));
        promise.heard(100, 901);
        assert!(promise.binds(1200), "a shorter one never ends what was promised");
    }
}
