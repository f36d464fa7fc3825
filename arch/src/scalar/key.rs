//! Keys, a byte at a time.

use std::mem::MaybeUninit;

use crate::memcomparable::{Fault, GROUP, Invalid, MARKER, encoded_len};

/// The length of the longest common prefix.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Encodes `plain` into `out`, which has just the room.
pub fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    assert_eq!(out.len(), encoded_len(plain.len()), "the room that the encoding takes");
    for (at, out) in out.iter_mut().enumerate() {
        let (group, within) = (at / (GROUP + 1), at % (GROUP + 1));
        let rest = &plain[group * GROUP..];
        out.write(if within == GROUP {
            MARKER - (GROUP - rest.len().min(GROUP)) as u8
        } else {
            rest.get(within).copied().unwrap_or(0)
        });
    }
}

/// Decodes the encoding at the head of `bytes` into `out`: how many bytes it took, how many it gave.
pub fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    assert!(out.len() >= bytes.len() / (GROUP + 1) * GROUP, "8 bytes for each 9");
    let mut gave = 0;
    for (number, group) in bytes.chunks_exact(GROUP + 1).enumerate() {
        let start = number * (GROUP + 1);
        let padding = usize::from(MARKER - group[GROUP]);
        if padding > GROUP {
            return Err(Invalid { fault: Fault::Marker, at: start + GROUP });
        }
        for (at, byte) in group[..GROUP].iter().enumerate() {
            if at < GROUP - padding {
                out[gave].write(*byte);
                gave += 1;
            } else if *byte != 0 {
                return Err(Invalid { fault: Fault::Padding, at: start + at });
            }
        }
        if padding > 0 {
            return Ok((start + GROUP + 1, gave));
        }
    }
    Err(Invalid { fault: Fault::Short, at: bytes.len() })
}
