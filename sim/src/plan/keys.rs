//! The keys of the workload, and the boundaries between them at which regions are split.

/// Returns the key with this number.
pub fn key(number: u32) -> bytes::Bytes {
    format!("k{number:03}").into()
}

/// Returns the boundary with this number: an even one is the first key of the workload's key space that is in the right
/// piece, an odd one lies behind the key of the number before it. Stores know boundaries as memcomparable keys.
pub fn boundary(number: u32) -> bytes::Bytes {
    let mut boundary = key(number / 2).to_vec();
    if number % 2 == 1 {
        boundary.push(b'+');
    }
    armilla::codec::bytes::encode(&boundary)
}
