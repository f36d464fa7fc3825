//! Facts of the protocol that the store reports to the simulator as they happen. In the real world nothing receives
//! them and the calls compile to nothing.
//!
//! The events go into the running digest (two runs of a seed must agree on every event) and to the online oracles.

pub use super::event::Event;

/// Whether events are received: `false` in the real world, where callers can skip collecting facts.
pub const LISTENING: bool = cfg!(madsim);

/// Reports a fact.
#[cfg(not(madsim))]
#[inline(always)]
pub fn emit(_event: impl FnOnce() -> Event) {}

/// Reports a fact.
#[cfg(madsim)]
pub fn emit(event: impl FnOnce() -> Event) {
    super::sim::emit(event());
}
