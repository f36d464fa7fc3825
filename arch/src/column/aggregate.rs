//! Count, sum, minimum and maximum of the rows of a set.

use super::Bitmap;
use crate::{dispatch, kernels::run};

/// Returns the number of rows in the set.
pub fn count(rows: &Bitmap) -> usize {
    run::count(dispatch::active(), rows.words())
}

/// Returns the sum over `rows`, which cannot overflow.
///
/// # Panics
/// This function and those below panic if `rows` does not have one row per value.
pub fn sum_i64(values: &[i64], rows: &Bitmap) -> i128 {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::sum_i64(dispatch::active(), values, rows.words())
}

/// Returns the smallest value of `rows`; `None` if there are no rows.
pub fn min_i64(values: &[i64], rows: &Bitmap) -> Option<i64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::min_i64(dispatch::active(), values, rows.words())
}

/// Returns the largest value of `rows`; `None` if there are no rows.
pub fn max_i64(values: &[i64], rows: &Bitmap) -> Option<i64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::max_i64(dispatch::active(), values, rows.words())
}

/// Returns the sum over `rows` of a single chunk, as [`SumF64`] computes it.
pub fn sum_f64(values: &[f64], rows: &Bitmap) -> f64 {
    let mut sum = SumF64::new();
    sum.add(values, rows);
    sum.total()
}

/// Returns the smallest number of `rows`, ignoring NaNs, with -0.0 below 0.0; `None` if there is none.
pub fn min_f64(values: &[f64], rows: &Bitmap) -> Option<f64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::min_f64(dispatch::active(), values, rows.words())
}

/// Returns the largest number of `rows`, ignoring NaNs, with -0.0 below 0.0; `None` if there is none.
pub fn max_f64(values: &[f64], rows: &Bitmap) -> Option<f64> {
    assert_eq!(values.len(), rows.len(), "one row a value");
    run::max_f64(dispatch::active(), values, rows.words())
}

/// A sum of `f64` in one order of additions, the same on every machine.
///
/// Eight lanes start at 0.0. Row `i` of a chunk is added to lane `i % 8`, in ascending order of `i`; chunks follow each
/// other. The total is ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)). The bits of the result therefore depend only
/// on the values, the rows and the boundaries of the chunks.
#[derive(Clone, Debug, Default)]
pub struct SumF64 {
    lanes: [f64; 8],
}

impl SumF64 {
    /// Creates an empty sum.
    pub fn new() -> SumF64 {
        SumF64::default()
    }

    /// Adds the values of `rows` of the next chunk.
    ///
    /// # Panics
    /// Panics if `rows` does not have one row per value.
    pub fn add(&mut self, values: &[f64], rows: &Bitmap) {
        assert_eq!(values.len(), rows.len(), "one row a value");
        run::sum_f64(dispatch::active(), &mut self.lanes, values, rows.words());
    }

    /// Returns the sum of all added values; 0.0 for none.
    pub fn total(&self) -> f64 {
        let l = &self.lanes;
        let total = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        // Processors differ in the NaN that an addition returns.
        if total.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { total }
    }
}
