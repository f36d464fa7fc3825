//! Checksums, computed a byte at a time with one table.

const fn table32() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

/// Returns the CRC-64 of each byte.
pub(crate) const fn table64() -> [u64; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u64, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0xc96c_5795_d787_0f42);
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

static CASTAGNOLI: [u32; 256] = table32();
static XZ: [u64; 256] = table64();

/// Returns the CRC-32C of the data that `crc` covers followed by `data`.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    !data.iter().fold(!crc, |crc, byte| (crc >> 8) ^ CASTAGNOLI[usize::from(crc as u8 ^ byte)])
}

/// Returns the CRC-64/XZ of the data that `crc` covers followed by `data`.
pub fn crc64(crc: u64, data: &[u8]) -> u64 {
    !data.iter().fold(!crc, |crc, byte| (crc >> 8) ^ XZ[usize::from(crc as u8 ^ byte)])
}
