//! The stored form of a lock.
//!
//! ```text
//!   kind | primary key (bytes) | start_ts (number) | TTL in ms (number) | tagged fields
//! ```
//! Locks of several transactions on one key, in shared mode, have one stored form:
//!
//! ```text
//!   'H' | 'i' flags (left out if they are zero) | 'h' count (number) | each lock (bytes)
//! ```
//! Fields have a tag of one byte, stand in the order of [`encode`], and are left out if they are zero. An unknown tag
//! ends the decoding: what follows is of a later version. Numbers are of variable length, except those that say
//! otherwise.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{Fields, put_bytes, put_number};
use crate::types::{Result, Timestamp};

/// The longest value that stands in the lock or record itself, in bytes.
pub const SHORT_VALUE_BYTES: usize = 255;

const SHORT_VALUE: u8 = b'v';
const FOR_UPDATE: u8 = b'f';
const TXN_SIZE: u8 = b't';
const MIN_COMMIT: u8 = b'c';
const ASYNC_COMMIT: u8 = b'a';
const ROLLBACKS: u8 = b'r';
const LAST_CHANGE: u8 = b'l';
const SOURCE: u8 = b's';
const WITH_CONFLICT: u8 = b'F';
const GENERATION: u8 = b'g';

const SHARED: u8 = b'H';
const SHARED_FLAGS: u8 = b'i';
const SHARED_LOCKS: u8 = b'h';
/// The flag of shared locks that no other transaction joins.
const CLOSED: u8 = 1;

/// What the owner of a lock is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Set the value.
    Put,
    /// Delete the key.
    Delete,
    /// Nothing: it only excludes others.
    Lock,
    /// It does not know yet: the lock was taken before the commit began.
    Pessimistic,
}

/// A lock: a transaction's intent to write a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What the owner is going to do.
    pub kind: LockKind,
    /// The key whose lock or record decides the transaction's fate.
    pub primary: Bytes,
    /// The owner's start timestamp.
    pub start: Timestamp,
    /// How long the owner is considered to be alive, in milliseconds after the physical part of `start`.
    pub ttl_ms: u64,
    /// The value, if it is short ([`SHORT_VALUE_BYTES`]); longer ones are apart.
    pub short_value: Option<Bytes>,
    /// The timestamp at which a pessimistic transaction locked the key; 0 in an optimistic one.
    pub for_update: Timestamp,
    /// The number of the transaction's keys, as its client gave it.
    pub txn_size: u64,
    /// The transaction commits at this timestamp or later.
    pub min_commit: Timestamp,
    /// With async commit: the keys without the primary one, in the primary's lock; empty in all others.
    pub secondaries: Option<Vec<Bytes>>,
    /// Start timestamps of other transactions that were rolled back here while the lock stood.
    pub rollbacks: Vec<Timestamp>,
    /// The newest change below, and how many records are above it, if the writer knew.
    pub last_change: Option<(Timestamp, u64)>,
    /// Where the transaction came from, as its client gave it.
    pub source: u64,
    /// Whether the lock was taken although there was a newer version.
    pub with_conflict: bool,
    /// The generation of a pipelined transaction's write.
    pub generation: u64,
    /// If the key is locked in shared mode: what else stands there.
    pub shared: Option<Box<Shared>>,
}

/// What stands on a key beside a lock in shared mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The locks of other transactions, by their start timestamps. They have no [`Lock::shared`].
    pub others: Vec<Lock>,
    /// Whether no other transaction joins them: one waits for the key in exclusive mode.
    pub closed: bool,
}

impl Lock {
    /// Returns a lock without optional fields.
    pub fn new(kind: LockKind, primary: Bytes, start: Timestamp, ttl_ms: u64) -> Lock {
        Lock {
            kind,
            primary,
            start,
            ttl_ms,
            short_value: None,
            for_update: Timestamp(0),
            txn_size: 0,
            min_commit: Timestamp(0),
            secondaries: None,
            rollbacks: Vec::new(),
            last_change: None,
            source: 0,
            with_conflict: false,
            generation: 0,
            shared: None,
        }
    }

