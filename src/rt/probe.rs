//! What the store tells its simulator: protocol facts, as they happen. Nothing listens in the real world and the calls vanish.
//!
//! The events feed the running digest (two runs of a seed must agree on every one) and the online oracles.

pub use super::event::Event;

/// Whether anybody listens: false in the real world, where callers may skip the work of collecting facts.
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
