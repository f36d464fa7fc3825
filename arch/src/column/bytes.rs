//! Predicates on columns of byte strings.

use super::Bitmap;
use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};
use crate::{dispatch, kernels::run};

/// Selects the rows of `valid` for which `string cmp rhs` holds, in the order of unsigned bytes. Overwrites `out`.
///
/// # Panics
/// This function and those below panic if `valid` does not have one row per string.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &Bitmap, cmp: Cmp, rhs: &[u8], out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::compare_bytes(dispatch::active(), column, valid.words(), cmp, rhs, out.reset(column.len()));
}

/// Selects the rows of `valid` whose string begins with `prefix`. Overwrites `out`.
pub fn starts_with(column: BytesColumn<'_>, valid: &Bitmap, prefix: &[u8], out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::starts_with(dispatch::active(), column, valid.words(), prefix, out.reset(column.len()));
}

/// Selects the rows of `valid` whose string is in `set`. Overwrites `out`.
pub fn in_set(column: BytesColumn<'_>, valid: &Bitmap, set: &BytesSet, out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::in_set(dispatch::active(), column, valid.words(), set, out.reset(column.len()));
}

impl Needle {
    /// Returns whether `haystack` contains the string.
    #[inline]
    pub fn is_in(&self, haystack: &[u8]) -> bool {
        self.find(haystack).is_some()
    }

    /// Returns the position at which `haystack` first contains the string.
    #[inline]
    pub fn find(&self, haystack: &[u8]) -> Option<usize> {
        run::find(dispatch::active(), haystack, self)
    }
}
