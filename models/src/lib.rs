//! # models: what the protocols of regions and transactions may never do, searched exhaustively
//!
//! One file a protocol, in plain Rust: its state, its steps, its invariants, and a list of flaws, each of which
//! leaves one rule of the design out. **In** come bounds (stores, crashes, terms); **out** goes a
//! [`search::Outcome`]: every state within the bounds was seen and every property held, or a shortest way to a state
//! that breaks one. **Never**: a clock, a random number or anything of the store. The models say what the store has
//! to do; the simulator shows that it does it.
//!
//! The design is that of issue 12 (`REGIONS.md`); sections and the invariants I1 to I10 are quoted by its numbers.
//! docs/models.md repeats the invariants.
//!
//! Each design must hold, and must fail without any one of its rules: a rule that nothing needs is struck or
//! explained. `cargo models` runs them (docs/models.md).

pub mod birth;
pub mod collection;
pub mod commit;
pub mod elsewhere;
pub mod fence;
pub mod lease;
pub mod list;
pub mod membership;
pub mod merge;
pub mod newborn;
pub mod protocol;
pub mod reads;
pub mod search;
pub mod sleep;

use protocol::Protocol;

/// Every model, in reading order.
pub const PROTOCOLS: &[&Protocol] = &[
    &birth::PROTOCOL,
    &newborn::PROTOCOL,
    &merge::PROTOCOL,
    &membership::PROTOCOL,
    &lease::PROTOCOL,
    &sleep::PROTOCOL,
    &reads::PROTOCOL,
    &fence::PROTOCOL,
    &commit::PROTOCOL,
    &elsewhere::PROTOCOL,
    &collection::PROTOCOL,
];
