//! What a lane has given the log's writer and has not heard of.
//!
//! **Never**: an output finished before its batch, and those before it, are durable.

use std::collections::VecDeque;

use crate::rt::probe::Event as Probe;

use super::Owed;

/// One batch on its way.
pub(super) struct OnItsWay {
    /// When the writer was given it (node clock, ns).
    pub since_ns: u64,
    /// Its bytes.
    pub bytes: usize,
    /// Facts that are true when it is durable.
    pub probes: Vec<Probe>,
    /// What has to wait for it.
    pub owed: Owed,
}

/// Batches on their way, in order.
#[derive(Default)]
pub(super) struct Unwritten {
    batches: VecDeque<OnItsWay>,
    bytes: usize,
}

impl Unwritten {
    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long the oldest has been on its way, ns.
    pub(super) fn age_ns(&self, now_ns: u64) -> u64 {
        self.batches.front().map_or(0, |oldest| now_ns.saturating_sub(oldest.since_ns))
    }

    /// One more was given to the writer.
    pub(super) fn push(&mut self, batch: OnItsWay) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// The oldest is durable.
    pub(super) fn pop(&mut self) -> Option<OnItsWay> {
        let oldest = self.batches.pop_front()?;
        assert!(oldest.bytes <= self.bytes, "the bytes on their way are those of the batches on their way");
        self.bytes -= oldest.bytes;
        Some(oldest)
    }
}
