//! The keys of requests: what the cluster's API version demands of them, and their stored form.
//!
//! A request comes **in**; it goes **out** with its raw keys in stored form, or with an error. With API V1 it goes out
//! unchanged. **Never**: with API V2, a key of one mode in a call of the other one, or a range that reaches beyond its
//! keyspace.
//!
//! | request | with API V2 |
//! |---|---|
//! | a key of a raw call | `'r'` and a keyspace in front; memcomparable encoding when stored |
//! | a key of a transactional call | `'x'` and a keyspace in front; stored by `txn` |
//! | a range | both ends with the same prefix; its upper end may be the first key after the prefix |
//! | a range of `KvScanLock` | any: it is for tools that look at all keyspaces |
//! | a split key | any; encoded, whether it is said to be raw or not |
//! | `cf` of a raw call | none |

use bytes::Bytes;

use crate::codec::keyspace::{self, Mode, Prefix};
use crate::proto::kvrpcpb::{self, ApiVersion, Context, KeyRange};
use crate::types::limits::KEY_BYTES_MAX;
use crate::types::{Api, Error, Result};

/// A request whose keys can be checked and brought into stored form.
pub(super) trait Keyed {
    /// Visits all keys, ranges and families of the request.
    ///
    /// # Errors
    /// The first error of the visit.
    fn visit(&mut self, keys: Keys) -> Result<()>;
}

/// Checks that a request is meant for the cluster's API version, and brings its keys into stored form.
///
/// # Errors
/// [`Error::Invalid`] for another version, and for keys that the version does not have.
pub(super) fn admit(api: Api, context: &Context, request: &mut impl Keyed) -> Result<()> {
    check_version(api, context)?;
    match api {
        Api::V1 => Ok(()),
        Api::V2 if crate::mutant!("v2.prefix-unchecked") => request.visit(Keys { checked: false }),
        Api::V2 => request.visit(Keys { checked: true }),
    }
}

/// Checks the API version of a request: with API V2 the same name means another key.
fn check_version(api: Api, context: &Context) -> Result<()> {
    let number = context.api_version;
    match (api, ApiVersion::try_from(number)) {
        (Api::V1, Ok(ApiVersion::V1)) | (Api::V2, Ok(ApiVersion::V2)) => Ok(()),
        (Api::V1, Ok(ApiVersion::V1ttl)) => Err(Error::Invalid(
            "the request has API version V1TTL, this cluster serves V1 (with expiry as well): use a V1 client".into(),
        )),
        (Api::V1, _) => Err(Error::Invalid(format!(
            "the request has API version {number}, this cluster serves version 1: use a client without a keyspace"
        ))),
        (Api::V2, _) => Err(Error::Invalid(format!(
            "the request has API version {number}, this cluster serves version 2: use a client with a keyspace"
        ))),
    }
}

/// Checks keys, and brings raw ones into stored form. For clusters with API V2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    checked: bool,
}

impl Keys {
    /// Takes a raw key that is only read.
    fn raw(self, key: &mut Bytes) -> Result<()> {
        self.check(Mode::Raw, key)?;
        *key = keyspace::stored(Api::V2, std::mem::take(key));
        Ok(())
    }

    /// Takes a raw key that is written.
    fn raw_written(self, key: &mut Bytes) -> Result<()> {
        // The length of the stored form does not tell that of the key.
        if key.len() > KEY_BYTES_MAX {
            return Err(too_long(key.len()));
        }
        self.raw(key)
    }

    /// Takes a raw range.
    fn raw_range(self, lower: &mut Bytes, upper: &mut Bytes) -> Result<()> {
        self.check_range(Mode::Raw, lower, upper)?;
        for end in [lower, upper] {
            if !end.is_empty() {
                *end = keyspace::stored(Api::V2, std::mem::take(end));
            }
        }
        Ok(())
    }

    /// Takes ranges of a scan, which begin with their upper ends if it is `reverse`.
    fn raw_ranges(self, ranges: &mut [KeyRange], reverse: bool) -> Result<()> {
        ranges.iter_mut().try_for_each(|KeyRange { start_key, end_key }| match reverse {
            false => self.raw_range(start_key, end_key),
            true => self.raw_range(end_key, start_key),
        })
    }