    /// Returns whether others may lock the key as well.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Returns all locks of the key, each without the others, by their start timestamps.
    pub fn each(&self) -> Vec<Lock> {
        let mut all = self.shared.as_ref().map(|shared| shared.others.clone()).unwrap_or_default();
        all.push(Lock { shared: None, ..self.clone() });
        all.sort_by_key(|lock| lock.start);
        all
    }

    /// Returns the lock of the transaction that began at `start`, if it is one of those of the key, or else another.
    #[must_use]
    pub fn seen_by(self, start: Timestamp) -> Lock {
        match &self.shared {
            Some(shared) if self.start != start && shared.others.iter().any(|lock| lock.start == start) => {
                let closed = shared.closed;
                let (mut own, others): (Vec<Lock>, Vec<Lock>) =
                    self.each().into_iter().partition(|lock| lock.start == start);
                let shared = Some(Box::new(Shared { others, closed }));
                Lock { shared, ..own.remove(0) }
            }
            _ => self,
        }
    }

    /// Returns what stands on the key once this lock has ended; `None` if it is not locked then.
    pub fn rest(&self) -> Option<Lock> {
        let shared = self.shared.as_ref()?;
        let (first, others) = shared.others.split_first()?;
        let shared = Some(Box::new(Shared { others: others.to_vec(), closed: shared.closed }));
        Some(Lock { shared, ..first.clone() })
    }

    /// Returns whether the lock was taken before the commit began.
    pub fn is_pessimistic(&self) -> bool {
        self.kind == LockKind::Pessimistic
    }

    /// Returns whether the transaction is committed as soon as all its locks stand.
    pub fn is_async(&self) -> bool {
        self.secondaries.is_some()
    }

    /// Returns whether the owner is considered to be dead at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.start.physical_ms().saturating_add(self.ttl_ms) < now.physical_ms()
    }
}

/// Returns the stored form of all locks of a key.
pub fn encode(lock: &Lock) -> Bytes {
    let Some(shared) = &lock.shared else { return encode_one(lock) };
    let each = lock.each();
    let mut out = BytesMut::with_capacity(16 + each.len() * 96);
    out.put_u8(SHARED);
    if shared.closed {
        out.put_u8(SHARED_FLAGS);
        out.put_u8(CLOSED);
    }
    out.put_u8(SHARED_LOCKS);
    put_number(&mut out, each.len() as u64);
    each.iter().for_each(|lock| put_bytes(&mut out, &encode_one(lock)));
    out.freeze()
}

fn encode_one(lock: &Lock) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + lock.primary.len() + lock.short_value.as_ref().map_or(0, Bytes::len));
    out.put_u8(match lock.kind {
        LockKind::Put => b'P',
        LockKind::Delete => b'D',
        LockKind::Lock => b'L',
        LockKind::Pessimistic => b'S',
    });
    put_bytes(&mut out, &lock.primary);
    put_number(&mut out, lock.start.0);
    put_number(&mut out, lock.ttl_ms);
    if let Some(value) = &lock.short_value {
        out.put_u8(SHORT_VALUE);
        out.put_u8(u8::try_from(value.len()).expect("a short value is short"));
        out.put_slice(value);
    }
    for (tag, number) in [(FOR_UPDATE, lock.for_update.0), (TXN_SIZE, lock.txn_size), (MIN_COMMIT, lock.min_commit.0)] {
        if number != 0 {
            out.put_u8(tag);
            out.put_u64(number);
        }
    }
    if let Some(secondaries) = &lock.secondaries {
        out.put_u8(ASYNC_COMMIT);
        put_number(&mut out, secondaries.len() as u64);
        secondaries.iter().for_each(|key| put_bytes(&mut out, key));
    }
    if !lock.rollbacks.is_empty() {
        out.put_u8(ROLLBACKS);
        put_number(&mut out, lock.rollbacks.len() as u64);
        lock.rollbacks.iter().for_each(|at| out.put_u64(at.0));
    }
    if let Some((at, versions)) = lock.last_change {
        out.put_u8(LAST_CHANGE);
        out.put_u64(at.0);
        put_number(&mut out, versions);
    }
    if lock.source != 0 {
        out.put_u8(SOURCE);
        put_number(&mut out, lock.source);
    }
    if lock.with_conflict {
        out.put_u8(WITH_CONFLICT);
    }
    if lock.generation != 0 {
        out.put_u8(GENERATION);
        out.put_u64(lock.generation);
    }
    out.freeze()
}

