//! Memory of requests, of the whole node: what is arriving and what is being answered.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::IntGauge;

use crate::types::limits::REQUESTS_BYTES_MAX;

use super::refusal::Refusal;

/// Bytes from which on a message is counted.
pub(super) const COUNTED: usize = 64 << 10;

/// Bytes of the node's requests that are arriving or being answered. Clones share them.
#[derive(Clone, Debug)]
pub struct Intake(pub(super) IntGauge);

impl Intake {
    /// Counts in `gauge`, which nobody else changes.
    pub fn new(gauge: IntGauge) -> Intake {
        Intake(gauge)
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.get() <= REQUESTS_BYTES_MAX as i64
    }

    /// Nothing yet, of a call that begins to arrive.
    pub(super) fn begin(&self) -> Arc<Share> {
        Arc::new(Share { intake: self.clone(), bytes: AtomicI64::new(0), refusal: OnceLock::new() })
    }
}

/// One call's part of the node's requests; given back when its body and its answer are gone.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) intake: Intake,
    bytes: AtomicI64,
    /// Why the call was not taken, if it was not.
    pub(super) refusal: OnceLock<Refusal>,
}

impl Share {
    /// Counts bytes that have arrived; false if the node has no room for them.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.intake.0.add(bytes as i64);
        self.intake.has_room()
    }

    /// Gives all of it back.
    pub(super) fn clear(&self) {
        self.intake.0.sub(self.bytes.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}
