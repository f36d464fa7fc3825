//! # scalar: the reference
//!
//! Each kernel in its plainest form: a byte or a row at a time, without tricks, always compiled. The tests compare
//! every tier with these, the benchmarks measure against these, and the tier `scalar` runs nothing else.

mod checksum;
mod column;
mod key;

pub(crate) use checksum::table64;
pub use checksum::{crc32c, crc64};
pub use column::{
    compare_bytes, compare_f64, compare_i64, count, find, in_set, max_f64, max_i64, min_f64, min_i64, starts_with,
    sum_f64, sum_i64,
};
pub use key::{common_prefix, decode, encode};
