//! # sync: every atomic protocol of the store
//!
//! **In** comes a fact that one task must tell another without a lock, **out** goes the guarantee that the other may
//! rely on. **Never**: a guarantee that only strongly ordered machines give. x86-64 hides a missing release or acquire,
//! and so does aarch64 emulated on it. Each protocol here is therefore one small type that a model checks over every
//! ordering that the memory model allows (`cargo loom`). Each model also runs the same protocol with the ordering
//! removed (or a race added) and must detect it.
//!
//! The rest of the store uses locks and channels, and atomics only as plain statistics, which guard no other data.

mod budget;
mod ceiling;
mod lease;
#[cfg(all(test, loom))]
mod loom_models;
mod pending;

pub use budget::{Budget, Share};
pub use ceiling::Ceiling;
pub use lease::Lease;
pub use pending::Pending;

use std::sync::atomic::Ordering;

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, atomic};

/// The memory orderings of a protocol. The store uses [`Sound`]; the models also plant wrong ones.
pub trait Orders {
    /// Ordering of a store that other threads act on.
    const PUBLISH: Ordering;
    /// Ordering of a load whose result is acted on.
    const OBSERVE: Ordering;
    /// Ordering of an exchange that does both.
    const BOTH: Ordering;
}

/// The orderings release, acquire, and both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sound;

impl Orders for Sound {
    const PUBLISH: Ordering = Ordering::Release;
    const OBSERVE: Ordering = Ordering::Acquire;
    const BOTH: Ordering = Ordering::AcqRel;
}
