//! NEON: 16 bytes to compare, 2 numbers to test and add, and the CRC-32C instruction.

use std::arch::aarch64::*;
use std::mem::MaybeUninit;

use crate::dispatch::Kind;
use crate::format::Invalid;
use crate::generic::column::Test;
use crate::generic::memcomparable::ByPairs;
use crate::generic::{self, Bytes, Lanes, Pair};
use crate::operands::Cmp;
use crate::portable;
use crate::short::CHAIN_BELOW;

pub(crate) const TIER: Kind = Kind::Neon;

#[target_feature(enable = "crc")]
pub(crate) fn crc32c(crc: u32, data: &[u8]) -> u32 {
    if data.len() >= CHAIN_BELOW {
        return portable::crc32c(crc, data);
    }
    let (words, rest) = data.as_chunks::<8>();
    let mut chain = !crc;
    for word in words {
        chain = __crc32cd(chain, u64::from_le_bytes(*word));
    }
    if let Some((four, _)) = rest.split_first_chunk::<4>() {
        chain = __crc32cw(chain, u32::from_le_bytes(*four));
    }
    for byte in &rest[rest.len() & 4..] {
        chain = __crc32cb(chain, *byte);
    }
    !chain
}

/// A register of 16 bytes.
#[derive(Clone, Copy)]
struct Sixteen(uint8x16_t);

impl Bytes for Sixteen {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Sixteen {
        // SAFETY: the caller's promise, here and below.
        Sixteen(unsafe { vld1q_u8(from) })
    }

