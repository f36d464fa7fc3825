//! Memory of the whole node's requests that are arriving or in progress.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::IntGauge;

use crate::types::limits::REQUESTS_BYTES_MAX;

use super::refusal::Refusal;

/// Messages of at least this many bytes are counted.
pub(super) const COUNTED: usize = 64 << 10;

/// Bytes of the node's requests that are arriving or in progress. Clones share the count.
#[derive(Clone, Debug)]
pub struct Intake(pub(super) IntGauge);

impl Intake {
    /// Creates the count in `gauge`, which must not be changed elsewhere.
    pub fn new(gauge: IntGauge) -> Intake {
        Intake(gauge)
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.get() <= REQUESTS_BYTES_MAX as i64
    }

    /// Returns an empty share for a call that begins to arrive.
    pub(super) fn begin(&self) -> Arc<Share> {
        Arc::new(Share { intake: self.clone(), bytes: AtomicI64::new(0), refusal: OnceLock::new() })
    }
}

/// One call's share of the node's requests. Returned when the call's body and its response are dropped.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) intake: Intake,
    bytes: AtomicI64,
    /// Why the call was refused, if it was.
    pub(super) refusal: OnceLock<Refusal>,
}

impl Share {
    /// Counts bytes that have arrived. Returns false if the node has no room for them.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.intake.0.add(bytes as i64);
        self.intake.has_room()
    }

    /// Returns the whole share.
    pub(super) fn clear(&self) {
        self.intake.0.sub(self.bytes.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}
