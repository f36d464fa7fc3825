//! The largest timestamp of any read, and writes that must commit above it.

use std::marker::PhantomData;

use super::atomic::{AtomicU64, AtomicUsize};
use super::{Orders, Sound};

/// The ceiling of all reads so far. **Promise**: if a reader raises it to `at` and then sees no guard, every writer
/// that enters later sees a ceiling of at least `at`. So either the reader learns that it must look for a writer's
/// locks, or the writer commits above the reader's timestamp.
#[derive(Debug)]
pub struct Ceiling<O = Sound> {
    highest: AtomicU64,
    guards: AtomicUsize,
    orders: PhantomData<O>,
}

impl<O: Orders> Ceiling<O> {
    /// Creates a ceiling that nothing has raised.
    pub fn new() -> Ceiling<O> {
        Ceiling { highest: AtomicU64::new(0), guards: AtomicUsize::new(0), orders: PhantomData }
    }

    /// Raises the ceiling to a read's timestamp. Returns whether a writer may be between its guards and its write.
    pub fn raise(&self, at: u64) -> bool {
        self.highest.fetch_max(at, O::BOTH);
        self.is_guarded()
    }

    /// Returns whether a writer may be between its guards and its write. For a read that raises nothing.
    pub fn is_guarded(&self) -> bool {
        // An exchange, not a load: it is before or after each writer's in one order of all of them.
        self.guards.fetch_add(0, O::BOTH) != 0
    }

    /// Adds a writer's guards, and returns the ceiling above which it must commit.
    pub fn enter(&self, guards: usize) -> u64 {
        self.guards.fetch_add(guards, O::BOTH);
        self.highest.fetch_max(0, O::BOTH)
    }

    /// Removes a writer's guards.
    pub fn leave(&self, guards: usize) {
        self.guards.fetch_sub(guards, O::BOTH);
    }

    /// Returns the ceiling. For display.
    pub fn highest(&self) -> u64 {
        self.highest.load(O::OBSERVE)
    }
}

impl<O: Orders> Default for Ceiling<O> {
    fn default() -> Ceiling<O> {
        Ceiling::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reads_raise_it_and_writers_see_it() {
        let ceiling: Ceiling = Ceiling::new();
        assert!(!ceiling.raise(7) && !ceiling.raise(5));
        assert_eq!(ceiling.enter(2), 7);
        assert!(ceiling.raise(9) && ceiling.is_guarded());
        ceiling.leave(2);
        assert!(!ceiling.is_guarded());
        assert_eq!(ceiling.highest(), 9);
    }
}
