//! # column: predicates and aggregates over chunks
//!
//! **In** come the values of one chunk, column by column, and a [`Bitmap`] of the rows to consider (valid values, or
//! the rows that earlier predicates selected); **out** goes a bitmap of rows or one number. **Never**: a result that
//! depends on the machine, the tier or the alignment. Sums of `f64` add in one lane order everywhere ([`SumF64`]), sums
//! of `i64` cannot overflow (`i128`), and the order of `f64` is defined for every bit pattern, as follows.
//!
//! - Comparisons ([`compare_f64`]) are IEEE 754's: -0.0 equals 0.0; a NaN equals nothing, and only `Ne` holds for it.
//! - Minimum and maximum ignore NaNs; between the zeros -0.0 is the smaller, so that the result does not depend on
//!   order.
//! - A sum that is not a number is the one quiet NaN 0x7ff8000000000000; a sum of negative zeros is 0.0.
//!
//! A chunk has a few hundred to a few thousand rows: enough to amortize the call, few enough to stay in the first-level
//! cache.

mod aggregate;
mod bitmap;
mod bytes;
mod compare;

pub use aggregate::{SumF64, count, max_f64, max_i64, min_f64, min_i64, sum_f64, sum_i64};
pub use bitmap::{Bitmap, Rows};
pub use bytes::{compare_bytes, in_set, starts_with};
pub use compare::{compare_f64, compare_i64};

pub use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};
