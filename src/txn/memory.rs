//! max_ts, and the locks that stand in memory while an async or one-phase commit is being written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::arch::sync::Ceiling;
use crate::codec::lock::Lock;
use crate::types::Timestamp;

use super::action::Key;

/// The locks in memory and max_ts of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    max_ts: Ceiling,
    locks: Mutex<BTreeMap<Bytes, (Bytes, Lock)>>,
}

/// Locks in memory. They fall when this is dropped.
#[derive(Debug)]
pub(super) struct Guards {
    memory: Memory,
    keys: Vec<Bytes>,
}

/// Proof that max_ts was raised for a read, and whether it has to look for locks in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raised {
    looks: bool,
}

impl Memory {
    /// Raises max_ts to a read's timestamp, if it is one: [`Timestamp::MAX`] raises nothing.
    pub(super) fn raise(&self, at: Timestamp) -> Raised {
        let looks = match at {
            Timestamp::MAX => self.0.max_ts.is_guarded(),
            at => self.0.max_ts.raise(at.0),
        };
        Raised { looks }
    }

    /// Returns a lock on one of these keys (encoded) that `blocks` a read, with its plain key.
    pub(super) fn blocked<'a>(
        &self,
        raised: Raised,
        keys: impl IntoIterator<Item = &'a Bytes>,
        blocks: impl Fn(&Lock) -> bool,
    ) -> Option<(Bytes, Lock)> {
        if !raised.looks {
            return None;
        }
        let locks = self.0.locks.lock().expect("no holder panics");
        keys.into_iter().filter_map(|key| locks.get(key)).find(|(_, lock)| blocks(lock)).cloned()
    }

    /// Like [`Memory::blocked`], for the keys in `[start, end)`; an empty end is plus infinity.
    pub(super) fn blocked_in(
        &self,
        raised: Raised,
        (start, end): (&Bytes, &Bytes),
        blocks: impl Fn(&Lock) -> bool,
    ) -> Option<(Bytes, Lock)> {
        if !raised.looks || (!end.is_empty() && start >= end) {
            return None;
        }
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let locks = self.0.locks.lock().expect("no holder panics");
        locks.range::<Bytes, _>((Bound::Included(start), end)).map(|(_, found)| found).find(|(_, l)| blocks(l)).cloned()
    }

    /// Returns the start of the oldest lock in `[start, end)`; an empty end is plus infinity.
    pub(super) fn oldest_in(&self, (start, end): (&Bytes, &Bytes)) -> Option<Timestamp> {
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let locks = self.0.locks.lock().expect("no holder panics");
        locks.range::<Bytes, _>((Bound::Included(start), end)).map(|(_, (_, lock))| lock.start).min()
    }

    /// Sets locks in memory. `fix` is given the max_ts above which they commit, and returns the locks as they stand
    /// from then on. A read at a later timestamp finds them, a read at an earlier one has raised max_ts before.
    pub(super) fn guard<T>(&self, count: usize, fix: impl FnOnce(Timestamp) -> (T, Vec<(Key, Lock)>)) -> (T, Guards) {
        let mut locks = self.0.locks.lock().expect("no holder panics");
        let max_ts = self.0.max_ts.enter(count);
        let (made, fixed) = fix(Timestamp(max_ts));
        assert_eq!(fixed.len(), count, "as many locks as were announced");
        let mut keys = Vec::with_capacity(count);
        for (key, lock) in fixed {
            let before = locks.insert(key.encoded.clone(), (key.plain, lock));
            assert!(before.is_none(), "a key's latch lets one lock in memory stand");
            keys.push(key.encoded);
        }
        (made, Guards { memory: self.clone(), keys })
    }

    /// Returns max_ts and the number of locks in memory.
    pub(super) fn figures(&self) -> (Timestamp, usize) {
        let locks = self.0.locks.lock().expect("no holder panics").len();
        (Timestamp(self.0.max_ts.highest()), locks)
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        let mut locks = self.memory.0.locks.lock().expect("no holder panics");
        for key in &self.keys {
            locks.remove(key);
        }
        self.memory.0.max_ts.leave(self.keys.len());
    }
}
