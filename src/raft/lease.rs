//! Leases: the leader's right to serve reads without asking a quorum, and the voters' promises that make this safe.
//!
//! A follower that heard from its leader at time *h* (on its own clock) does not vote before *h* + election timeout.
//! This is the leader's timeout, which its messages carry, or the follower's own if that is longer: nodes may be
//! configured differently, as they are while a cluster is being reconfigured. A restarted voter no longer knows which
//! leader it heard, so from its start it keeps the longest promise that its store ever made. So when a quorum has
//! answered a message that the leader sent at *s* (on the leader's clock), no other leader can be elected before *s* +
//! the leader's election timeout, up to the drift between the clocks: the leader serves reads by itself until *s* +
//! election timeout × (1 - drift).
//!
//! A machine that is suspended together with its clock (as a virtual one may be) loses more time than any drift: its
//! leases last longer than its followers' promises. It can detect this only by other machines' clocks, with the first
//! message that it receives afterwards (`replica::transport::clocks`), and revokes its leases then; until then it may
//! serve stale reads. Where machines are suspended while they run, leases must be switched off (`raft.lease_reads`).
//!
//! A leadership transfer causes a vote that ignores promises, at a time that the old leader cannot know (the order to
//! campaign may be in flight for long). A leader that has started a transfer therefore takes no lease for the rest of
//! its term.

/// The leader's lease.
#[derive(Debug, Default)]
pub struct Lease {
    length_ns: u64,
    term: u64,
    until: u64,
    forfeited: bool,
    /// Messages sent before this time do not renew the lease.
    not_before: u64,
}

impl Lease {
    /// Creates the lease for a group whose followers wait `election_ns` before they vote, with clocks that drift apart
    /// by at most `drift_permille`.
    pub fn new(election_ns: u64, drift_permille: u64) -> Lease {
        let kept = if crate::mutant!("raft.lease-ignores-drift") { 1000 } else { 1000 - drift_permille };
        Lease { length_ns: election_ns / 1000 * kept, ..Lease::default() }
    }

    /// Renews the lease: a quorum has answered a message sent at `sent_ns` in `term`.
    pub fn renew(&mut self, term: u64, sent_ns: u64) {
        if self.term != term {
            *self = Lease { term, until: 0, forfeited: false, ..*self };
        }
        if !self.forfeited && sent_ns >= self.not_before && !crate::buggify!("raft.lease-not-renewed") {
            self.until = self.until.max(sent_ns + self.length_ns);
        }
    }

    /// Gives the lease up for the rest of `term`, because a transfer starts.
    pub fn forfeit(&mut self, term: u64) {
        if !crate::mutant!("raft.lease-kept-in-transfer") {
            *self = Lease { term, until: 0, forfeited: true, ..*self };
        }
    }

    /// Drops the lease because the clock lost time before `now_ns`: only messages sent from now on renew it.
    pub fn begin_again(&mut self, now_ns: u64) {
        (self.until, self.not_before) = (0, now_ns);
    }

    /// Returns when the lease of `term` ends (exclusive), or 0 if there is none.
    pub fn until(&self, term: u64) -> u64 {
        if self.term == term { self.until } else { 0 }
    }
}

/// The voter's promise to the leader that it last heard.
#[derive(Debug)]
pub struct Promise {
    /// The voter's own election timeout, which is the shortest promise.
    election_ns: u64,
    /// When the promise ends (exclusive); 0 if there is none.
    until_ns: u64,
}

impl Promise {
    /// Creates the promise of a voter that starts at `start_ns`. `longest_ns` is the longest promise that this store
    /// ever made: a restarted voter does not know which leader it last heard. With `fresh`, the peer has never voted
    /// nor heard a leader, and nothing binds it.
    pub fn new(election_ns: u64, longest_ns: u64, start_ns: u64, fresh: bool) -> Promise {
        let free = fresh || crate::mutant!("raft.vote-after-restart");
        let length_ns = promised(election_ns, longest_ns);
        Promise { election_ns, until_ns: if free { 0 } else { start_ns + length_ns } }
    }

    /// Extends the promise: a leader with the election timeout `leader_election_ns` was heard. The leader's lease
    /// depends on its own configuration, not on this voter's.
    pub fn heard(&mut self, leader_election_ns: u64, now_ns: u64) {
        self.until_ns = self.until_ns.max(now_ns + promised(self.election_ns, leader_election_ns));
    }

    /// Returns whether the promise still binds.
    pub fn binds(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// Returns for how long the promise still binds, in nanoseconds.
    pub fn left_ns(&self, now_ns: u64) -> u64 {
        self.until_ns.saturating_sub(now_ns)
    }
}

/// Returns the length of a promise to a leader whose election timeout is `theirs_ns`.
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
        assert_eq!(lease.until(7), 5_800_000_000, "an older response never shortens the lease");
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
        assert_eq!(lease.until(7), 0, "a response to an earlier message");
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
        assert!(promise.binds(1200), "a shorter timeout never shortens the promise");
    }
}