    #[inline(always)]
    unsafe fn first_difference(self, other: Sixteen) -> Option<usize> {
        // SAFETY: as above.
        let equal = unsafe {
            // Four bits per byte.
            let bytes = vreinterpretq_u16_u8(vceqq_u8(self.0, other.0));
            vget_lane_u64::<0>(vreinterpret_u64_u8(vshrn_n_u16::<4>(bytes)))
        };
        (equal != !0).then(|| ((!equal).trailing_zeros() / 4) as usize)
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: NEON is enabled here.
    unsafe { generic::key::common_prefix::<Sixteen>(a, b) }
}

impl Pair for Sixteen {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Sixteen {
        // SAFETY: the caller's promise, here and below.
        Sixteen(unsafe { vld1q_u8(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: as above.
        unsafe { vst1q_u8(to, self.0) }
    }

    #[inline(always)]
    unsafe fn join(self, other: Sixteen) -> Sixteen {
        // SAFETY: as above.
        unsafe { Sixteen(vcombine_u8(vget_low_u8(self.0), vget_high_u8(vextq_u8::<15>(other.0, other.0)))) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Sixteen) -> Sixteen {
        // SAFETY: as above.
        Sixteen(unsafe { vandq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn markers(self) -> [u8; 2] {
        // SAFETY: as above.
        unsafe { [vgetq_lane_u8::<6>(self.0), vgetq_lane_u8::<15>(self.0)] }
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    // SAFETY: NEON is enabled here.
    unsafe { generic::memcomparable::decode::<ByPairs<Sixteen>>(bytes, out) }
}

/// A register of two numbers.
#[derive(Clone, Copy)]
struct Two(uint64x2_t);

/// Reinterprets the register as signed numbers or `f64`s.
macro_rules! signed {
    ($two:expr) => {
        vreinterpretq_s64_u64($two.0)
    };
}
macro_rules! float {
    ($two:expr) => {
        vreinterpretq_f64_u64($two.0)
    };
}

impl Lanes for Two {
    const LANES: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Two {
        // SAFETY: as above.
        Two(unsafe { vld1q_u64(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as above.
        unsafe { vst1q_u64(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(number: u64) -> Two {
        // SAFETY: as above.
        Two(unsafe { vdupq_n_u64(number) })
    }

    #[inline(always)]
    unsafe fn eq_i64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vceqq_u64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn gt_i64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vcgtq_s64(signed!(self), signed!(other)) })
    }

    #[inline(always)]
    unsafe fn eq_f64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vceqq_f64(float!(self), float!(other)) })
    }

    #[inline(always)]
    unsafe fn lt_f64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vcltq_f64(float!(self), float!(other)) })
    }

    #[inline(always)]
    unsafe fn le_f64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vcleq_f64(float!(self), float!(other)) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vandq_u64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { veorq_u64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn add_u64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vaddq_u64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn add_f64(self, other: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vreinterpretq_u64_f64(vaddq_f64(float!(self), float!(other))) })
    }

    #[inline(always)]
    unsafe fn high(self) -> Two {
        // SAFETY: as above.
        Two(unsafe { vshrq_n_u64::<32>(self.0) })
    }

    #[inline(always)]
    unsafe fn half(self) -> Two {
        // SAFETY: as above.
        Two(unsafe { vshrq_n_u64::<1>(self.0) })
    }

    #[inline(always)]
    unsafe fn choose(self, yes: Two, no: Two) -> Two {
        // SAFETY: as above.
        Two(unsafe { vbslq_u64(self.0, yes.0, no.0) })
    }

    #[inline(always)]
    unsafe fn mask(bits: u64) -> Two {
        // SAFETY: as above.
        Two(unsafe { vtstq_u64(vdupq_n_u64(bits), vcombine_u64(vcreate_u64(1), vcreate_u64(2))) })
    }

    #[inline(always)]
    unsafe fn bits(self) -> u64 {
        // SAFETY: as above.
        unsafe { (vgetq_lane_u64::<0>(self.0) & 1) | (vgetq_lane_u64::<1>(self.0) & 2) }
    }

    #[inline(always)]
    unsafe fn test64<T: Test>(from: *const u64, rhs: Two) -> u64 {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (test16::<T>(from, rhs), test16::<T>(from.add(16), rhs));
            let (c, d) = (test16::<T>(from.add(32), rhs), test16::<T>(from.add(48), rhs));
            // Three pairwise additions merge eight bytes into one.
            let quarters = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
            vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(quarters, quarters)))
        }
    }
}

/// Tests 16 numbers: one byte each, in which the bit of its position among eight is set if the test holds.
///
/// # Safety
/// `from` must have 16 readable numbers; the machine must support NEON.
#[inline(always)]
unsafe fn test16<T: Test>(from: *const u64, rhs: Two) -> uint8x16_t {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (test8::<T>(from, rhs), test8::<T>(from.add(8), rhs));
        let bytes = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
        vandq_u8(bytes, vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201)))
    }
}

/// Tests 8 numbers: four masks, narrowed to 16 bits per number.
///
/// # Safety
/// `from` must have 8 readable numbers; the machine must support NEON.
#[inline(always)]
unsafe fn test8<T: Test>(from: *const u64, rhs: Two) -> uint16x8_t {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (test4::<T>(from, rhs), test4::<T>(from.add(4), rhs));
        vuzp1q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high))
    }
}

/// Tests 4 numbers: two masks, narrowed to 32 bits per number.
///
/// # Safety
/// `from` must have 4 readable numbers; the machine must support NEON.
#[inline(always)]
unsafe fn test4<T: Test>(from: *const u64, rhs: Two) -> uint32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (T::test(Two::load(from), rhs), T::test(Two::load(from.add(2)), rhs));
        vuzp1q_u32(vreinterpretq_u32_u64(low.0), vreinterpretq_u32_u64(high.0))
    }
}

macro_rules! two {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => { $(
        #[target_feature(enable = "neon")]
        pub(crate) fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: NEON is enabled here.
            unsafe { generic::column::$name::<Two>($($arg),*) }
        }
    )* };
}

two! {
    compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]);
    compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]);
    sum_i64(values: &[i64], rows: &[u64]) -> i128;
    min_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    max_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    min_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
    max_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
}
