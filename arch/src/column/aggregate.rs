//! Count, sum, minimum and maximum of the rows of a set.

use super::Bitmap;
use crate::{dispatch, kernels::run};

/// How many rows are in the set.
pub fn count(rows: &Bitmap) -> usize {
    run::count(dispatch::active(), rows.words())
}

/// The sum over `rows`; it cannot overflow.
///
/// # Panics
/// When `rows` has not one row a value, here and below.
pub fn sum_i64(values: &[i64], rows: &Bitmap) -> i128 {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::sum_i64(dispatch::active(), values, rows.words())
}

/// The smallest value of `rows`; `None` when there are no rows.
pub fn min_i64(values: &[i64], rows: &Bitmap) -> Option<i64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::min_i64(dispatch::active(), values, rows.words())
}

/// The largest value of `rows`; `None` when there are no rows.
pub fn max_i64(values: &[i64], rows: &Bitmap) -> Option<i64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::max_i64(dispatch::active(), values, rows.words())
}

/// The sum over `rows` of one chunk: [`SumF64`] with one chunk.
pub fn sum_f64(values: &[f64], rows: &Bitmap) -> f64 {
    let mut sum = SumF64::new();
    sum.add(values, rows);
    sum.total()
}

/// The smallest number of `rows`, NaNs left out, -0.0 below 0.0; `None` when there is none.
pub fn min_f64(values: &[f64], rows: &Bitmap) -> Option<f64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::min_f64(dispatch::active(), values, rows.words())
}

/// The largest number of `rows`, NaNs left out, -0.0 below 0.0; `None` when there is none.
pub fn max_f64(values: &[f64], rows: &Bitmap) -> Option<f64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::max_f64(dispatch::active(), values, rows.words())
}

/// A sum of `f64` in one order of additions, the same on every machine.
///
/// Eight lanes start at 0.0. Row `i` of a chunk is added to lane `i % 8`, in ascending order of `i`; chunks follow each other.
/// The total is ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)). So the bits of the result follow from the values, the rows
/// and the boundaries of the chunks alone.
#[derive(Clone, Debug, Default)]
pub struct SumF64 {
    lanes: [f64; 8],
}

impl SumF64 {
    /// Nothing added.
    pub fn new() -> SumF64 {
        SumF64::default()
    }

    /// Adds the values of `rows` of the next chunk.
    ///
    /// # Panics
    /// When `rows` has not one row a value.
    pub fn add(&mut self, values: &[f64], rows: &Bitmap) {
        assert_eq!(values.len(), rows.len(), "one row a value");
        run::sum_f64(dispatch::active(), &mut self.lanes, values, rows.words());
    }

    /// The sum of what was added; 0.0 for nothing.
    pub fn total(&self) -> f64 {
        let l = &self.lanes;
        let total = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        // Which NaN an addition gives differs between processors.
        if total.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { total }
    }
}
