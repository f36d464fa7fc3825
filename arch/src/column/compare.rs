//! Numbers against a constant.

use std::cmp::Ordering;

use super::Bitmap;
use crate::{dispatch, kernels::run};

/// A comparison: the value stands left, the constant right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

impl Cmp {
    /// All of them.
    pub const ALL: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];

    /// Whether the comparison holds for values in this order; `None` is what IEEE 754 calls unordered.
    pub fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Cmp::Eq => order == Some(Ordering::Equal),
            Cmp::Ne => order != Some(Ordering::Equal),
            Cmp::Lt => order == Some(Ordering::Less),
            Cmp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Cmp::Gt => order == Some(Ordering::Greater),
            Cmp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

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
