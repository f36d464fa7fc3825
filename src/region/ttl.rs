//! Collects expired raw values.
//!
//! A value is hidden from the second in which it expires; its bytes stay until they are overwritten or collected. The
//! region's leader periodically looks for expired values ([`page`]) and proposes to delete the keys that it found
//! ([`Collect`](crate::proto::armilla::raft::Collect)). Which keys are deleted is decided at apply, from the value
//! stored at that point and the second in the command, so every replica deletes the same keys, and a key that was
//! written in the meantime survives.

use bytes::Bytes;

use crate::codec::raw;
use crate::engine::{Cf, CursorOptions, Read, Visit, WriteBatch};
use crate::types::Result;
use crate::types::limits::{COLLECT_KEY_BYTES_FULL, COLLECT_KEYS_MAX, COLLECT_LOOK_BYTES_FULL, COLLECT_LOOKS_MAX};

/// Returns whether a stored value has an expiry.
pub fn is_timed(stored: &[u8]) -> bool {
    matches!(raw::decode(stored), Ok((_, Some(_))))
}

/// Returns whether a stored value has expired at `now_s` (Unix seconds).
///
/// # Errors
/// [`crate::types::Error::Corruption`] if the bytes are not an encoded value.
pub fn expired(stored: &[u8], now_s: u64) -> Result<bool> {
    let (_, expires_at_s) = raw::decode(stored)?;
    Ok(expires_at_s.is_some_and(|at| at <= now_s || crate::mutant!("region.ttl-collects-live")))
}

/// Deletes those of `keys` whose values have expired at `now_s`.
///
/// # Errors
/// The engine's errors.
pub(super) fn collect(cf: Cf, keys: Vec<Bytes>, now_s: u64, read: &dyn Read, batch: &mut WriteBatch) -> Result<()> {
    for key in keys {
        let Some(stored) = read.get(cf, &key)? else { continue };
        // Every replica leaves a value that cannot be decoded in place, so that reading it reports the damage.
        let gone = expired(&stored, now_s).unwrap_or(false);
        if gone || crate::mutant!("region.ttl-collects-overwritten") {
            batch.delete(cf, key);
        }
    }
    Ok(())
}

/// The result of a look at a part of a region.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys whose values have expired.
    pub expired: Vec<Bytes>,
    /// Whether any value has an expiry.
    pub timed: bool,
    /// Where the next look begins; `None` if the end was reached.
    pub next: Option<Bytes>,
}

/// Looks for expired values in `[start, end)`, until the end or until a command's limits are reached. Values that
/// cannot be decoded are skipped.
///
/// # Errors
/// The engine's errors.
pub fn page(read: &dyn Read, cf: Cf, start: &[u8], end: &[u8], now_s: u64) -> Result<Page> {
    let (mut page, mut looks, mut bytes, mut key_bytes) = (Page::default(), 0, 0, 0);
    // Large values are left out if none of them can expire; what is left out has no expiry below.
    let options = CursorOptions { keys_only: read.left_out_are_plain(true)?, ..CursorOptions::once(cf) };
    read.scan_with(cf, (start, end), false, options, &mut |key, stored| {
        let full = looks >= COLLECT_LOOKS_MAX
            || bytes >= COLLECT_LOOK_BYTES_FULL
            || (looks > 0 && crate::buggify!("region.short-look"));
        if full || page.expired.len() >= COLLECT_KEYS_MAX || key_bytes >= COLLECT_KEY_BYTES_FULL {
            page.next = Some(Bytes::copy_from_slice(key));
            return Visit::Stop;
        }
        looks += 1;
        bytes += key.len() + stored.len();
        page.timed |= is_timed(stored);
        if expired(stored, now_s).unwrap_or(false) {
            key_bytes += key.len();
            page.expired.push(Bytes::copy_from_slice(key));
        }
        Visit::More
    })?;
    assert!(page.expired.len() <= COLLECT_KEYS_MAX, "a page fits into one command");
    assert!(page.next.as_ref().is_none_or(|next| next[..] > *start), "the next page starts after this one");
    Ok(page)
}

#[cfg(test)]
mod tests {
    //! Goal: only values that have expired, also at apply, are collected, and looks are bounded.
    use super::*;
    use crate::engine::{KvEngine, SimEngine, SimStorage};

    fn engine(pairs: impl IntoIterator<Item = (String, Option<u64>)>) -> SimEngine {
        let engine = SimEngine::open(&SimStorage::new()).unwrap();
        let mut batch = WriteBatch::new();
        for (key, expires_at_s) in pairs {
            batch.put(Cf::RawDefault, key, raw::encode(b"value", expires_at_s));
        }
        engine.write(&batch).unwrap();
        engine
    }

    fn at(key: &str, expires_at_s: Option<u64>) -> (String, Option<u64>) {
        (key.to_owned(), expires_at_s)
    }

    #[test]
    fn a_look_finds_what_has_expired_and_nothing_else() {
        let engine = engine([at("a", Some(100)), at("b", None), at("c", Some(101)), at("d", Some(99)), at("e", None)]);
        let look =
            |start: &str, end: &str| page(&engine, Cf::RawDefault, start.as_bytes(), end.as_bytes(), 100).unwrap();
        assert_eq!(look("", ""), Page { expired: vec!["a".into(), "d".into()], timed: true, next: None });
        assert_eq!(look("b", "d"), Page { expired: vec![], timed: true, next: None });
        assert_eq!(look("e", ""), Page::default());
        assert_eq!(page(&engine, Cf::RawLock, b"", b"", 100).unwrap(), Page::default());
    }

    #[test]
    fn looks_are_bounded_and_leave_nothing_out() {
        let engine = engine((0..3000).map(|n| at(&format!("k{n:05}"), (n % 2 == 0).then_some(50))));
        let (mut found, mut from, mut pages) = (Vec::new(), Bytes::new(), 0);
        loop {
            let page = page(&engine, Cf::RawDefault, &from, b"", 100).unwrap();
            assert!(page.expired.len() <= COLLECT_KEYS_MAX);
            found.extend(page.expired);
            pages += 1;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let all: Vec<Bytes> = (0..3000).step_by(2).map(|n| format!("k{n:05}").into()).collect();
        assert_eq!((found, pages), (all, 6));
    }

    #[test]
    fn what_was_written_meanwhile_survives() {
        let engine = engine([at("gone", Some(10)), at("plain", None), at("again", Some(200)), at("edge", Some(100))]);
        let keys = ["gone", "plain", "again", "edge", "missing"].map(Bytes::from).to_vec();
        let mut batch = WriteBatch::new();
        collect(Cf::RawDefault, keys, 100, &engine, &mut batch).unwrap();
        engine.write(&batch).unwrap();
        let left = |key: &str| engine.get(Cf::RawDefault, key.as_bytes()).unwrap().is_some();
        assert_eq!(["gone", "plain", "again", "edge"].map(left), [false, true, true, false]);
    }
}
