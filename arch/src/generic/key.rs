//! Kernels on keys: the common prefix.

use super::Bytes;

/// Returns the length of the longest common prefix.
///
/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn common_prefix<V: Bytes>(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (a.as_ptr(), b.as_ptr());
    let mut at = 0;
    // SAFETY: every load ends at `len` or before, within both slices.
    unsafe {
        while at + V::LEN <= len {
            if let Some(differ) = V::load(a.add(at)).first_difference(V::load(b.add(at))) {
                return at + differ;
            }
            at += V::LEN;
        }
        if at == len {
            return len;
        }
        if len >= V::LEN {
            // The last register overlaps bytes that are known to be equal.
            at = len - V::LEN;
            return V::load(a.add(at)).first_difference(V::load(b.add(at))).map_or(len, |differ| at + differ);
        }
        short(a, b, len)
    }
}

/// Like [`common_prefix`], for `len` bytes that are less than a register.
///
/// # Safety
/// `a` and `b` must have `len` readable bytes.
#[inline(always)]
unsafe fn short(a: *const u8, b: *const u8, len: usize) -> usize {
    let mut at = 0;
    // SAFETY: every load ends at `len` or before.
    unsafe {
        while at + 8 <= len {
            if let Some(differ) = <u64 as Bytes>::load(a.add(at)).first_difference(<u64 as Bytes>::load(b.add(at))) {
                return at + differ;
            }
            at += 8;
        }
        if at == len {
            return len;
        }
        if len >= 8 {
            at = len - 8;
            let differ = <u64 as Bytes>::load(a.add(at)).first_difference(<u64 as Bytes>::load(b.add(at)));
            return differ.map_or(len, |differ| at + differ);
        }
        let differ = word(a, len) ^ word(b, len);
        if differ == 0 { len } else { (differ.trailing_zeros() / 8) as usize }
    }
}

/// Returns up to 7 bytes as a number, first byte lowest, with zeros above.
///
/// # Safety
/// `from` must have `len` readable bytes, and `len` must be less than 8.
#[inline(always)]
pub(crate) unsafe fn word(from: *const u8, len: usize) -> u64 {
    // SAFETY: within `len` bytes.
    unsafe {
        if len >= 4 {
            let low = u32::from_le(from.cast::<u32>().read_unaligned());
            let high = u32::from_le(from.add(len - 4).cast::<u32>().read_unaligned());
            // The two loads agree where they overlap.
            u64::from(low) | u64::from(high) << (8 * (len - 4))
        } else if len > 0 {
            let (first, middle, last) = (*from, *from.add(len / 2), *from.add(len - 1));
            u64::from(first) | u64::from(middle) << (8 * (len / 2)) | u64::from(last) << (8 * (len - 1))
        } else {
            0
        }
    }
}
