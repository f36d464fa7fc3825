//! Kernels on columns, a row at a time.

use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};

/// Returns whether row `at` is in the set.
fn bit(words: &[u64], at: usize) -> bool {
    words[at / 64] >> (at % 64) & 1 == 1
}

/// Returns the rows in the set with their values.
fn chosen<'a, T: Copy>(values: &'a [T], rows: &'a [u64]) -> impl Iterator<Item = (usize, T)> + 'a {
    values.iter().copied().enumerate().filter(|(at, _)| bit(rows, *at))
}

/// Selects the rows of `valid` for which `holds` returns true.
fn select(valid: &[u64], out: &mut [u64], len: usize, holds: impl Fn(usize) -> bool) {
    assert!(valid.len() == len.div_ceil(64) && out.len() == valid.len(), "a bit a row");
    out.fill(0);
    for at in (0..len).filter(|at| bit(valid, *at)) {
        out[at / 64] |= u64::from(holds(at)) << (at % 64);
    }
}

/// Selects the rows of `valid` for which `value cmp rhs` holds.
pub fn compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]) {
    select(valid, out, values.len(), |at| cmp.holds(Some(values[at].cmp(&rhs))));
}

/// Like [`compare_i64`], in IEEE 754's order.
pub fn compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]) {
    select(valid, out, values.len(), |at| cmp.holds(values[at].partial_cmp(&rhs)));
}

/// Returns the number of set bits.
pub fn count(words: &[u64]) -> usize {
    let mut count = 0;
    for word in words {
        let mut word = *word;
        while word != 0 {
            word &= word - 1;
            count += 1;
        }
    }
    count
}

/// Returns the sum over `rows`.
pub fn sum_i64(values: &[i64], rows: &[u64]) -> i128 {
    chosen(values, rows).map(|(_, value)| i128::from(value)).sum()
}

/// Adds the values of `rows` to their lanes.
pub fn sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]) {
    for (at, value) in chosen(values, rows) {
        lanes[at % 8] += value;
    }
}

/// Returns the minimum over `rows`.
pub fn min_i64(values: &[i64], rows: &[u64]) -> Option<i64> {
    chosen(values, rows).map(|(_, value)| value).min()
}

/// Returns the maximum over `rows`.
pub fn max_i64(values: &[i64], rows: &[u64]) -> Option<i64> {
    chosen(values, rows).map(|(_, value)| value).max()
}

/// Returns the minimum over `rows`, ignoring NaNs.
pub fn min_f64(values: &[f64], rows: &[u64]) -> Option<f64> {
    chosen(values, rows).map(|(_, value)| value).filter(|value| !value.is_nan()).min_by(f64::total_cmp)
}

/// Returns the maximum over `rows`, ignoring NaNs.
pub fn max_f64(values: &[f64], rows: &[u64]) -> Option<f64> {
    chosen(values, rows).map(|(_, value)| value).filter(|value| !value.is_nan()).max_by(f64::total_cmp)
}

/// Selects the rows of `valid` for which `string cmp rhs` holds.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &[u64], cmp: Cmp, rhs: &[u8], out: &mut [u64]) {
    select(valid, out, column.len(), |at| cmp.holds(Some(column.get(at).cmp(rhs))));
}

/// Selects the rows of `valid` whose string begins with `prefix`.
pub fn starts_with(column: BytesColumn<'_>, valid: &[u64], prefix: &[u8], out: &mut [u64]) {
    select(valid, out, column.len(), |at| column.get(at).starts_with(prefix));
}

/// Selects the rows of `valid` whose string is in `set`.
pub fn in_set(column: BytesColumn<'_>, valid: &[u64], set: &BytesSet, out: &mut [u64]) {
    select(valid, out, column.len(), |at| set.strings().iter().any(|member| *member == column.get(at)));
}

/// Returns the position of the first `needle` in `haystack`.
pub fn find(haystack: &[u8], needle: &Needle) -> Option<usize> {
    let needle = needle.bytes();
    (0..=haystack.len().checked_sub(needle.len())?).find(|at| haystack[*at..].starts_with(needle))
}
