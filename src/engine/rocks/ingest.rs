//! Ingests staged files atomically. RocksDB's C interface ingests the files of one column family per call; an intent
//! makes several calls atomic.
//!
//! ```text
//!   1 flush, while writers continue                    so that little is left for the next flush
//!   2 block writers; readers get a view from now on
//!   3 write the intent and the removals; flush         durable: the state before, and what is going to happen
//!   4 ingest each column family's files (as links)     each call is durable by itself
//!   5 write the batch, which also deletes the intent   readers and writers continue
//!   6 flush; then remove the staged files
//! ```
//!
//! After a crash during steps 1 to 3, before the intent is durable, the engine is as it was before the ingest. After a
//! later crash, [`Inner::resume`] finds the intent when the engine is opened and carries it out again, starting with
//! the removals: nothing else was written since, and the intent is deleted in the same write as the batch. The staged
//! files stay until that is durable.
//!
//! In a range without keys there is nothing to remove, and its files go into the lowest level; files above old keys go
//! into level 0.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::sync::{Arc, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use librocksdb_sys as ffi;
use rocksdb::{AsColumnFamilyRef as _, AsRawPtr as _};

use super::error::said;
use super::reads::ReadOptions;
use super::{Frozen, Inner, RocksStaged, stage};
use crate::engine::{Cf, CfRange, CursorOptions, Op, WriteBatch};
use crate::types::{Error, Result};

/// The key of the intent in [`Cf::Meta`], after every other key: this first byte is reserved for the engine.
const INTENT: &[u8] = b"\xffingest";
/// The first byte of an encoded intent.
const FORMAT: u8 = 1;

/// An ingest to be carried out.
#[derive(Clone, Debug, Default, PartialEq)]
struct Intent {
    ranges: Vec<CfRange>,
    files: Vec<(Cf, String)>,
    meta: WriteBatch,
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

fn take_cf(from: &mut Bytes) -> Option<Cf> {
    Cf::from_number(from.try_get_u8().ok()?.into())
}

impl Intent {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        out.put_u32(self.ranges.len() as u32);
        for CfRange { cf, start, end } in &self.ranges {
            out.put_u8(*cf as u8);
            put_bytes(&mut out, start);
            put_bytes(&mut out, end);
        }
        out.put_u32(self.files.len() as u32);
        for (cf, name) in &self.files {
            out.put_u8(*cf as u8);
            put_bytes(&mut out, name.as_bytes());
        }
        out.put_u32(self.meta.len() as u32);
        for op in self.meta.ops() {
            let (kind, cf, first, second) = match op {
                Op::Put(cf, key, value) => (0, cf, key, value),
                Op::Delete(cf, key) => (1, cf, key, &Bytes::new()),
                Op::DeleteRange(cf, start, end) => (2, cf, start, end),
            };
            out.put_u8(kind);
            out.put_u8(*cf as u8);
            put_bytes(&mut out, first);
            put_bytes(&mut out, second);
        }
        out.freeze()
    }

    fn decode(mut from: Bytes) -> Option<Intent> {
        let from = &mut from;
        let mut intent = Intent::default();
        if from.try_get_u8().ok()? != FORMAT {
            return None;
        }
        for _ in 0..from.try_get_u32().ok()? {
            intent.ranges.push(CfRange { cf: take_cf(from)?, start: take_bytes(from)?, end: take_bytes(from)? });
        }
        for _ in 0..from.try_get_u32().ok()? {
            intent.files.push((take_cf(from)?, String::from_utf8(take_bytes(from)?.into()).ok()?));
        }
        for _ in 0..from.try_get_u32().ok()? {
            let kind = from.try_get_u8().ok()?;
            let (cf, first, second) = (take_cf(from)?, take_bytes(from)?, take_bytes(from)?);
            intent.meta.push(match kind {
                0 => Op::Put(cf, first, second),
                1 => Op::Delete(cf, first),
                2 => Op::DeleteRange(cf, first, second),
                _ => return None,
            });
        }
        from.is_empty().then_some(intent)
    }
}