/// Returns whether the stored form is one of locks in shared mode.
pub fn is_shared(stored: &[u8]) -> bool {
    stored.first() == Some(&SHARED)
}

/// Decodes what is stored of the locks of a key. Returns the oldest one if they are shared.
///
/// # Errors
/// [`crate::types::Error::Corruption`].
pub fn decode(stored: Bytes) -> Result<Lock> {
    if !is_shared(&stored) {
        return decode_one(stored);
    }
    let mut fields = Fields::new(&stored, "shared lock");
    fields.byte()?;
    let (mut closed, mut each) = (false, Vec::new());
    while let Some(tag) = fields.tag() {
        match tag {
            SHARED_FLAGS => closed = fields.byte()? & CLOSED != 0,
            SHARED_LOCKS => {
                let count = fields.number()?;
                each = (0..count)
                    .map(|_| fields.bytes().and_then(|one| decode_one(stored.slice_ref(one))))
                    .collect::<Result<Vec<Lock>>>()?;
            }
            _ => break,
        }
    }
    each.sort_by_key(|lock| lock.start);
    let mut each = each.into_iter();
    let Some(first) = each.next() else { return Err(fields.broken("it has no owner")) };
    Ok(Lock { shared: Some(Box::new(Shared { others: each.collect(), closed })), ..first })
}

