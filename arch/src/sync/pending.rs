//! Many reasons, one message.

use std::marker::PhantomData;

use super::atomic::AtomicBool;
use super::{Orders, Sound};

/// Whether a message is under way that nobody has begun to handle. **Promise**: at most one is, and every reason to send one is
/// followed by a handling that begins later and sees what was written before.
#[derive(Debug)]
pub struct Pending<O = Sound> {
    under_way: AtomicBool,
    orders: PhantomData<O>,
}

impl<O: Orders> Pending<O> {
    /// None is under way.
    pub fn new() -> Pending<O> {
        Pending { under_way: AtomicBool::new(false), orders: PhantomData }
    }

    /// There is a reason: whether the caller has to send the message.
    pub fn raise(&self) -> bool {
        !self.under_way.swap(true, O::BOTH)
    }

    /// The message is going to be handled; to be called first.
    pub fn begin(&self) {
        // Not a plain store: that would not see what came with a reason which found the message under way.
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
