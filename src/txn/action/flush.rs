//! Flush and BufferBatchGet: a pipelined transaction writes its keys before it knows all of them, and reads them back.
//!
//! A flush is a prewrite in two phases that may come again for the same key: the later generation counts. Its locks do
//! not tell how many keys the transaction has, so that nobody ends only some of them. Keys that others have locked are
//! in the reply, and the others are written: the client repeats the flush.

use bytes::Bytes;

use crate::codec::lock::LockKind;
use crate::mvcc::Reader;
use crate::proto::kvrpcpb::{FlushRequest, FlushResponse, KeyError, KvPair, PrewriteRequest};
use crate::types::{Result, Timestamp};

use super::prewrite::{self, Checked};
use super::{Decided, Key, error};

/// Returns a flush as the prewrite that it is.
pub fn as_prewrite(request: FlushRequest) -> PrewriteRequest {
    PrewriteRequest {
        mutations: request.mutations,
        primary_lock: request.primary_key,
        start_version: request.start_ts,
        lock_ttl: request.lock_ttl,
        txn_size: u64::MAX,
        // So that readers may push it.
        min_commit_ts: request.min_commit_ts.max(Timestamp(request.start_ts).next().0),
        assertion_level: request.assertion_level,
        ..PrewriteRequest::default()
    }
}

/// Decides a flush.
///
/// # Errors
/// The engine's.
pub fn decide(
    reader: &Reader<'_>,
    request: &PrewriteRequest,
    source: u64,
    generation: u64,
) -> Result<Decided<FlushResponse>> {
    let refused = |errors: Vec<KeyError>| FlushResponse { errors, ..FlushResponse::default() };
    if generation == 0 {
        let why = "the generation of a flush is 0: number a transaction's flushes from 1";
        return Ok(Decided::reply(refused(vec![error::abort(why)])));
    }
    let (prewrite, errors) = match prewrite::check_writes(reader, request, source, generation)? {
        Checked::Answer(reply) => return Ok(Decided::reply(refused(reply.errors))),
        Checked::Locked(errors, prewrite) => (prewrite, errors),
        Checked::Ready(prewrite) => (prewrite, Vec::new()),
    };
    let Decided { writes, .. } = prewrite.settle(Timestamp(0));
    Ok(Decided { writes, reply: refused(errors) })
}

/// Returns what the transaction that began at `start` has flushed of a key, if it has: an empty value if it deletes it.
///
/// # Errors
/// The engine's.
pub fn flushed(reader: &Reader<'_>, start: Timestamp, key: &Key) -> Result<Option<KvPair>> {
    let own = reader.lock(&key.encoded)?.filter(|lock| lock.start == start && lock.generation > 0);
    let Some(lock) = own else { return Ok(None) };
    let value = match lock.kind {
        LockKind::Put => reader.value_of(&key.encoded, start, lock.short_value)?,
        LockKind::Delete => Bytes::new(),
        LockKind::Lock | LockKind::Pessimistic => return Ok(None),
    };
    Ok(Some(KvPair { key: key.plain.clone(), value, ..KvPair::default() }))
}
