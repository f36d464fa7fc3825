//! Snapshots: a group's state, streamed to a replica that fell behind the truncated log.
//!
//! The sender freezes the engine when raft emits the message, then streams the group's ranges in chunks with a running
//! checksum. The receiver gathers them, hands all to its driver, and only if raft takes the message are they installed.

mod receive;
mod stream;

use bytes::Bytes;

use crate::engine::Cf;
use crate::proto::armilla::raft::CfPair;

pub use receive::Gathering;
pub use stream::send;

/// A pair of a snapshot.
pub type Pair = (Cf, Bytes, Bytes);

/// The running checksum of a snapshot's stream.
fn checksum(crc: u32, pairs: &[CfPair]) -> u32 {
    pairs.iter().fold(crc, |crc, pair| {
        let crc = crate::arch::crc32c_append(crc, &pair.cf.to_be_bytes());
        let crc = crate::arch::crc32c_append(crc, &(pair.key.len() as u32).to_be_bytes());
        crate::arch::crc32c_append(crate::arch::crc32c_append(crc, &pair.key), &pair.value)
    })
}
