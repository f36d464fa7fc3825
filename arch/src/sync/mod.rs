//! # sync: every atomic protocol of the store
//!
//! **In** comes what one task has to tell another without a lock, **out** goes what the other may rely on. **Never**: an order that
//! only a strong machine gives. x86-64 hides a missing release or acquire, and so does aarch64 emulated on it, so each protocol
//! here is one small type that is checked by a model over every order that the memory model allows (`cargo loom`). Each model is
//! also shown the same protocol with the order taken out (or the race put in) and has to catch it.
//!
//! The rest of the store uses locks and channels, and atomics only as plain figures, which carry no other data.

mod budget;
mod lease;
#[cfg(all(test, loom))]
mod loom_models;
mod pending;

pub use budget::{Budget, Share};
pub use lease::Lease;
pub use pending::Pending;

use std::sync::atomic::Ordering;

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, atomic};

/// The orders that a protocol is built with. The store uses [`Sound`]; the models also plant a wrong one.
pub trait Orders {
    /// Of a store that others act on.
    const PUBLISH: Ordering;
    /// Of the load that acts on it.
    const OBSERVE: Ordering;
    /// Of an exchange that does both.
    const BOTH: Ordering;
}

/// Release, acquire, and both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sound;

impl Orders for Sound {
    const PUBLISH: Ordering = Ordering::Release;
    const OBSERVE: Ordering = Ordering::Acquire;
    const BOTH: Ordering = Ordering::AcqRel;
}
