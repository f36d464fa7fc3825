//! # checksum: CRC-32C and CRC-64
//!
//! **In** come bytes, **out** go the checksums on which the stored formats and the protocol are based.

use crate::{dispatch, kernels::run};

/// Returns the checksum of log records, snapshots and identity files: CRC-32C (Castagnoli, as in iSCSI).
#[inline]
pub fn crc32c(data: &[u8]) -> u32 {
    crc32c_append(0, data)
}

/// Continues a CRC-32C: returns the checksum of the data that `crc` covers followed by `data`. Costs as much as
/// [`crc32c`] of `data`.
#[inline]
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    run::crc32c(dispatch::active(), crc, data)
}

/// Returns the CRC-64/XZ of the concatenated parts. The raw checksum request is defined by it.
#[inline]
pub fn crc64(parts: &[&[u8]]) -> u64 {
    parts.iter().fold(0, |crc, part| run::crc64(dispatch::active(), crc, part))
}

#[cfg(test)]
mod tests {
    /// Goal: the checksums match the standard ones of these names. Method: the published check values.
    #[test]
    fn published_check_values() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc64(&[b"1234", b"56789"]), 0x995d_c9bb_df19_39fa);
        assert_eq!(super::crc32c_append(super::crc32c(b"1234"), b"56789"), 0xe306_9283);
        assert_eq!((super::crc32c(b""), super::crc64(&[]), super::crc64(&[b""])), (0, 0, 0));
    }
}
