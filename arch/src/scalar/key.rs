//! Kernels on keys, a byte at a time.

use std::mem::MaybeUninit;

use crate::format::{Fault, GROUP, Invalid, MARKER, encoded_len};

/// Returns the length of the longest common prefix.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Encodes `plain` into `out`, which must have exactly the encoding's length.
pub fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    assert_eq!(out.len(), encoded_len(plain.len()), "the room that the encoding takes");
    let (mut at, mut within) = (0, 0);
    let mut put = |byte| {
        out[at].write(byte);
        at += 1;
    };
    for byte in plain {
        put(*byte);
        within += 1;
        if within == GROUP {
            put(MARKER);
            within = 0;
        }
    }
    let padding = GROUP - within;
    (0..padding).for_each(|_| put(0));
    put(MARKER - padding as u8);
}

/// Decodes the encoding at the start of `bytes` into `out`. Returns the number of bytes read and the number of bytes
/// written.
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
