//! Predicates on columns of byte strings.

use super::Bitmap;
use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};
use crate::{dispatch, kernels::run};

/// The rows of `valid` whose string stands in `cmp` to `rhs`, in the order of unsigned bytes. `out` is overwritten.
///
/// # Panics
/// When `valid` has not one row a string, here and below.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &Bitmap, cmp: Cmp, rhs: &[u8], out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::compare_bytes(dispatch::active(), column, valid.words(), cmp, rhs, out.reset(column.len()));
}

/// The rows of `valid` whose string begins with `prefix`. `out` is overwritten.
pub fn starts_with(column: BytesColumn<'_>, valid: &Bitmap, prefix: &[u8], out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::starts_with(dispatch::active(), column, valid.words(), prefix, out.reset(column.len()));
}

/// The rows of `valid` whose string is in `set`. `out` is overwritten.
pub fn in_set(column: BytesColumn<'_>, valid: &Bitmap, set: &BytesSet, out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::in_set(dispatch::active(), column, valid.words(), set, out.reset(column.len()));
}

impl Needle {
    /// Whether it stands anywhere in `haystack`.
    #[inline]
    pub fn is_in(&self, haystack: &[u8]) -> bool {
        self.find(haystack).is_some()
    }

    /// Where it first stands in `haystack`.
    #[inline]
    pub fn find(&self, haystack: &[u8]) -> Option<usize> {
        run::find(dispatch::active(), haystack, self)
    }
}
