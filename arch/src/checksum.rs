//! # checksum: CRC-32C and CRC-64
//!
//! **In** come bytes, **out** go the checksums that the stored formats and the protocol are defined by.

use crate::{dispatch, kernels::run};

/// Below this many bytes one chain of CRC instructions is ready before crc-fast has begun to fold.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, reason = "for their forms"))]
pub(crate) const CHAIN_BELOW: usize = 256;

/// Below this many bytes eight tables give a CRC-64 before crc-fast has begun to fold.
pub(crate) const TABLES_BELOW: usize = 32;

/// Table `n` has the CRC-64 of each byte followed by `n` zeros.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [crate::scalar::table64(); 8];
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC-64/XZ of what `crc` covers followed by `data`, eight bytes at a time.
#[inline]
pub(crate) fn crc64_by_tables(crc: u64, data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    let mut crc = !crc;
    for word in words {
        let bytes = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        crc = (0..8).fold(0, |sum, at| sum ^ TABLES[7 - at][usize::from(bytes[at])]);
    }
    !rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

/// The checksum of log records, snapshots and identity files: CRC-32C (Castagnoli, as in iSCSI).
#[inline]
pub fn crc32c(data: &[u8]) -> u32 {
    crc32c_append(0, data)
}

/// CRC-32C continued: the checksum of what `crc` covers followed by `data`. It costs what [`crc32c`] of `data` costs.
#[inline]
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    run::crc32c(dispatch::active(), crc, data)
}

/// CRC-64/XZ, which the raw checksum request is defined by, of the parts one after the other.
#[inline]
pub fn crc64(parts: &[&[u8]]) -> u64 {
    parts.iter().fold(0, |crc, part| run::crc64(dispatch::active(), crc, part))
}

#[cfg(test)]
mod tests {
    /// Goal: the checksums that others know by these names. Method: the published check values.
    #[test]
    fn published_check_values() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc64(&[b"1234", b"56789"]), 0x995d_c9bb_df19_39fa);
        assert_eq!(super::crc32c_append(super::crc32c(b"1234"), b"56789"), 0xe306_9283);
        assert_eq!((super::crc32c(b""), super::crc64(&[]), super::crc64(&[b""])), (0, 0, 0));
    }
}
