//! Numbers against a constant.

use super::Bitmap;
use crate::operands::Cmp;
use crate::{dispatch, kernels::run};

/// The rows of `valid` whose value stands in `cmp` to `rhs`. `out` is overwritten.
///
/// # Panics
/// When `valid` has not one row a value.
pub fn compare_i64(values: &[i64], valid: &Bitmap, cmp: Cmp, rhs: i64, out: &mut Bitmap) {
    assert_eq!(values.len(), valid.len(), "one row a value");
    run::compare_i64(dispatch::active(), values, valid.words(), cmp, rhs, out.reset(values.len()));
}

/// The rows of `valid` whose value stands in `cmp` to `rhs`, as IEEE 754 compares. `out` is overwritten.
///
/// # Panics
/// When `valid` has not one row a value.
pub fn compare_f64(values: &[f64], valid: &Bitmap, cmp: Cmp, rhs: f64, out: &mut Bitmap) {
    assert_eq!(values.len(), valid.len(), "one row a value");
    run::compare_f64(dispatch::active(), values, valid.words(), cmp, rhs, out.reset(values.len()));
}