impl Inner {
    /// Removes ranges, ingests files and applies a batch: see the head of this file.
    pub(super) fn ingest(&self, ranges: &[CfRange], staged: &RocksStaged, meta: &WriteBatch) -> Result<()> {
        if !ptr::eq(self, &*staged.inner) {
            return Err(Error::Invalid("the staged files are those of another engine".into()));
        }
        let _alone = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        self.writable()?;
        self.flush_now().map_err(|error| self.stop("flush", error))?;
        let files = &staged.files;
        let mut intent = Intent { ranges: ranges.to_vec(), files: files.names.clone(), meta: meta.clone() };
        files.need(true);
        let held = self.writers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(unmark) = self.unmark(staged.ends_mark) {
            intent.meta.push(unmark);
        }
        let done = self.carry_out(&intent, true);
        drop(held);
        done.and_then(|()| self.flush_now()).map_err(|error| self.stop("ingest", error))?;
        if staged.ends_mark {
            self.unmarked();
        }
        files.need(false);
        Ok(())
    }

    /// Carries out an ingest that a crash interrupted, and removes staged files. Called when the engine is opened,
    /// before anything else reads or writes.
    pub(super) fn resume(&self) -> Result<()> {
        if let Some(intent) = self.get(Cf::Meta, INTENT, &self.read_options)? {
            let intent = Intent::decode(intent)
                .ok_or_else(|| Error::Corruption("cannot decode the intent of an ingest".into()))?;
            self.carry_out(&intent, false)?;
            self.flush_now()?;
        }
        stage::clear(self.db.path())
    }

    /// Carries out all steps between the first flush and the last. Nothing else may write or flush meanwhile.
    fn carry_out(&self, intent: &Intent, announce: bool) -> Result<()> {
        self.begin(intent, announce)?;
        for cf in Cf::ALL {
            self.take_files(cf, intent)?;
        }
        self.end(intent)
    }

    /// Gives readers a view, writes the intent (if `announce`) and removes its ranges, durably.
    fn begin(&self, intent: &Intent, announce: bool) -> Result<()> {
        let view = Frozen::new(&self.db);
        *self.before.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
        let mut batch = WriteBatch::new();
        if announce {
            batch.put(Cf::Meta, INTENT, intent.encode());
        }
        for CfRange { cf, start, end } in &intent.ranges {
            if self.has_keys(*cf, start, end)? {
                batch.delete_range(*cf, start.clone(), end.clone());
            }
        }
        self.write_now(&batch)?;
        self.flush_all()?;
        self.await_flushed(true)
    }

