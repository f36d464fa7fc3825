//! Whether a read of keys can do without large values.
//!
//! A stored raw value ends with a byte that says whether it expires (`codec/raw.rs`): 0 if it does not. A read of keys
//! leaves expired ones out, so it would have to read every value. Where large values are in blob files, nearly all of
//! the cost of such a read would be theirs. Therefore the engine remembers whether it ever held a large value that ends
//! with another byte: a mark in [`Cf::Meta`] says that it did not. The mark is written into an engine without data,
//! and deleted by the batch, or the ingest, that adds the first such value. A view of the engine that has the mark has
//! no such value.

use std::sync::PoisonError;

use super::Inner;
use super::reads::ReadOptions;
use crate::engine::{Cf, Op, WriteBatch};
use crate::types::Result;
use crate::types::limits::SEPARATE_BYTES_MIN;

/// The key of the mark: this first byte is reserved for the engine.
const PLAIN: &[u8] = b"\xffplain";

impl Inner {
    /// Marks an engine that has no data. Called when the engine is opened, before anything else reads or writes.
    pub(super) fn mark_plain(&self) -> Result<()> {
        let mut is_plain = self.has_mark(&self.read_options)?;
        if !is_plain && !self.has_any_separable()? {
            let mut batch = WriteBatch::new();
            batch.put(Cf::Meta, PLAIN, "");
            self.write_now(&batch)?;
            is_plain = true;
        }
        self.set_plain(is_plain);
        Ok(())
    }

    fn has_any_separable(&self) -> Result<bool> {
        for cf in Cf::ALL.into_iter().filter(|cf| cf.separates()) {
            if self.has_keys(cf, b"", b"")? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the view of some options has the mark. False if that is not in memory and the options forbid to
    /// wait.
    pub(super) fn has_mark(&self, options: &ReadOptions) -> Result<bool> {
        Ok(self.look_up(Cf::Meta, PLAIN, options, |_| ())?.flatten().is_some())
    }

    /// Returns whether a value makes the mark untrue.
    pub(super) fn ends_mark(&self, cf: Cf, value: &[u8]) -> bool {
        // Values of this length may be in blob files now, or after a start with another configuration.
        let from =
            if self.separate_from == 0 { SEPARATE_BYTES_MIN } else { self.separate_from.min(SEPARATE_BYTES_MIN) };
        cf.separates() && value.len() as u64 >= from && value.last() != Some(&0)
    }

    /// Returns the change that ends the mark, if a batch has to.
    pub(super) fn unmark(&self, ends: bool) -> Option<Op> {
        let needed = ends && *self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        needed.then(|| Op::Delete(Cf::Meta, bytes::Bytes::from_static(PLAIN)))
    }

    /// Notes that a batch with that change was written.
    pub(super) fn unmarked(&self) {
        self.set_plain(false);
    }

    fn set_plain(&self, is_plain: bool) {
        *self.plain.lock().unwrap_or_else(PoisonError::into_inner) = is_plain;
    }
}
