//! The keys of the workload, and the boundaries between them at which regions are split.

use armilla::client::Space;
use armilla::codec::keyspace::Mode;

/// Returns the key with this number.
pub fn key(number: u32) -> bytes::Bytes {
    format!("k{number:03}").into()
}

/// Returns the boundary with this number: an even one is the first key of the workload's key space that is in the right
/// piece, an odd one lies behind the key of the number before it. Stores know boundaries as memcomparable keys. In a
/// keyspace, every other pair of boundaries is between transactional keys.
pub fn boundary(space: Space, number: u32) -> bytes::Bytes {
    let mut boundary = key(number / 2).to_vec();
    if number % 2 == 1 {
        boundary.push(b'+');
    }
    let mode = if (number / 2).is_multiple_of(2) { Mode::Raw } else { Mode::Txn };
    armilla::codec::bytes::encode(&space.wire(mode, &boundary.into()))
}
