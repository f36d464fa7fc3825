//! # key: where two keys part
//!
//! **In** come two byte strings, **out** goes a length or an order: that of unsigned bytes, a prefix first.

use std::cmp::Ordering;

use crate::{dispatch, kernels::run};

/// The length of the longest common prefix, in bytes.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    run::common_prefix(dispatch::active(), a, b)
}

/// The order of `a` and `b` as far as their first `limit` bytes decide it.
///
/// This is the comparison of slices, which is the C library's `memcmp` (not yet measured against one over [`common_prefix`]).
#[inline]
pub fn compare(a: &[u8], b: &[u8], limit: usize) -> Ordering {
    a[..a.len().min(limit)].cmp(&b[..b.len().min(limit)])
}
