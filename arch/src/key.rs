//! # key: the common prefix of two keys
//!
//! **In** come two byte strings, **out** goes a length. Keys are ordered by comparing slices, which is the C library's
//! `memcmp`; no kernel here was faster.

use crate::{dispatch, kernels::run};

/// Returns the length of the longest common prefix, in bytes.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    run::common_prefix(dispatch::active(), a, b)
}
