//! What the state machines of a store tell it, beyond the engine's content: one bounded channel from the driver to the store.
//!
//! **Never**: an effect of something that the engine does not hold yet; a driver that waits for the store. What does not fit is
//! told in one word, [`StoreEffect::Missed`].

use crate::raft::machine::Effect;
use crate::rt::sync::mpsc;
use crate::types::GroupId;
use crate::types::limits::EFFECTS_PENDING_MAX;

/// One thing that happened to a group of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEffect {
    /// What applying a command of the group meant.
    Applied(GroupId, Effect),
    /// The group began here, or its whole state was replaced: anything may have been written to it.
    Replaced(GroupId),
    /// More happened than was taken from the channel: anything may have happened to any group.
    Missed,
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Effects {
    channel: mpsc::Sender<StoreEffect>,
    missed: bool,
}

impl Effects {
    /// A channel, and the store's end of it.
    pub fn new() -> (Effects, mpsc::Receiver<StoreEffect>) {
        let (channel, effects) = mpsc::channel(EFFECTS_PENDING_MAX);
        (Effects { channel, missed: false }, effects)
    }

    /// Another lane's end of the same channel.
    pub fn share(&self) -> Effects {
        Effects { channel: self.channel.clone(), missed: false }
    }

    /// Tells the store, which may be gone.
    pub fn tell(&mut self, effect: StoreEffect) {
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
    //! Goal: nothing is lost without a word. Method: a channel that nobody empties for a while.

    use super::*;

    #[test]
    fn what_does_not_fit_is_told_in_one_word() {
        let (mut effects, mut told) = Effects::new();
        let effect = |group| StoreEffect::Applied(GroupId(group), Effect::WroteExpiring);
        for group in 0..EFFECTS_PENDING_MAX as u64 + 10 {
            effects.tell(effect(group));
        }
        for group in 0..EFFECTS_PENDING_MAX as u64 {
            assert_eq!(told.try_recv(), Ok(effect(group)));
        }
        assert!(told.try_recv().is_err(), "said with the next one");
        effects.tell(effect(5));
        assert_eq!((told.try_recv(), told.try_recv()), (Ok(StoreEffect::Missed), Ok(effect(5))));
    }
}