    /// Takes the column family of a raw call.
    fn family(self, cf: &str) -> Result<()> {
        if cf.is_empty() {
            return Ok(());
        }
        let shown: String = cf.chars().take(32).collect();
        Err(Error::Invalid(format!(
            "the request names the column family {shown:?}, but with API version 2 there are none: leave it out"
        )))
    }

    /// Takes transactional keys.
    fn txn<'k>(self, mut keys: impl Iterator<Item = &'k Bytes>) -> Result<()> {
        keys.try_for_each(|key| self.check(Mode::Txn, key))
    }

    fn check(self, mode: Mode, key: &[u8]) -> Result<()> {
        if !self.checked || Prefix::of(key).is_some_and(|prefix| prefix.mode == mode) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "a key does not begin with '{}' and the three bytes of a keyspace, as {} keys of API version 2 do",
            char::from(mode.letter()),
            named(mode)
        )))
    }

    fn check_range(self, mode: Mode, lower: &[u8], upper: &[u8]) -> Result<()> {
        self.check(mode, lower)?;
        let ends_inside = |prefix: Prefix| *upper == prefix.end() || upper.starts_with(&prefix.start());
        if !self.checked || Prefix::of(lower).is_some_and(ends_inside) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "a range of {} keys ends outside the keyspace in which it begins: end it there, or at the keyspace's end",
            named(mode)
        )))
    }
}

fn named(mode: Mode) -> &'static str {
    match mode {
        Mode::Raw => "raw",
        Mode::Txn => "transactional",
    }
}

/// Returns the error of a key that is written and too long.
pub(super) fn too_long(bytes: usize) -> Error {
    Error::Invalid(format!("a key of {bytes} bytes is over the limit of {KEY_BYTES_MAX} bytes"))
}

/// Implements [`Keyed`]: for each request, what is visited.
macro_rules! keyed {
    ($($Request:ident |$request:ident, $keys:ident| $visit:expr;)+) => {
        $(impl Keyed for kvrpcpb::$Request {
            fn visit(&mut self, $keys: Keys) -> Result<()> {
                let $request = self;
                $visit
            }
        })+
    };
}

keyed! {
    RawGetRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw(&mut r.key));
    RawBatchGetRequest |r, keys| {
        keys.family(&r.cf)?;
        r.keys.iter_mut().try_for_each(|key| keys.raw(key))
    };
    RawGetKeyTtlRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw(&mut r.key));
    RawPutRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw_written(&mut r.key));
    RawBatchPutRequest |r, keys| {
        keys.family(&r.cf)?;
        r.pairs.iter_mut().try_for_each(|pair| keys.raw_written(&mut pair.key))
    };
    RawDeleteRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw_written(&mut r.key));
    RawBatchDeleteRequest |r, keys| {
        keys.family(&r.cf)?;
        r.keys.iter_mut().try_for_each(|key| keys.raw_written(key))
    };
    RawDeleteRangeRequest |r, keys| {
        keys.family(&r.cf).and_then(|()| keys.raw_range(&mut r.start_key, &mut r.end_key))
    };
    RawScanRequest |r, keys| {
        keys.family(&r.cf)?;
        match r.reverse {
            false => keys.raw_range(&mut r.start_key, &mut r.end_key),
            true => keys.raw_range(&mut r.end_key, &mut r.start_key),
        }
    };
    RawBatchScanRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw_ranges(&mut r.ranges, r.reverse));
    RawCasRequest |r, keys| keys.family(&r.cf).and_then(|()| keys.raw_written(&mut r.key));
    RawChecksumRequest |r, keys| keys.raw_ranges(&mut r.ranges, false);
    RawCoprocessorRequest |r, keys| keys.raw_ranges(&mut r.ranges, false);
    // Encoded by the handler, whichever mode they have: also the boundary after the last keyspace is one.
    SplitRegionRequest |_r, _keys| Ok(());

    GetRequest |r, keys| keys.txn([&r.key].into_iter());
    ScanRequest |r, keys| match r.reverse {
        false => keys.check_range(Mode::Txn, &r.start_key, &r.end_key),
        true => keys.check_range(Mode::Txn, &r.end_key, &r.start_key),
    };
    PrewriteRequest |r, keys| {
        keys.txn(r.mutations.iter().map(|mutation| &mutation.key))?;
        keys.txn(r.secondaries.iter().chain([&r.primary_lock]))
    };
    CommitRequest |r, keys| keys.txn(r.keys.iter());
    CleanupRequest |r, keys| keys.txn([&r.key].into_iter());
    BatchGetRequest |r, keys| keys.txn(r.keys.iter());
    BatchRollbackRequest |r, keys| keys.txn(r.keys.iter());
    // For tools that look at all keyspaces: their ranges are open.
    ScanLockRequest |_r, _keys| Ok(());
    ResolveLockRequest |r, keys| keys.txn(r.keys.iter());
    PessimisticLockRequest |r, keys| {
        keys.txn(r.mutations.iter().map(|mutation| &mutation.key).chain([&r.primary_lock]))
    };
    PessimisticRollbackRequest |r, keys| keys.txn(r.keys.iter());
    CheckTxnStatusRequest |r, keys| keys.txn([&r.primary_key].into_iter());
    TxnHeartBeatRequest |r, keys| keys.txn([&r.primary_lock].into_iter());
    CheckSecondaryLocksRequest |r, keys| keys.txn(r.keys.iter());
    FlushRequest |r, keys| keys.txn(r.mutations.iter().map(|mutation| &mutation.key).chain([&r.primary_key]));
    BufferBatchGetRequest |r, keys| keys.txn(r.keys.iter());
    DeleteRangeRequest |r, keys| keys.check_range(Mode::Txn, &r.start_key, &r.end_key);
    UnsafeDestroyRangeRequest |r, keys| keys.check_range(Mode::Txn, &r.start_key, &r.end_key);
    MvccGetByKeyRequest |r, keys| keys.txn([&r.key].into_iter());
    MvccGetByStartTsRequest |_r, _keys| Ok(());
}

