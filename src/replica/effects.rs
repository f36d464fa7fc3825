//! Effects of a store's state machines on the store itself, beyond the engine's content: one bounded channel from the
//! driver to the store.
//!
//! **Never**: an effect of something that the engine does not hold yet; a driver that waits for the store. Effects that
//! do not fit into the channel are replaced by one [`StoreEffect::Missed`].

use crate::raft::machine::Effect;
use crate::rt::sync::mpsc;
use crate::types::GroupId;
use crate::types::limits::EFFECTS_PENDING_MAX;

/// A change in a group of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEffect {
    /// The effect of a command that was applied.
    Applied(GroupId, Effect),
    /// The group was started here, or its whole state was replaced: anything may have been written to it.
    Replaced(GroupId),
    /// The channel was full, and effects were dropped: anything may have happened to any group.
    Missed,
}

/// The driver's end of the channel.
#[derive(Debug)]
pub(super) struct Effects {
    channel: mpsc::Sender<StoreEffect>,
    missed: bool,
}

impl Effects {
    /// Creates a channel, and returns its two ends.
    pub fn new() -> (Effects, mpsc::Receiver<StoreEffect>) {
        let (channel, effects) = mpsc::channel(EFFECTS_PENDING_MAX);
        (Effects { channel, missed: false }, effects)
    }

    /// Returns another lane's end of the same channel.
    pub fn share(&self) -> Effects {
        Effects { channel: self.channel.clone(), missed: false }
    }

    /// Sends an effect to the store, which may be gone.
    pub fn send(&mut self, effect: StoreEffect) {
        if self.missed {
            self.missed = self.channel.try_send(StoreEffect::Missed).is_err();
        }
        if !self.missed {
            self.missed = self.channel.try_send(effect).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no effect is lost silently. Method: a channel that is not read for a while.

    use super::*;

    #[test]
    fn effects_that_do_not_fit_become_missed() {
        let (mut effects, mut received) = Effects::new();
        let effect = |group| StoreEffect::Applied(GroupId(group), Effect::WroteExpiring);
        for group in 0..EFFECTS_PENDING_MAX as u64 + 10 {
            effects.send(effect(group));
        }
        for group in 0..EFFECTS_PENDING_MAX as u64 {
            assert_eq!(received.try_recv(), Ok(effect(group)));
        }
        assert!(received.try_recv().is_err(), "reported with the next one");
        effects.send(effect(5));
        assert_eq!((received.try_recv(), received.try_recv()), (Ok(StoreEffect::Missed), Ok(effect(5))));
    }
}
