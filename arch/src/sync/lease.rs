//! A leader's lease: one writer and many readers; reads take no lock.

use std::marker::PhantomData;

use super::atomic::{AtomicU64, Ordering};
use super::{Orders, Sound};

/// The term of a lease and its end. **Promise**: a reader that gets a term got it before the end of that term's own
/// lease, never by another term's end, whatever the writer does meanwhile.
///
/// Terms only grow. The writer clears the end before it changes the term, and the reader reads the term, the end, and
/// the term again: if the end belongs to another term, the reader sees the term change.
#[derive(Debug)]
pub struct Lease<O = Sound> {
    /// The exclusive end of the lease, in the clock's nanoseconds; 0: no lease.
    until: AtomicU64,
    /// The term of the lease.
    term: AtomicU64,
    orders: PhantomData<O>,
}

impl<O: Orders> Lease<O> {
    /// Creates an invalid lease.
    pub fn none() -> Lease<O> {
        Lease { until: AtomicU64::new(0), term: AtomicU64::new(0), orders: PhantomData }
    }

    /// Sets the lease of `term`, which must not be lower than any before, to end at `until_ns` (exclusive). Only for
    /// the one writer.
    pub fn set(&self, term: u64, until_ns: u64) {
        // No other thread writes, so the own value is visible with any ordering.
        let before = self.term.load(Ordering::Relaxed);
        if before != term {
            assert!(before < term, "the lease of term {term} after that of term {before}");
            self.until.store(0, O::PUBLISH);
            self.term.store(term, O::PUBLISH);
        }
        self.until.store(until_ns, O::PUBLISH);
    }

    /// Revokes the lease. Only for the one writer.
    pub fn revoke(&self) {
        self.until.store(0, O::PUBLISH);
    }

    /// Returns the term of the lease if it is valid at `now_ns`. The clock must have been read before the call.
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
