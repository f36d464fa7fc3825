//! # arch: kernels
//!
//! **In** come byte slices, **out** go numbers; no dependency on the rest of Armilla. A kernel that a well-kept crate already
//! does as fast is that crate behind a function here. **Never**: a result that depends on the machine. In [`sync`] are the store's
//! few atomic protocols, whose faults depend on the machine as well.

pub mod sync;

/// The checksum of log records, snapshots and identity files: CRC-32C (Castagnoli, as in iSCSI), by the crate crc-fast, which
/// picks the machine's instructions at run time.
pub fn crc32c(data: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32
}

/// CRC-32C continued: the checksum of what `crc` covers followed by `data`.
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    crc_fast::checksum_combine(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        u64::from(crc),
        u64::from(crc32c(data)),
        data.len() as u64,
    ) as u32
}

/// CRC-64/XZ, which the raw checksum request is defined by.
pub fn crc64(parts: &[&[u8]]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Xz);
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_check_values() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc64(&[b"1234", b"56789"]), 0x995d_c9bb_df19_39fa);
        assert_eq!(super::crc32c_append(super::crc32c(b"1234"), b"56789"), 0xe306_9283);
    }
}
