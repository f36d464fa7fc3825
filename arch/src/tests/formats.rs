//! The formats themselves, whichever kernel computes them: fixed bytes, big endian where a number has an order.

use bytes::BytesMut;

use super::decoded_bytes as decoded;
use crate::dispatch::{Tier, tiers};
use crate::kernels::run;
use crate::memcomparable::{Fault, Invalid, decode_into, encode_into, encoded_len};

fn encode_on(tier: Tier, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![std::mem::MaybeUninit::new(0x5a); encoded_len(plain.len())];
    run::encode(tier, plain, &mut out);
    // SAFETY: all of it was initialized above.
    out.iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

/// Goal: the encoding is the one that the protocol defines, on every tier and architecture. Method: examples worked out
/// by hand.
#[test]
fn memcomparable_bytes() {
    let examples: [(&[u8], &[u8]); 5] = [
        (b"", b"\0\0\0\0\0\0\0\0\xf7"),
        (b"abc", b"abc\0\0\0\0\0\xfa"),
        (b"abcdefgh", b"abcdefgh\xff\0\0\0\0\0\0\0\0\xf7"),
        (b"abcdefghi", b"abcdefgh\xffi\0\0\0\0\0\0\0\xf8"),
        (&0x0102_0304_0506_0708u64.to_be_bytes(), b"\x01\x02\x03\x04\x05\x06\x07\x08\xff\0\0\0\0\0\0\0\0\xf7"),
    ];
    for tier in tiers() {
        for (plain, encoding) in examples {
            assert_eq!(encode_on(tier, plain), encoding, "{tier}");
            assert_eq!(decoded(tier, encoding), Ok((encoding.len(), plain.to_vec())), "{tier}");
        }
    }
    let mut out = BytesMut::from(&b"before"[..]);
    encode_into(&mut out, b"abc");
    assert_eq!(&out[..], b"beforeabc\0\0\0\0\0\xfa");
    let mut back = BytesMut::from(&b"x"[..]);
    assert_eq!(decode_into(&mut back, b"abc\0\0\0\0\0\xfamore"), Ok(9));
    assert_eq!(&back[..], b"xabc");
    assert!(decode_into(&mut back, b"abc").is_err());
    assert_eq!(&back[..], b"xabc");
}

/// Goal: every marker is checked, wherever it is. Method: all 256 values as the marker of each of 20 groups, with
/// padding of zeros and with a nonzero byte at each position of the padding; the expected result is derived from the
/// definition.
#[test]
fn every_marker() {
    const GROUPS: usize = 20;
    for tier in tiers() {
        for group in 0..GROUPS {
            for marker in 0..=255u8 {
                for dirty in 0..=8usize {
                    let mut bytes = [b'x'; GROUPS * 9];
                    bytes.chunks_exact_mut(9).for_each(|group| group[8] = 0xff);
                    let padding = usize::from(0xff - marker);
                    bytes[group * 9 + 8] = marker;
                    if padding <= 8 {
                        bytes[group * 9 + 8 - padding..group * 9 + 8].fill(0);
                    }
                    let dirtied = padding <= 8 && dirty < padding;
                    if dirtied {
                        bytes[group * 9 + 8 - padding + dirty] = 1;
                    }
                    let expected = match padding {
                        0 => Err(Invalid { fault: Fault::Short, at: GROUPS * 9 }),
                        9.. => Err(Invalid { fault: Fault::Marker, at: group * 9 + 8 }),
                        _ if dirtied => Err(Invalid { fault: Fault::Padding, at: group * 9 + 8 - padding + dirty }),
                        _ => Ok((group * 9 + 9, vec![b'x'; group * 8 + 8 - padding])),
                    };
                    assert_eq!(decoded(tier, &bytes), expected, "{tier}, group {group}, marker {marker:#x}");
                }
            }
        }
    }
}

/// Goal: encodings have the order of their strings. Method: every pair of strings of up to four bytes out of three,
/// also behind a common first group.
#[test]
fn order_is_kept() {
    let mut strings = vec![Vec::new()];
    for _ in 0..4 {
        let longer: Vec<Vec<u8>> =
            strings.iter().flat_map(|s| [0u8, 1, 0xff].map(|byte| [&s[..], &[byte]].concat())).collect();
        strings.extend(longer);
    }
    strings.sort_unstable();
    strings.dedup();
    for tier in tiers() {
        for before in [&b""[..], b"123456", b"12345678"] {
            let encodings: Vec<_> = strings.iter().map(|string| encode_on(tier, &[before, string].concat())).collect();
            assert!(encodings.windows(2).all(|pair| pair[0] < pair[1]), "{tier}");
        }
    }
}

/// Goal: a sum of `f64` has one order of additions. Method: values whose sum differs in every other order; the expected
/// bits are derived from the definition, without a kernel.
#[test]
fn sums_of_f64_have_one_order() {
    use crate::column::{Bitmap, sum_f64};
    let values: Vec<f64> = (0..1000).map(|n| f64::from(n * n % 997) * 1e10 + 0.1 / f64::from(n + 1)).collect();
    let mut rows = Bitmap::new();
    (0..1000).for_each(|n| rows.push(n % 11 != 3 && !(128..192).contains(&n)));
    let mut l = [0.0; 8];
    for row in rows.iter() {
        l[row % 8] += values[row];
    }
    let expected: f64 = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
    assert_eq!(sum_f64(&values, &rows).to_bits(), expected.to_bits());
    assert_eq!(sum_f64(&values, &rows).to_bits(), 4_840_783_820_168_542_208, "the same on every machine");
    let plain: f64 = rows.iter().map(|row| values[row]).sum();
    assert_ne!(plain.to_bits(), expected.to_bits(), "the values do not distinguish orders");
    assert_eq!(sum_f64(&[-0.0], &Bitmap::ones(1)).to_bits(), 0);
    assert_eq!(sum_f64(&[f64::INFINITY, f64::NEG_INFINITY], &Bitmap::ones(2)).to_bits(), 0x7ff8 << 48);
}

/// Goal: sums of `i64` do not wrap. Method: more extreme values than an `i64` can hold the sum of.
#[test]
fn sums_of_i64_do_not_wrap() {
    use crate::column::{Bitmap, sum_i64};
    for extreme in [i64::MIN, i64::MAX, -1, 1] {
        for len in [1, 63, 64, 65, 1000] {
            let values = vec![extreme; len];
            assert_eq!(sum_i64(&values, &Bitmap::ones(len)), i128::from(extreme) * len as i128);
        }
    }
}
