//! A bound on what is under way.

use super::Arc;
use super::atomic::{AtomicUsize, Ordering};

/// An amount that may be under way at one time. **Promise**: a share is given only while less than the maximum is taken, so never
/// more than the maximum and one share are; what is given back is free at once.
///
/// The counter carries no other data: its own order is all that counts. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    taken: AtomicUsize,
    max: usize,
}

impl Budget {
    /// Nothing taken of `max`.
    pub fn new(max: usize) -> Budget {
        Budget(Arc::new(Inner { taken: AtomicUsize::new(0), max }))
    }

    /// How much is taken.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Takes `amount`, given back when the share is dropped.
    ///
    /// # Errors
    /// What was taken already, when that is the maximum or more.
    pub fn take(&self, amount: usize) -> Result<Share, usize> {
        let mut taken = self.0.taken.load(Ordering::Relaxed);
        loop {
            // Seen and added in one step: with an addition first, one that is refused could make others refused.
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

    /// Looks first and adds later, as one would write it in a hurry: for the models, which have to catch it.
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

/// A part of a budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    amount: usize,
}

impl Share {
    /// How much it is.
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
