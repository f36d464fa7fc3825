//! Snapshots: a group's state, streamed to a replica that fell behind the truncated log.
//!
//! ```text
//!   sender                                     receiver
//!   engine snapshot -> chunks  == stream ==>   head: is a slot free? no: refused before any data
//!                      (rate and checksum)     chunks -> files beside the engine (a stager)
//!                                              complete: one message to the driver; removed if raft declines it
//!                                              ingest: ranges, files and the group's state, in one step
//! ```
//!
//! The sender takes a snapshot of the engine when raft emits the message. A snapshot may have any size: each side holds
//! only a few chunks of it in memory. A store sends at most two snapshots at a time and receives at most two. A
//! snapshot that fails is retried after 1 to 10 s; one that finds no free slot is retried sooner.

mod receive;
mod retries;
mod stream;
mod traffic;

use crate::proto::armilla::raft::CfPair;

pub use receive::{Arrived, Receiving};
pub use retries::Retries;
pub use stream::Outgoing;
pub use traffic::{Counts, Traffic};

/// Extends the running checksum of a snapshot's stream by `pairs`.
fn checksum(crc: u32, pairs: &[CfPair]) -> u32 {
    pairs.iter().fold(crc, |crc, pair| {
        let crc = crate::arch::crc32c_append(crc, &pair.cf.to_be_bytes());
        let crc = crate::arch::crc32c_append(crc, &(pair.key.len() as u32).to_be_bytes());
        crate::arch::crc32c_append(crate::arch::crc32c_append(crc, &pair.key), &pair.value)
    })
}

/// Returns the bytes of the keys and values.
fn bytes(pairs: &[CfPair]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
}
