//! SSE 4.2: the CRC-32C instruction, and registers of 16 bytes to move groups.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use crate::dispatch::Kind;
use crate::format::Invalid;
use crate::generic::memcomparable::ByPairs;
use crate::generic::{self, Group, Pair};
use crate::portable;
use crate::short::CHAIN_BELOW;

pub(crate) const TIER: Kind = Kind::Sse42;

#[target_feature(enable = "sse4.2")]
pub(crate) fn crc32c(crc: u32, data: &[u8]) -> u32 {
    if data.len() >= CHAIN_BELOW {
        return portable::crc32c(crc, data);
    }
    let (words, rest) = data.as_chunks::<8>();
    let mut chain = u64::from(!crc);
    for word in words {
        chain = _mm_crc32_u64(chain, u64::from_le_bytes(*word));
    }
    let mut chain = chain as u32;
    if let Some((four, _)) = rest.split_first_chunk::<4>() {
        chain = _mm_crc32_u32(chain, u32::from_le_bytes(*four));
    }
    for byte in &rest[rest.len() & 4..] {
        chain = _mm_crc32_u8(chain, *byte);
    }
    !chain
}

/// A register of 16 bytes: a group, and 8 bytes that the next store overwrites.
#[derive(Clone, Copy)]
struct Sixteen(__m128i);

impl Group for Sixteen {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Sixteen {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm_loadu_si128(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store_full(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm_or_si128(self.0, _mm_set_epi64x(0xff, 0))) }
    }
}

#[target_feature(enable = "sse4.2")]
pub(crate) fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    // SAFETY: SSE 4.2 is enabled here.
    unsafe { generic::memcomparable::encode::<Sixteen>(plain, out) }
}

impl Pair for Sixteen {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Sixteen {
        // SAFETY: the caller's promise, here and below.
        Sixteen(unsafe { _mm_loadu_si128(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn join(self, other: Sixteen) -> Sixteen {
        // SAFETY: as above.
        Sixteen(unsafe { _mm_blend_epi16::<0b1111_0000>(self.0, _mm_slli_si128::<1>(other.0)) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Sixteen) -> Sixteen {
        // SAFETY: as above.
        Sixteen(unsafe { _mm_and_si128(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn markers(self) -> [u8; 2] {
        // SAFETY: as above.
        unsafe { [_mm_extract_epi8::<6>(self.0) as u8, _mm_extract_epi8::<15>(self.0) as u8] }
    }
}

#[target_feature(enable = "sse4.2")]
pub(crate) fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    // SAFETY: SSE 4.2 is enabled here.
    unsafe { generic::memcomparable::decode::<ByPairs<Sixteen>>(bytes, out) }
}
