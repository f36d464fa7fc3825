//! RocksDB's errors.

use std::ffi::{CStr, c_char};

use librocksdb_sys as ffi;
use rocksdb::ErrorKind;

use crate::types::{Error, Result};

/// Why RocksDB did not do something.
pub(super) enum Refusal {
    /// It was told not to wait for the disk, and would have had to.
    WouldWait,
    /// It failed.
    Failed(Error),
}

/// Converts an error of the `rocksdb` crate.
pub(super) fn convert(error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => Error::Corruption(text),
        _ => failed(text),
    }
}

/// Converts an error string of RocksDB, which is null if there is no error, and frees it.
pub(super) fn refusal(error: *mut c_char) -> Option<Refusal> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the string comes from RocksDB and ends in a zero byte.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: the string belongs to this function, and RocksDB's strings are freed with this call.
    unsafe { ffi::rocksdb_free(error.cast()) };
    Some(if text.starts_with("Result incomplete") {
        Refusal::WouldWait
    } else if text.starts_with("Corruption") {
        Refusal::Failed(Error::Corruption(text))
    } else {
        Refusal::Failed(failed(text))
    })
}

/// Like [`refusal`], of a call that was not told not to wait.
pub(super) fn said(error: *mut c_char) -> Result<()> {
    match refusal(error) {
        None => Ok(()),
        Some(Refusal::Failed(error)) => Err(error),
        Some(Refusal::WouldWait) => Err(failed("RocksDB gave up because it would have had to wait".into())),
    }
}

/// Converts an error text of the disk.
pub(super) fn failed(text: String) -> Error {
    let full = text.contains("No space left");
    Error::Io(if full { format!("no space left on the disk: {text}") } else { text })
}
