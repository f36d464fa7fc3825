//! # scalar: the reference
//!
//! Each kernel once more, as plainly as it can be said: a byte or a row at a time, no tricks, always compiled. The tests
//! compare every tier with these, the benches measure against these, and the tier `scalar` runs nothing else.

mod column;

pub use column::{compare_f64, compare_i64, count, find, max_f64, max_i64, min_f64, min_i64, sum_f64, sum_i64};
