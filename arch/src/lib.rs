//! # arch: kernels
//!
//! **In** come byte slices and columns, **out** go numbers, encodings and sets of rows; no dependency on the rest of
//! Armilla. **Never**: a result that depends on the machine, the tier or the alignment; an access outside the slices
//! given.
//!
//! ```text
//!   checksum  memcomparable  key  index  column       what the store calls: safe functions, one tier for the process
//!        \          |         |     |     /
//!         +-----  kernels: one table of every kernel and its forms  ----+---- dispatch: which tier, decided once
//!              /         |                \
//!       scalar        portable      x86_64 (sse42, avx2)   aarch64 (neon)
//!    the reference       \                |                 /
//!                         +--- generic: each algorithm once, over a register of unknown width
//! ```
//! A kernel is here because the store calls it. It has a form for an instruction set only if that form is faster: on
//! x86-64 as measured (`benches/arch.rs`), on ARM as predicted (`benches/mca.py`); `docs/performance.md`, "Kernels",
//! has both tables. Where a well-maintained crate is as fast, a function here calls that crate.
//!
//! [`sync`] has the store's few atomic protocols, whose faults depend on the machine as well.

pub mod checksum;
pub mod column;
pub mod dispatch;
mod few;
mod format;
mod generic;
pub mod index;
mod kernels;
pub mod key;
pub mod memcomparable;
mod operands;
mod portable;
pub mod scalar;
mod short;
pub mod sync;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod tests;

pub use checksum::{crc32c, crc32c_append, crc64};
pub use dispatch::features;
pub use index::KeyIndex;
pub use kernels::{Kernel, kernels, run};
