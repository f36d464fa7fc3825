//! A flag that merges many reasons into one message.

use std::marker::PhantomData;

use super::atomic::AtomicBool;
use super::{Orders, Sound};

/// Whether a message is in flight that is not being handled yet. **Promise**: there is at most one, and every reason to
/// send one is followed by a handling that begins later and sees everything written before.
#[derive(Debug)]
pub struct Pending<O = Sound> {
    under_way: AtomicBool,
    orders: PhantomData<O>,
}

impl<O: Orders> Pending<O> {
    /// Creates a flag with no message in flight.
    pub fn new() -> Pending<O> {
        Pending { under_way: AtomicBool::new(false), orders: PhantomData }
    }

    /// Adds a reason. Returns whether the caller has to send the message.
    pub fn raise(&self) -> bool {
        !self.under_way.swap(true, O::BOTH)
    }

    /// Marks the start of the message's handling. The handler must call this first.
    pub fn begin(&self) {
        // A plain store would not see the data of a reason that found the message in flight.
        self.under_way.swap(false, O::BOTH);
    }
}

impl<O: Orders> Default for Pending<O> {
    fn default() -> Pending<O> {
        Pending::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_message_at_a_time() {
        let pending: Pending = Pending::new();
        assert!(pending.raise());
        assert!(!pending.raise());
        pending.begin();
        assert!(pending.raise());
    }
}
