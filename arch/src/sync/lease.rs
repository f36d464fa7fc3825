//! A leader's lease: one writer, many readers, no lock on the path of a read.

use std::marker::PhantomData;

use super::atomic::{AtomicU64, Ordering};
use super::{Orders, Sound};

/// The term of a lease and when it ends. **Promise**: a reader that is told a term was told it by the end of that very term's
/// lease, never by another's, however the writer moves on meanwhile.
///
/// Terms only grow. The writer takes the end back before it changes the term, and the reader reads the term, the end and the term
/// again: an end that it saw too early or too late goes with a term that it saw change.
#[derive(Debug)]
pub struct Lease<O = Sound> {
    /// Until when (exclusive, in the clock's nanoseconds); 0: not at all.
    until: AtomicU64,
    /// The term that it belongs to.
    term: AtomicU64,
    orders: PhantomData<O>,
}

impl<O: Orders> Lease<O> {
    /// No lease.
    pub fn none() -> Lease<O> {
        Lease { until: AtomicU64::new(0), term: AtomicU64::new(0), orders: PhantomData }
    }

    /// The lease of `term` (not lower than any before) runs until `until_ns`, exclusive. For the one writer.
    pub fn set(&self, term: u64, until_ns: u64) {
        // Nobody else writes: the own value is seen in any order.
        let before = self.term.load(Ordering::Relaxed);
        if before != term {
            assert!(before < term, "the lease of term {term} after that of term {before}");
            self.until.store(0, O::PUBLISH);
            self.term.store(term, O::PUBLISH);
        }
        self.until.store(until_ns, O::PUBLISH);
    }

    /// No lease any more. For the one writer.
    pub fn revoke(&self) {
        self.until.store(0, O::PUBLISH);
    }

    /// The term of a lease that is valid at `now_ns`, if there is one. The clock must have been read before this is called.
    #[inline]
    pub fn valid(&self, now_ns: u64) -> Option<u64> {
        let term = self.term.load(O::OBSERVE);
        let until = self.until.load(O::OBSERVE);
        (now_ns < until && self.term.load(O::OBSERVE) == term).then_some(term)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_with_its_time_or_its_term() {
        let lease: Lease = Lease::none();
        assert_eq!(lease.valid(0), None);
        lease.set(3, 100);
        assert_eq!((lease.valid(99), lease.valid(100)), (Some(3), None));
        lease.set(3, 200);
        assert_eq!(lease.valid(100), Some(3));
        lease.revoke();
        assert_eq!(lease.valid(100), None);
        lease.set(5, 50);
        assert_eq!((lease.valid(49), lease.valid(100)), (Some(5), None));
    }
}