fn decode_one(stored: Bytes) -> Result<Lock> {
    let mut fields = Fields::new(&stored, "lock");
    let kind = match fields.byte()? {
        b'P' => LockKind::Put,
        b'D' => LockKind::Delete,
        b'L' => LockKind::Lock,
        b'S' => LockKind::Pessimistic,
        _ => return Err(fields.broken("its kind is unknown")),
    };
    let primary = stored.slice_ref(fields.bytes()?);
    let mut lock = Lock::new(kind, primary, Timestamp(fields.number()?), fields.number()?);
    while let Some(tag) = fields.tag() {
        match tag {
            SHORT_VALUE => {
                let length = fields.byte()?;
                lock.short_value = Some(stored.slice_ref(fields.take(length.into())?));
            }
            FOR_UPDATE => lock.for_update = Timestamp(fields.fixed()?),
            TXN_SIZE => lock.txn_size = fields.fixed()?,
            MIN_COMMIT => lock.min_commit = Timestamp(fields.fixed()?),
            ASYNC_COMMIT => {
                let count = fields.number()?;
                lock.secondaries =
                    Some((0..count).map(|_| fields.bytes().map(|key| stored.slice_ref(key))).collect::<Result<_>>()?);
            }
            ROLLBACKS => {
                let count = fields.number()?;
                lock.rollbacks = (0..count).map(|_| fields.fixed().map(Timestamp)).collect::<Result<_>>()?;
            }
            LAST_CHANGE => lock.last_change = Some((Timestamp(fields.fixed()?), fields.number()?)),
            SOURCE => lock.source = fields.number()?,
            WITH_CONFLICT => lock.with_conflict = true,
            GENERATION => lock.generation = fields.fixed()?,
            _ => break,
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    //! Goal: the bytes that TRANSACTIONS.md section 1 gives, and no trust in what is read. Method: examples worked out
    //! by hand, every prefix of one with all fields.
    use super::*;

    fn full() -> Lock {
        Lock {
            short_value: Some("val".into()),
            for_update: Timestamp(12),
            txn_size: 3,
            min_commit: Timestamp(13),
            secondaries: Some(vec!["b".into(), "".into()]),
            rollbacks: vec![Timestamp(20)],
            last_change: Some((Timestamp(4), 1)),
            source: 300,
            with_conflict: true,
            generation: 5,
            ..Lock::new(LockKind::Put, "pk".into(), Timestamp(10), 200)
        }
    }

    #[test]
    fn known_bytes() {
        let plain = Lock::new(LockKind::Pessimistic, "pk".into(), Timestamp(10), 200);
        assert_eq!(encode(&plain), &b"S\x04pk\x0a\xc8\x01"[..]);
        let bytes = encode(&full());
        let want = b"P\x04pk\x0a\xc8\x01v\x03valf\0\0\0\0\0\0\0\x0ct\0\0\0\0\0\0\0\x03c\0\0\0\0\0\0\0\x0da\x02\x02b\0\
                     r\x01\0\0\0\0\0\0\0\x14l\0\0\0\0\0\0\0\x04\x01s\xac\x02Fg\0\0\0\0\0\0\0\x05";
        assert_eq!(bytes, &want[..]);
        assert_eq!(decode(bytes.clone()).unwrap(), full());
        assert_eq!(decode(plain_with_unknown_tag(&plain)).unwrap(), plain);
    }

    fn plain_with_unknown_tag(lock: &Lock) -> Bytes {
        [&encode(lock)[..], b"?later"].concat().into()
    }

    #[test]
    fn shared_locks_are_stored_together() {
        let one = |start| Lock::new(LockKind::Pessimistic, "pk".into(), Timestamp(start), 200);
        let shared = |others: Vec<Lock>, closed| Some(Box::new(Shared { others, closed }));
        let alone = Lock { shared: shared(vec![], false), ..one(10) };
        assert_eq!(encode(&alone), &b"Hh\x01\x0eS\x04pk\x0a\xc8\x01"[..]);
        let closed = Lock { shared: shared(vec![one(11)], true), ..one(10) };
        let bytes = encode(&closed);
        assert_eq!(bytes, &b"Hi\x01h\x02\x0eS\x04pk\x0a\xc8\x01\x0eS\x04pk\x0b\xc8\x01"[..]);
        assert_eq!(decode(bytes.clone()).unwrap(), closed);
        let later = closed.clone().seen_by(Timestamp(11));
        assert_eq!((later.start, encode(&later)), (Timestamp(11), bytes));
        assert_eq!(later.rest().unwrap(), Lock { shared: shared(vec![], true), ..one(10) });
        assert_eq!((alone.rest(), one(10).rest()), (None, None));
        assert_eq!(closed.each(), [one(10), one(11)]);
        assert_eq!(closed.clone().seen_by(Timestamp(12)), closed);
        for broken in [&b"H"[..], b"Hh\x00", b"Hh\x02\x0eS\x04pk\x0a\xc8\x01"] {
            assert!(decode(Bytes::from_static(broken)).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn every_prefix_is_refused_or_is_a_lock_without_its_last_fields() {
        let bytes = encode(&full());
        for length in 0..bytes.len() {
            if let Ok(lock) = decode(bytes.slice(..length)) {
                assert!(bytes.starts_with(&encode(&lock)), "{length}: {lock:?}");
            }
        }
        assert!(decode(Bytes::from_static(b"X\x02a\x01\x01")).is_err());
        assert!(decode(Bytes::from_static(b"P\x03a\x01\x01")).is_err(), "a negative length");
        assert!(decode(Bytes::from_static(b"P\x02a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01")).is_err(), "65 bits");
    }
}