    /// Applies the batch and makes all of it visible to readers. If an earlier step failed, readers keep their view,
    /// because the engine has stopped.
    fn end(&self, intent: &Intent) -> Result<()> {
        let mut batch = intent.meta.clone();
        batch.delete(Cf::Meta, INTENT);
        self.write_now(&batch)?;
        *self.before.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    pub(super) fn has_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<bool> {
        self.cursor(cf, (start, end), CursorOptions::keys_only(), ReadOptions::new(None)).seek(start)
    }

    fn take_files(&self, cf: Cf, intent: &Intent) -> Result<()> {
        let directory = stage::directory(self.db.path());
        let files = intent.files.iter().filter(|(of, _)| *of == cf);
        let paths: Vec<CString> = files
            .map(|(_, name)| CString::new(directory.join(name).as_os_str().as_bytes()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::Invalid("the data directory's name contains a zero byte".into()))?;
        if paths.is_empty() {
            return Ok(());
        }
        let pointers: Vec<*const c_char> = paths.iter().map(|path| path.as_ptr()).collect();
        let mut error = ptr::null_mut();
        // SAFETY: the options are created, used and destroyed here; the database and the handle live as long as `self`;
        // the call reads the given number of names, each ending in a zero byte, and sets `error` to null or to a string
        // that this function must free.
        unsafe {
            let options = ffi::rocksdb_ingestexternalfileoptions_create();
            // The files must stay in place, because they are needed again after a crash.
            ffi::rocksdb_ingestexternalfileoptions_set_link_files(options, 1);
            ffi::rocksdb_ingestexternalfileoptions_set_fill_cache(options, 0);
            ffi::rocksdb_ingest_external_file_cf(
                self.db.as_raw_ptr(),
                self.cf(cf).inner(),
                pointers.as_ptr(),
                pointers.len(),
                options,
                &mut error,
            );
            ffi::rocksdb_ingestexternalfileoptions_destroy(options);
        }
        said(error)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an ingest that was interrupted at any point is complete after a restart, and includes its batch. Method:
    //! its steps one by one, with a crash after each.

    use super::*;
    use crate::engine::tests::{Home as _, RocksHome, pairs};
    use crate::engine::{KvEngine as _, Read as _, RocksEngine, Stager as _};

    #[test]
    fn an_intent_decodes_whole_or_not_at_all() {
        let mut meta = WriteBatch::new();
        meta.put(Cf::Meta, "applied", "7");
        meta.delete(Cf::Pd, "gone");
        meta.delete_range(Cf::RawLock, "a", "");
        let ranges = vec![CfRange { cf: Cf::RawWrite, start: "a".into(), end: Bytes::new() }];
        let intent = Intent { ranges, files: vec![(Cf::RawLock, "0-raw_lock-0.sst".into())], meta };
        let encoded = intent.encode();
        assert_eq!(Intent::decode(encoded.clone()), Some(intent));
        for length in 0..encoded.len() {
            assert_eq!(Intent::decode(encoded.slice(..length)), None);
        }
    }

    /// Creates an engine's old pairs in two column families, files for three, and the ingest that replaces the ranges
    /// of all three.
    fn scene(engine: &RocksEngine) -> (RocksStaged, Intent) {
        let mut batch = WriteBatch::new();
        for (cf, key) in [(Cf::RawDefault, "b"), (Cf::RawDefault, "c"), (Cf::RawLock, "c"), (Cf::RawLock, "z")] {
            batch.put(cf, key, "old");
        }
        batch.put(Cf::Meta, "applied", "1");
        engine.write(&batch).unwrap();
        let mut stager = engine.stager().unwrap();
        for cf in Cf::RAW {
            stager.put(cf, b"c", b"new").unwrap();
            stager.put(cf, b"d", b"new").unwrap();
        }
        let staged = stager.finish().unwrap();
        let ranges = Cf::RAW.map(|cf| CfRange { cf, start: "a".into(), end: "x".into() }).into();
        let mut meta = WriteBatch::new();
        meta.put(Cf::Meta, "applied", "2");
        let intent = Intent { ranges, files: staged.files.names.clone(), meta };
        (staged, intent)
    }

    fn content(engine: &dyn crate::engine::Read) -> Vec<(Cf, String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let of = |cf| pairs(engine, cf, b"", b"").unwrap().into_iter().map(move |(k, v)| (cf, text(k), text(v)));
        Cf::ALL.into_iter().flat_map(of).collect()
    }

    #[test]
    fn an_ingest_goes_on_where_a_crash_interrupted_it() {
        let after: Vec<(Cf, String, String)> = [
            (Cf::Meta, "applied", "2"),
            (Cf::RawDefault, "c", "new"),
            (Cf::RawDefault, "d", "new"),
            (Cf::RawLock, "c", "new"),
            (Cf::RawLock, "d", "new"),
            (Cf::RawLock, "z", "old"),
            (Cf::RawWrite, "c", "new"),
            (Cf::RawWrite, "d", "new"),
        ]
        .map(|(cf, key, value)| (cf, key.to_owned(), value.to_owned()))
        .into();
        // How many column families have ingested their files, and whether the batch was written (but not flushed).
        for (families, ended) in [(0, false), (3, false), (4, false), (5, false), (5, true)] {
            let mut home = RocksHome::new();
            let engine = home.open().unwrap();
            let (staged, intent) = scene(&engine);
            let before = content(&engine);
            let inner = &engine.inner;
            inner.begin(&intent, true).unwrap();
            for cf in Cf::ALL.into_iter().take(families) {
                inner.take_files(cf, &intent).unwrap();
                assert_eq!(content(&engine), before, "readers see none of it");
                assert_eq!(content(&engine.snapshot()), before, "readers see none of it");
            }
            let seen = engine.snapshot();
            if ended {
                inner.end(&intent).unwrap();
                assert_eq!(content(&engine), after, "readers see all of it");
            }
            home.crash();
            assert_eq!(content(&seen), before, "a snapshot does not change");
            let again = home.open().unwrap();
            assert_eq!(content(&again), after, "{families} families, {ended}");
            assert!(again.get(Cf::Meta, INTENT).unwrap().is_none() && !home.staged(), "nothing is left");
            // The result is durable: a second crash changes nothing, and a later write is not undone.
            let mut batch = WriteBatch::new();
            batch.put(Cf::RawWrite, "d", "newer");
            again.write(&batch).unwrap();
            again.flush().unwrap();
            home.crash();
            assert_eq!(home.open().unwrap().get(Cf::RawWrite, b"d").unwrap().unwrap(), "newer");
            drop(staged);
        }
    }

    #[test]
    fn files_of_another_engine_are_refused() {
        let (mut one, mut other) = (RocksHome::new(), RocksHome::new());
        let (one, other) = (one.open().unwrap(), other.open().unwrap());
        let staged = one.stager().unwrap().finish().unwrap();
        assert!(matches!(other.ingest(&[], &staged, &WriteBatch::new()), Err(Error::Invalid(_))));
    }
}
