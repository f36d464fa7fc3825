//! Memcomparable strings: groups of 8 bytes and a marker.

use std::mem::MaybeUninit;

use super::{Group, Pair, key};
use crate::format::{Fault, GROUP, Invalid, MARKER, encoded_len};

/// Encodes `plain` into `out`.
///
/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn encode<V: Group>(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    assert_eq!(out.len(), encoded_len(plain.len()), "the room that the encoding takes");
    let groups = plain.len() / GROUP;
    let rest = plain.len() % GROUP;
    let (from, to) = (plain.as_ptr(), out.as_mut_ptr().cast::<u8>());
    let mut at = 0;
    // SAFETY: group `at` is read at 8 * `at` and written at 9 * `at`; loads end at the end of `plain`; a store of `LEN`
    // bytes (at most 16) ends before the end of `out`, since the last group is never written by it.
    unsafe {
        while at + V::LEN / GROUP <= groups {
            V::load(from.add(at * GROUP)).store_full(to.add(at * (GROUP + 1)));
            at += 1;
        }
        while at < groups {
            <u64 as Group>::load(from.add(at * GROUP)).store_full(to.add(at * (GROUP + 1)));
            at += 1;
        }
        let last = if rest == 0 {
            0
        } else if groups > 0 {
            // The last 8 bytes, without those that belong to an earlier group.
            u64::from_le(from.add(plain.len() - GROUP).cast::<u64>().read_unaligned()) >> (8 * (GROUP - rest))
        } else {
            key::word(from, rest)
        };
        let to = to.add(groups * (GROUP + 1));
        to.cast::<u64>().write_unaligned(last.to_le());
        *to.add(GROUP) = MARKER - (GROUP - rest) as u8;
    }
}

/// The number of groups to decode at once while all of them are full.
const BLOCK: usize = 8;

/// Decodes blocks of full groups.
pub(crate) trait Block {
    /// Writes the 64 bytes of [`BLOCK`] groups. Returns whether all their markers are those of full groups.
    ///
    /// # Safety
    /// `from` must have 72 readable bytes and `to` 64 writable ones; the machine must support the instructions.
    unsafe fn decode(from: *const u8, to: *mut u8) -> bool;
}

/// Decodes each group as one word.
pub(crate) struct ByWords;

impl Block for ByWords {
    #[inline(always)]
    unsafe fn decode(from: *const u8, to: *mut u8) -> bool {
        let mut markers = MARKER;
        for group in 0..BLOCK {
            // SAFETY: group `group` has 9 bytes from 9 * `group` on and decodes to 8.
            unsafe {
                let from = from.add(group * (GROUP + 1));
                let data = from.cast::<u64>().read_unaligned();
                markers &= *from.add(GROUP);
                to.add(group * GROUP).cast::<u64>().write_unaligned(data);
            }
        }
        markers == MARKER
    }
}

/// Decodes two groups with two loads of a register: one from their first byte on, and one from their third, which ends
/// with them.
pub(crate) struct ByPairs<V>(std::marker::PhantomData<V>);

impl<V: Pair> Block for ByPairs<V> {
    #[inline(always)]
    unsafe fn decode(from: *const u8, to: *mut u8) -> bool {
        // SAFETY: two groups have 18 bytes, of which bytes 0 to 15 and 2 to 17 are read; they decode to 16.
        unsafe {
            let one = |pair: usize| {
                let from = from.add(pair * 2 * (GROUP + 1));
                let (first, second) = (V::load(from), V::load(from.add(2)));
                first.join(second).store(to.add(pair * 2 * GROUP));
                second
            };
            let (first, second, third, fourth) = (one(0), one(1), one(2), one(3));
            first.and(second).and(third.and(fourth)).markers() == [MARKER; 2]
        }
    }
}

/// Decodes the encoding at the start of `bytes` into `out`. Returns the number of bytes read and the number of bytes
/// written.
///
/// # Safety
/// The machine must support the instructions of `B`.
#[inline(always)]
pub(crate) unsafe fn decode<B: Block>(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    let groups = bytes.len() / (GROUP + 1);
    assert!(out.len() >= groups * GROUP, "8 bytes for each 9");
    let (from, to) = (bytes.as_ptr(), out.as_mut_ptr().cast::<u8>());
    let mut at = 0;
    // SAFETY: group `at` is below `groups`; it is read at 9 * `at` and written at 8 * `at`, 8 bytes.
    unsafe {
        while at + BLOCK <= groups && B::decode(from.add(at * (GROUP + 1)), to.add(at * GROUP)) {
            at += BLOCK;
        }
        while at < groups {
            let from = from.add(at * (GROUP + 1));
            let data = from.cast::<u64>().read_unaligned();
            let marker = *from.add(GROUP);
            to.add(at * GROUP).cast::<u64>().write_unaligned(data);
            if marker != MARKER {
                return last(at, data, marker);
            }
            at += 1;
        }
    }
    Err(Invalid { fault: Fault::Short, at: bytes.len() })
}

/// Checks the last group, which is number `group`.
#[inline(always)]
fn last(group: usize, data: u64, marker: u8) -> Result<(usize, usize), Invalid> {
    let start = group * (GROUP + 1);
    let padding = usize::from(MARKER - marker);
    if padding > GROUP {
        return Err(Invalid { fault: Fault::Marker, at: start + GROUP });
    }
    // First byte highest: shifts the padding, which is at least one byte, to the high end.
    let zeros = u64::from_be(data) << (8 * (GROUP - padding));
    if zeros != 0 {
        let first = (zeros.leading_zeros() / 8) as usize;
        return Err(Invalid { fault: Fault::Padding, at: start + GROUP - padding + first });
    }
    Ok((start + GROUP + 1, group * GROUP + GROUP - padding))
}
