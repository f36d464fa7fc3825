//! Checksums of short data, for which folding is not worth its start-up cost.

/// Below this many bytes, one chain of CRC instructions finishes before crc-fast has begun to fold.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, reason = "for their forms"))]
pub(crate) const CHAIN_BELOW: usize = 256;

/// Below this many bytes, eight tables compute a CRC-64 before crc-fast has begun to fold.
pub(crate) const TABLES_BELOW: usize = 32;

/// Table `n` contains the CRC-64 of each byte followed by `n` zeros.
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

/// Computes CRC-64/XZ of the data that `crc` covers followed by `data`, eight bytes at a time.
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
