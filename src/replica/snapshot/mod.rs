//! Snapshots: a group's state, streamed to a replica that fell behind the truncated log.
//!
//! ```text
//!   sender                                     receiver
//!   engine snapshot -> chunks  == stream ==>   head: a place free?  no: refused before any data
//!                      (a rate, a checksum)    chunks -> files beside the engine (a stager)
//!                                              whole: one message to the driver; raft wants it? no: the files go
//!                                              ingest: the ranges, the files and the group's state, in one step
//! ```
//!
//! The sender freezes the engine when raft emits the message. A snapshot may have any size: either side holds a few
//! chunks of it. A store sends two at a time and takes in two; what fails is tried again after 1 to 10 s, what finds
//! no place looks for one again soon.

mod receive;
mod retries;
mod stream;
mod traffic;

use crate::proto::armilla::raft::CfPair;

pub use receive::{Arrived, Receiving};
pub use retries::Retries;
pub use stream::Outgoing;
pub use traffic::{Counts, Traffic};

/// The running checksum of a snapshot's stream.
fn checksum(crc: u32, pairs: &[CfPair]) -> u32 {
    pairs.iter().fold(crc, |crc, pair| {
        let crc = crate::arch::crc32c_append(crc, &pair.cf.to_be_bytes());
        let crc = crate::arch::crc32c_append(crc, &(pair.key.len() as u32).to_be_bytes());
        crate::arch::crc32c_append(crate::arch::crc32c_append(crc, &pair.key), &pair.value)
    })
}

/// Bytes of keys and values.
fn bytes(pairs: &[CfPair]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
}
