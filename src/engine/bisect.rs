//! Search for a key by the size of what lies before it.

use bytes::Bytes;

use super::Cursor;
use crate::types::Result;
use crate::types::limits::KEY_SEARCH_STEPS_MAX;

/// Returns a key after `start` before which there are about `target` bytes, as `bytes_before` has them, among the keys
/// of a cursor; `None` if there is none but the first key.
///
/// # Errors
/// Those of the cursor and of `bytes_before`.
pub fn key_at(
    cursor: &mut dyn Cursor,
    start: &[u8],
    target: u64,
    mut bytes_before: impl FnMut(&[u8]) -> Result<u64>,
) -> Result<Option<Bytes>> {
    cursor.seek(start)?;
    let Some(mut low) = key_of(cursor) else { return Ok(None) };
    cursor.seek_last()?;
    let Some(mut high) = key_of(cursor) else { return Ok(None) };
    // Each step halves the distance of the two as numbers; those with a long common prefix take as many as any others.
    for _ in 0..KEY_SEARCH_STEPS_MAX {
        let middle = middle(&low, &high);
        cursor.seek(&middle)?;
        let mut key = key_of(cursor).filter(|key| *key < high);
        if key.is_none() {
            cursor.seek_before(&middle)?;
            key = key_of(cursor).filter(|key| *key > low);
        }
        let Some(key) = key else { break };
        if bytes_before(&key)? < target { low = key } else { high = key }
    }
    Ok(Some(high).filter(|key| key > start))
}

fn key_of(cursor: &dyn Cursor) -> Option<Bytes> {
    cursor.pair().map(|(key, _)| Bytes::copy_from_slice(key))
}

/// Returns the byte string halfway between two, as fractions; it is larger than `low` if `low` is smaller than `high`.
fn middle(low: &[u8], high: &[u8]) -> Vec<u8> {
    let digits = low.len().max(high.len()) + 1;
    let digit = |of: &[u8], at: usize| u16::from(of.get(at).copied().unwrap_or(0));
    let mut sum = vec![0_u16; digits];
    let mut carry = 0;
    for at in (0..digits).rev() {
        let both = digit(low, at) + digit(high, at) + carry;
        (sum[at], carry) = (both & 0xff, both >> 8);
    }
    let mut rest = carry;
    let half = |digit: &u16| {
        let value = rest << 8 | digit;
        rest = value & 1;
        (value >> 1) as u8
    };
    let mut middle: Vec<u8> = sum.iter().map(half).collect();
    while middle.last() == Some(&0) && middle.len() > low.len() {
        middle.pop();
    }
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between() {
        for (low, high) in [("a", "b"), ("a", "c"), ("", "z"), ("abc", "abd"), ("abc", "abcd"), ("user1", "user2")] {
            let middle = middle(low.as_bytes(), high.as_bytes());
            assert!(low.as_bytes() < &middle[..] && &middle[..] < high.as_bytes(), "{low} {high}: {middle:?}");
        }
    }
}
