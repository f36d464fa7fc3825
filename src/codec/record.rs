//! The stored form of a commit record: what a transaction did to a key, under the key and the commit timestamp.
//!
//! ```text
//!   kind | start_ts (number) | tagged fields
//! ```
//! A rollback is a record at its own start timestamp. Fields are as in [`super::lock`].

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{Fields, put_number};
use crate::types::{Result, Timestamp};

/// The "value" of a rollback that must not be dropped when another one is written above it.
pub const PROTECTED: &[u8] = b"p";

const SHORT_VALUE: u8 = b'v';
const OVERLAPPED: u8 = b'R';
const GC_FENCE: u8 = b'F';
const LAST_CHANGE: u8 = b'l';
const SOURCE: u8 = b'S';

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The key has a value.
    Put,
    /// The key has none.
    Delete,
    /// The transaction locked the key and did not change it.
    Lock,
    /// The transaction with this start timestamp will never write the key.
    Rollback,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// The start timestamp of its transaction.
    pub start: Timestamp,
    /// The value if it is short; [`PROTECTED`] in a protected rollback.
    pub short_value: Option<Bytes>,
    /// Whether the transaction whose start timestamp is this record's commit timestamp was rolled back here.
    pub overlapped: bool,
    /// TiKV's mark for its garbage collection: read, never written.
    pub gc_fence: Option<Timestamp>,
    /// The newest change below, and how many records are above it, if the writer knew.
    pub last_change: Option<(Timestamp, u64)>,
    /// Where the transaction came from, as its client gave it.
    pub source: u64,
}

impl Record {
    /// Returns a record without optional fields.
    pub fn new(kind: RecordKind, start: Timestamp) -> Record {
        Record { kind, start, short_value: None, overlapped: false, gc_fence: None, last_change: None, source: 0 }
    }

    /// Returns a rollback.
    pub fn rollback(start: Timestamp, protected: bool) -> Record {
        Record { short_value: protected.then(|| PROTECTED.into()), ..Record::new(RecordKind::Rollback, start) }
    }

    /// Returns whether it is a rollback that may be dropped when another one is written above it.
    pub fn may_collapse(&self) -> bool {
        self.kind == RecordKind::Rollback && self.short_value.as_deref() != Some(PROTECTED) && !self.overlapped
    }

    /// Returns whether it gives the key a value.
    pub fn is_put(&self) -> bool {
        self.kind == RecordKind::Put
    }

    /// Returns whether it changes the key's value.
    pub fn is_change(&self) -> bool {
        matches!(self.kind, RecordKind::Put | RecordKind::Delete)
    }
}

/// Returns the stored form.
pub fn encode(record: &Record) -> Bytes {
    let mut out = BytesMut::with_capacity(24 + record.short_value.as_ref().map_or(0, Bytes::len));
    out.put_u8(match record.kind {
        RecordKind::Put => b'P',
        RecordKind::Delete => b'D',
        RecordKind::Lock => b'L',
        RecordKind::Rollback => b'R',
    });
    put_number(&mut out, record.start.0);
    if let Some(value) = &record.short_value {
        out.put_u8(SHORT_VALUE);
        out.put_u8(u8::try_from(value.len()).expect("a short value is short"));
        out.put_slice(value);
    }
    if record.overlapped {
        out.put_u8(OVERLAPPED);
    }
    if let Some(at) = record.gc_fence {
        out.put_u8(GC_FENCE);
        out.put_u64(at.0);
    }
    if let Some((at, versions)) = record.last_change {
        out.put_u8(LAST_CHANGE);
        out.put_u64(at.0);
        put_number(&mut out, versions);
    }
    if record.source != 0 {
        out.put_u8(SOURCE);
        put_number(&mut out, record.source);
    }
    out.freeze()
}

/// A decoded record whose value is still where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// What it says.
    pub kind: RecordKind,
    /// The start timestamp of its transaction.
    pub start: Timestamp,
    /// The value if it is short, as in [`Record::short_value`].
    pub short_value: Option<&'a [u8]>,
    overlapped: bool,
    gc_fence: Option<Timestamp>,
    last_change: Option<(Timestamp, u64)>,
    source: u64,
}

/// Decodes a stored record without a copy of its value.
///
/// # Errors
/// [`crate::types::Error::Corruption`].
pub fn decode_ref(stored: &[u8]) -> Result<RecordRef<'_>> {
    let mut fields = Fields::new(stored, "commit record");
    let kind = match fields.byte()? {
        b'P' => RecordKind::Put,
        b'D' => RecordKind::Delete,
        b'L' => RecordKind::Lock,
        b'R' => RecordKind::Rollback,
        _ => return Err(fields.broken("its kind is unknown")),
    };
    let start = Timestamp(fields.number()?);
    let (short_value, gc_fence, last_change) = (None, None, None);
    let mut record = RecordRef { kind, start, short_value, overlapped: false, gc_fence, last_change, source: 0 };
    while let Some(tag) = fields.tag() {
        match tag {
            SHORT_VALUE => {
                let length = fields.byte()?;
                record.short_value = Some(fields.take(length.into())?);
            }
            OVERLAPPED => record.overlapped = true,
            GC_FENCE => record.gc_fence = Some(Timestamp(fields.fixed()?)),
            LAST_CHANGE => record.last_change = Some((Timestamp(fields.fixed()?), fields.number()?)),
            SOURCE => record.source = fields.number()?,
            _ => break,
        }
    }
    Ok(record)
}

/// Decodes a stored record.
///
/// # Errors
/// As [`decode_ref`].
pub fn decode(stored: &[u8]) -> Result<Record> {
    let RecordRef { kind, start, short_value, overlapped, gc_fence, last_change, source } = decode_ref(stored)?;
    let short_value = short_value.map(Bytes::copy_from_slice);
    Ok(Record { kind, start, short_value, overlapped, gc_fence, last_change, source })
}

#[cfg(test)]
mod tests {
    //! Goal: the bytes that TRANSACTIONS.md section 1 gives. Method: examples worked out by hand.
    use super::*;

    #[test]
    fn known_bytes() {
        let full = Record {
            short_value: Some("v".into()),
            overlapped: true,
            gc_fence: Some(Timestamp(2)),
            last_change: Some((Timestamp(4), 200)),
            source: 1,
            ..Record::new(RecordKind::Put, Timestamp(10))
        };
        let bytes = encode(&full);
        assert_eq!(bytes, &b"P\x0av\x01vRF\0\0\0\0\0\0\0\x02l\0\0\0\0\0\0\0\x04\xc8\x01S\x01"[..]);
        assert_eq!(decode(&bytes).unwrap(), full);
        assert_eq!(encode(&Record::rollback(Timestamp(10), true)), &b"R\x0av\x01p"[..]);
        assert_eq!(encode(&Record::rollback(Timestamp(10), false)), &b"R\x0a"[..]);
        assert!(decode(b"S\x0a").is_err());
        assert!(decode(b"P\x0av\x09v").is_err());
        assert_eq!(decode(b"D\x0a?").unwrap(), Record::new(RecordKind::Delete, Timestamp(10)));
    }

    #[test]
    fn what_may_collapse() {
        assert!(Record::rollback(Timestamp(10), false).may_collapse());
        assert!(!Record::rollback(Timestamp(10), true).may_collapse());
        assert!(!Record::new(RecordKind::Lock, Timestamp(10)).may_collapse());
    }
}