#[cfg(test)]
mod tests {
    //! Goal: with API V2 each call takes the keys of its mode only, and raw keys are stored encoded; with API V1
    //! nothing is looked at. Method: requests of every kind, by hand.
    use super::*;
    use crate::codec::bytes::encode;
    use crate::proto::kvrpcpb::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn admit(mut request: impl Keyed) -> std::result::Result<(), String> {
        let context = Context { api_version: ApiVersion::V2 as i32, ..Context::default() };
        super::admit(Api::V2, &context, &mut request).map_err(|error| error.to_string())
    }

    #[test]
    fn each_cluster_serves_one_version() {
        for (api, version, served) in [
            (Api::V1, 0, true),
            (Api::V1, 1, false),
            (Api::V1, 2, false),
            (Api::V2, 0, false),
            (Api::V2, 1, false),
            (Api::V2, 2, true),
            (Api::V2, 3, false),
            (Api::V2, 9, false),
        ] {
            let context = Context { api_version: version, ..Context::default() };
            let mut request = RawGetRequest { key: bytes("r\0\0\0k"), ..RawGetRequest::default() };
            let admitted = super::admit(api, &context, &mut request);
            assert_eq!(admitted.is_ok(), served, "{api:?} {version}");
            if let Err(error) = admitted {
                assert!(error.to_string().contains(&format!("serves version {}", api.number())) || version == 1);
            }
        }
    }

    #[test]
    fn raw_keys_are_encoded_and_keys_of_version_1_are_not() {
        let get = |key: &str| RawGetRequest { key: bytes(key), ..RawGetRequest::default() };
        let (mut one, mut two) = (get("k"), get("r\0\0\x07k"));
        super::admit(Api::V1, &Context::default(), &mut one).unwrap();
        assert_eq!(one, get("k"));
        let context = Context { api_version: 2, ..Context::default() };
        super::admit(Api::V2, &context, &mut two).unwrap();
        assert_eq!(two.key, encode(b"r\0\0\x07k"));
        let (start_key, end_key) = (bytes("r\0\0\x07"), bytes("r\0\0\x08"));
        let mut scan = RawScanRequest { start_key, end_key, ..RawScanRequest::default() };
        super::admit(Api::V2, &context, &mut scan).unwrap();
        assert_eq!((&scan.start_key, &scan.end_key), (&encode(b"r\0\0\x07"), &encode(b"r\0\0\x08")));
    }

