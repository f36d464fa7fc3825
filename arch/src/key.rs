//! # key: where two keys part
//!
//! **In** come two byte strings, **out** goes a length. The order of two keys is that of slices, which is the C library's
//! `memcmp`: nothing here was faster.

use crate::{dispatch, kernels::run};

/// The length of the longest common prefix, in bytes.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    run::common_prefix(dispatch::active(), a, b)
}
