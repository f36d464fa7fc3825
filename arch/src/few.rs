//! # few: columns of a few rows
//!
//! Used by every tier but the reference. Up to [`ROWS`] numbers take less time than the call of a form would, and a
//! register of four of them would be half empty. Columns of few strings use the reference.

pub(crate) use crate::scalar::{compare_bytes, in_set, starts_with};

/// The maximum number of numbers.
pub(crate) const ROWS: usize = 8;
/// The maximum number of strings.
pub(crate) const STRINGS: usize = 5;

/// Calls `one` with each row in the set and its value, in ascending order of rows.
#[inline(always)]
fn each<T: Copy>(values: &[T], rows: &[u64], mut one: impl FnMut(usize, T)) {
    assert!(rows.len() == values.len().div_ceil(64), "a bit a row");
    let Some(rows) = rows.first() else { return };
    let all = !0 >> (64 - values.len());
    let mut left = rows & all;
    if left == all {
        // The compiler can unroll this loop.
        return values.iter().enumerate().for_each(|(at, value)| one(at, *value));
    }
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        one(at, values[at]);
        left &= left - 1;
    }
}

#[inline]
pub(crate) fn sum_i64(values: &[i64], rows: &[u64]) -> i128 {
    let mut sum = 0;
    each(values, rows, |_, value| sum += i128::from(value));
    sum
}

#[inline]
pub(crate) fn sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]) {
    each(values, rows, |at, value| lanes[at % 8] += value);
}

#[inline]
pub(crate) fn min_i64(values: &[i64], rows: &[u64]) -> Option<i64> {
    let (mut least, mut any) = (i64::MAX, false);
    each(values, rows, |_, value| (least, any) = (least.min(value), true));
    any.then_some(least)
}

#[inline]
pub(crate) fn max_i64(values: &[i64], rows: &[u64]) -> Option<i64> {
    let (mut most, mut any) = (i64::MIN, false);
    each(values, rows, |_, value| (most, any) = (most.max(value), true));
    any.then_some(most)
}

/// Converts the bits of a number to an integer in IEEE 754's total order, and back.
#[inline(always)]
fn ordered(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline]
pub(crate) fn min_f64(values: &[f64], rows: &[u64]) -> Option<f64> {
    let (mut least, mut any) = (i64::MAX, false);
    each(values, rows, |_, value| {
        let key = if value.is_nan() { i64::MAX } else { ordered(value.to_bits() as i64) };
        (least, any) = (least.min(key), any | !value.is_nan());
    });
    any.then(|| f64::from_bits(ordered(least) as u64))
}

#[inline]
pub(crate) fn max_f64(values: &[f64], rows: &[u64]) -> Option<f64> {
    let (mut most, mut any) = (i64::MIN, false);
    each(values, rows, |_, value| {
        let key = if value.is_nan() { i64::MIN } else { ordered(value.to_bits() as i64) };
        (most, any) = (most.max(key), any | !value.is_nan());
    });
    any.then(|| f64::from_bits(ordered(most) as u64))
}
