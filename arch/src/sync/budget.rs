//! A bound on the work in progress.

use super::Arc;
use super::atomic::{AtomicUsize, Ordering};

/// A bound on an amount that is in use at one time. **Promise**: a share is granted only while less than the maximum is
/// in use, so that the amount in use never exceeds the maximum plus one share. A returned share is free at once.
///
/// The counter guards no other data, so only its own modification order matters. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    taken: AtomicUsize,
    max: usize,
}

impl Budget {
    /// Creates a budget of `max` with nothing in use.
    pub fn new(max: usize) -> Budget {
        Budget(Arc::new(Inner { taken: AtomicUsize::new(0), max }))
    }

    /// Returns the amount in use.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Takes `amount`, which is returned when the share is dropped.
    ///
    /// # Errors
    /// Returns the amount in use if that is the maximum or more.
    pub fn take(&self, amount: usize) -> Result<Share, usize> {
        let mut taken = self.0.taken.load(Ordering::Relaxed);
        loop {
            // The amount is checked and added in one step. If it were added first, a refused request could make others
            // be refused.
            if taken >= self.0.max {
                return Err(taken);
            }
            let added = taken.saturating_add(amount);
            match self.0.taken.compare_exchange_weak(taken, added, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Share { budget: self.clone(), amount: added - taken }),
                Err(now) => taken = now,
            }
        }
    }

    /// Checks first and adds later, as hasty code would. The models must detect this race.
    #[cfg(all(test, loom))]
    pub(super) fn take_hastily(&self, amount: usize) -> Result<Share, usize> {
        let taken = self.0.taken.load(Ordering::SeqCst);
        if taken >= self.0.max {
            return Err(taken);
        }
        self.0.taken.fetch_add(amount, Ordering::SeqCst);
        Ok(Share { budget: self.clone(), amount })
    }
}

/// A part of a budget, which is returned when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    amount: usize,
}

impl Share {
    /// Returns the size of the share.
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_passes_the_maximum_is_the_last() {
        let budget = Budget::new(10);
        let first = budget.take(9).expect("there is room");
        let second = budget.take(9).expect("there is still room");
        assert_eq!(budget.take(0).unwrap_err(), 18);
        drop(first);
        assert_eq!(budget.taken(), 9);
        drop((second, budget.take(1)));
        assert_eq!(budget.taken(), 0);
        let all = budget.take(usize::MAX).expect("it never wraps");
        assert!(budget.take(usize::MAX).is_err());
        drop(all);
        assert_eq!(budget.taken(), 0);
    }
}
