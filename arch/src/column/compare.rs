//! Comparisons of numbers with a constant.

use super::Bitmap;
use crate::operands::Cmp;
use crate::{dispatch, kernels::run};

/// Selects the rows of `valid` for which `value cmp rhs` holds. Overwrites `out`.
///
/// # Panics
/// Panics if `valid` does not have one row per value.
pub fn compare_i64(values: &[i64], valid: &Bitmap, cmp: Cmp, rhs: i64, out: &mut Bitmap) {
    assert_eq!(values.len(), valid.len(), "one row a value");
    run::compare_i64(dispatch::active(), values, valid.words(), cmp, rhs, out.reset(values.len()));
}

/// Selects the rows of `valid` for which `value cmp rhs` holds by the rules of IEEE 754. Overwrites `out`.
///
/// # Panics
/// Panics if `valid` does not have one row per value.
pub fn compare_f64(values: &[f64], valid: &Bitmap, cmp: Cmp, rhs: f64, out: &mut Bitmap) {
    assert_eq!(values.len(), valid.len(), "one row a value");
    run::compare_f64(dispatch::active(), values, valid.words(), cmp, rhs, out.reset(values.len()));
}