    #[test]
    fn keys_of_the_other_mode_are_refused() {
        let (raw, txn) = (|| bytes("r\0\0\x01k"), || bytes("x\0\0\x01k"));
        let get = |key| RawGetRequest { key, ..RawGetRequest::default() };
        assert!(admit(get(raw())).is_ok());
        for wrong in [txn(), bytes(""), bytes("r\0\0"), bytes("k\0\0\0\0"), bytes("t\0\0\0\0")] {
            let why = admit(get(wrong)).unwrap_err();
            assert!(why.contains("'r'") && why.contains("raw keys"), "{why}");
        }
        let get = |key| GetRequest { key, ..GetRequest::default() };
        assert!(admit(get(txn())).is_ok());
        assert!(admit(get(raw())).unwrap_err().contains("'x'"));
        let pairs = vec![KvPair { key: raw(), ..KvPair::default() }, KvPair { key: txn(), ..KvPair::default() }];
        assert!(admit(RawBatchPutRequest { pairs, ..RawBatchPutRequest::default() }).is_err());
        let mutations = |keys: [Bytes; 2]| keys.map(|key| Mutation { key, ..Mutation::default() }).to_vec();
        let prewrite = |mutations, primary_lock, secondaries| PrewriteRequest {
            mutations,
            primary_lock,
            secondaries,
            ..PrewriteRequest::default()
        };
        assert!(admit(prewrite(mutations([txn(), txn()]), txn(), vec![txn()])).is_ok());
        assert!(admit(prewrite(mutations([txn(), raw()]), txn(), vec![txn()])).is_err());
        assert!(admit(prewrite(mutations([txn(), txn()]), raw(), vec![txn()])).is_err());
        assert!(admit(prewrite(mutations([txn(), txn()]), txn(), vec![raw()])).is_err());
        assert!(admit(CommitRequest { keys: vec![txn(), raw()], ..CommitRequest::default() }).is_err());
        assert!(admit(CheckTxnStatusRequest { primary_key: raw(), ..CheckTxnStatusRequest::default() }).is_err());
        assert!(admit(MvccGetByKeyRequest { key: raw(), ..MvccGetByKeyRequest::default() }).is_err());
        assert!(admit(ScanLockRequest::default()).is_ok() && admit(ResolveLockRequest::default()).is_ok());
    }

    #[test]
    fn a_range_stays_in_its_keyspace() {
        let scan = |start: &str, end: &str, reverse| {
            let (start_key, end_key) = (bytes(start), bytes(end));
            admit(RawScanRequest { start_key, end_key, reverse, ..RawScanRequest::default() })
        };
        for (lower, upper) in [("r\0\0\x01", "r\0\0\x02"), ("r\0\0\x01a", "r\0\0\x01b"), ("r\0\0\x01b", "r\0\0\x01a")] {
            assert!(scan(lower, upper, false).is_ok() && scan(upper, lower, true).is_ok());
        }
        for (lower, upper) in [
            ("r\0\0\x01", ""),
            ("r\0\0\x01", "r\0\0\x02k"),
            ("r\0\0\x01", "r\0\0\x03"),
            ("r\0\0\x01", "s"),
            ("r\0\0\x01", "x\0\0\x01"),
            ("", "r\0\0\x02"),
            ("x\0\0\x01", "x\0\0\x02"),
        ] {
            assert!(scan(lower, upper, false).is_err() && scan(upper, lower, true).is_err(), "{lower:?} {upper:?}");
        }
        let last = Bytes::from_static(b"x\xff\xff\xff");
        let delete = |end_key| admit(DeleteRangeRequest { start_key: last.clone(), end_key, ..Default::default() });
        assert!(delete(bytes("y\0\0\0")).is_ok() && delete(bytes("y")).is_err());
    }

    #[test]
    fn a_column_family_and_a_key_that_is_too_long_are_refused() {
        let put = |key, cf: &str| admit(RawPutRequest { key, cf: cf.into(), ..RawPutRequest::default() });
        assert!(put(bytes("r\0\0\0k"), "").is_ok());
        assert!(put(bytes("r\0\0\0k"), "default").unwrap_err().contains("\"default\""));
        let long = |bytes| Bytes::from([&b"r\0\0\0"[..], &vec![b'k'; bytes - 4]].concat());
        assert!(put(long(KEY_BYTES_MAX), "").is_ok());
        assert!(put(long(KEY_BYTES_MAX + 1), "").unwrap_err().contains("8193 bytes"));
        assert!(admit(RawGetRequest { key: long(KEY_BYTES_MAX + 1), ..RawGetRequest::default() }).is_ok());
    }
}
