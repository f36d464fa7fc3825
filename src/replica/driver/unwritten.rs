//! Batches that a lane has given to the log's writer, and that are not confirmed yet.
//!
//! **Never**: an output finished before its batch, and those before it, are durable.

use std::collections::VecDeque;

use crate::rt::probe::Event as Probe;

use super::Owed;
use super::birth::Newborn;

/// One batch that is in flight to the log.
pub(super) struct InFlight {
    /// When it was given to the writer (node clock, ns).
    pub since_ns: u64,
    /// The batch's bytes.
    pub bytes: usize,
    /// Probe events to emit when it is durable.
    pub probes: Vec<Probe>,
    /// The work that has to wait for it.
    pub owed: Owed,
    /// Groups that begin when it is durable.
    pub born: Vec<Newborn>,
}

/// The batches in flight, in order.
#[derive(Default)]
pub(super) struct Unwritten {
    batches: VecDeque<InFlight>,
    bytes: usize,
}

impl Unwritten {
    /// Returns whether no batch is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the bytes in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how long the oldest batch has been in flight, in nanoseconds.
    pub(super) fn age_ns(&self, now_ns: u64) -> u64 {
        self.batches.front().map_or(0, |oldest| now_ns.saturating_sub(oldest.since_ns))
    }

    /// Adds a batch that was given to the writer.
    pub(super) fn push(&mut self, batch: InFlight) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// Removes the oldest batch, which is durable, and returns it.
    pub(super) fn pop(&mut self) -> Option<InFlight> {
        let oldest = self.batches.pop_front()?;
        assert!(oldest.bytes <= self.bytes, "the bytes in flight include those of each batch in flight");
        self.bytes -= oldest.bytes;
        Some(oldest)
    }
}
