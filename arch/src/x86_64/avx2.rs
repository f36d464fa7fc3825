//! AVX2: 32 bytes to compare, 4 numbers to test and add.

use std::arch::x86_64::*;

use crate::dispatch::Kind;
use crate::generic::column::Test;
use crate::generic::{self, Bytes, Lanes};
use crate::operands::Cmp;

pub(crate) const TIER: Kind = Kind::Avx2;

/// A register of 32 bytes.
#[derive(Clone, Copy)]
struct ThirtyTwo(__m256i);

impl Bytes for ThirtyTwo {
    const LEN: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> ThirtyTwo {
        // SAFETY: the caller's promise.
        ThirtyTwo(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn first_difference(self, other: ThirtyTwo) -> Option<usize> {
        // SAFETY: the caller's promise.
        let equal = unsafe { _mm256_movemask_epi8(_mm256_cmpeq_epi8(self.0, other.0)) };
        (equal != -1).then(|| (!equal).trailing_zeros() as usize)
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: AVX2 is enabled here.
    unsafe { generic::key::common_prefix::<ThirtyTwo>(a, b) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub(crate) fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// A register of four numbers.
#[derive(Clone, Copy)]
struct Four(__m256i);

/// Reinterprets the register as `f64`s.
macro_rules! float {
    ($four:expr) => {
        _mm256_castsi256_pd($four.0)
    };
}

impl Lanes for Four {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Four {
        // SAFETY: the caller's promise, here and below.
        Four(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn splat(number: u64) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_set1_epi64x(number as i64) })
    }

    #[inline(always)]
    unsafe fn eq_i64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_cmpeq_epi64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn gt_i64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_cmpgt_epi64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn eq_f64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_EQ_OQ>(float!(self), float!(other))) })
    }

    #[inline(always)]
    unsafe fn lt_f64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_LT_OQ>(float!(self), float!(other))) })
    }

    #[inline(always)]
    unsafe fn le_f64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_LE_OQ>(float!(self), float!(other))) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn add_u64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn add_f64(self, other: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_castpd_si256(_mm256_add_pd(float!(self), float!(other))) })
    }

    #[inline(always)]
    unsafe fn high(self) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_srli_epi64::<32>(self.0) })
    }

    #[inline(always)]
    unsafe fn half(self) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_srli_epi64::<1>(self.0) })
    }

    #[inline(always)]
    unsafe fn choose(self, yes: Four, no: Four) -> Four {
        // SAFETY: as above.
        Four(unsafe { _mm256_blendv_epi8(no.0, yes.0, self.0) })
    }

    #[inline(always)]
    unsafe fn mask(bits: u64) -> Four {
        // SAFETY: as above.
        unsafe {
            let lane = _mm256_set_epi64x(8, 4, 2, 1);
            Four(_mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits as i64), lane), lane))
        }
    }

    #[inline(always)]
    unsafe fn bits(self) -> u64 {
        // SAFETY: as above.
        unsafe { _mm256_movemask_pd(float!(self)) as u64 }
    }

    #[inline(always)]
    unsafe fn test64<T: Test>(from: *const u64, rhs: Four) -> u64 {
        // SAFETY: as above.
        unsafe { test32::<T>(from, rhs) | test32::<T>(from.add(32), rhs) << 32 }
    }
}

/// Tests 32 numbers: eight masks, narrowed to bytes.
///
/// # Safety
/// `from` must have 32 readable numbers; the machine must support AVX2.
#[inline(always)]
unsafe fn test32<T: Test>(from: *const u64, rhs: Four) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = _mm256_packs_epi16(
            _mm256_packs_epi32(test8::<T>(from, rhs), test8::<T>(from.add(8), rhs)),
            _mm256_packs_epi32(test8::<T>(from.add(16), rhs), test8::<T>(from.add(24), rhs)),
        );
        // Narrowing works within the halves of a register: the lower half has the first two numbers of every four, the
        // upper half the others. The quarters are swapped, then the bytes of the halves are interleaved two by two.
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
        u64::from(_mm256_movemask_epi8(_mm256_shuffle_epi8(bytes, order)) as u32)
    }
}

/// Tests 8 numbers: two masks, narrowed to 32 bits per number.
///
/// # Safety
/// `from` must have 8 readable numbers; the machine must support AVX2.
#[inline(always)]
unsafe fn test8<T: Test>(from: *const u64, rhs: Four) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (T::test(Four::load(from), rhs), T::test(Four::load(from.add(4)), rhs));
        _mm256_packs_epi32(low.0, high.0)
    }
}

macro_rules! four {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => { $(
        #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
        pub(crate) fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: AVX2 is enabled here.
            unsafe { generic::column::$name::<Four>($($arg),*) }
        }
    )* };
}

four! {
    compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]);
    compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]);
    sum_i64(values: &[i64], rows: &[u64]) -> i128;
    sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]);
    min_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    max_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    min_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
    max_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
}
