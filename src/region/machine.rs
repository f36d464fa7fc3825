//! Applying commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use prost::Message as _;

use crate::codec::raw;
use crate::engine::{Cf, Read, WriteBatch};
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::{CasReply, CompareAndSwap, RegionCommand, RegionReply};
use crate::raft::machine::{ApplyContext, CfRange, StateMachine};
use crate::types::{Error, Region, Result, region};

use super::ttl;

/// The state machine of a data region. It keeps nothing in memory but a count: the engine is its state.
#[derive(Debug, Default)]
pub struct RegionMachine {
    /// Commands that wrote values with an expiry, and replacements of all the data.
    timed: Arc<AtomicU64>,
}

impl RegionMachine {
    /// A machine for any region.
    pub fn new() -> RegionMachine {
        RegionMachine::default()
    }

    /// A machine for a region, which counts in `timed` when there may be new values with an expiry (see [`super::TtlUse`]).
    pub fn counting(timed: Arc<AtomicU64>) -> RegionMachine {
        RegionMachine { timed }
    }
}

/// The raw column family of that number.
fn raw_cf(number: u32) -> Result<Cf> {
    Cf::from_number(number)
        .filter(|cf| Cf::RAW.contains(cf))
        .ok_or_else(|| Error::Corruption(format!("a command for column family {number}, which holds no raw data")))
}

/// Whether the command reads (a compare-and-swap, a collection), told from the first bytes of its encoding: fields are written
/// in order of their numbers, so the operation's tag follows the version.
fn is_reading(command: &[u8]) -> bool {
    const VERSION_TAG: u8 = 1 << 3;
    const CAS_TAG: u8 = 5 << 3 | 2;
    const COLLECT_TAG: u8 = 6 << 3 | 2;
    let mut rest = command;
    if let Some((&VERSION_TAG, after)) = rest.split_first() {
        let varint = after.iter().position(|byte| byte & 0x80 == 0).map_or(after.len(), |last| last + 1);
        rest = &after[varint..];
    }
    rest.first().is_some_and(|tag| [CAS_TAG, COLLECT_TAG].contains(tag))
}

impl StateMachine for RegionMachine {
    fn reads(&self, command: &Bytes) -> bool {
        is_reading(command)
    }

    fn apply(
        &mut self,
        context: ApplyContext<'_>,
        command: Bytes,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Bytes> {
        let command = RegionCommand::decode(command)
            .map_err(|e| Error::Corruption(format!("entry {}: a command does not decode: {e}", context.index)))?;
        let version = region::epoch(context.region).version;
        if command.version != version && !crate::mutant!("region.stale-epoch-accepted") {
            let reply = RegionReply { epoch_not_match: Some(context.region.clone()), ..Default::default() };
            return Ok(reply.encode_to_vec().into());
        }
        let op = command.op.ok_or_else(|| Error::Corruption(format!("entry {}: an empty command", context.index)))?;
        if !within(context.region, &op) {
            let reply = RegionReply { key_not_in_region: true, ..Default::default() };
            return Ok(reply.encode_to_vec().into());
        }
        match op {
            Op::Put(put) => {
                let cf = raw_cf(put.cf)?;
                let mut pairs = put.pairs;
                if crate::mutant!("region.batch-drops-last") && pairs.len() > 1 {
                    pairs.pop();
                }
                if pairs.iter().any(|pair| ttl::is_timed(&pair.value)) {
                    self.timed.fetch_add(1, Ordering::Relaxed);
                }
                for pair in pairs {
                    batch.put(cf, pair.key, pair.value);
                }
            }
            Op::Delete(delete) => {
                let cf = raw_cf(delete.cf)?;
                for key in delete.keys {
                    batch.delete(cf, key);
                }
            }
            Op::DeleteRange(range) => {
                let cf = raw_cf(range.cf)?;
                if crate::mutant!("region.delete-range-off-by-one") && !range.end.is_empty() {
                    batch.delete(cf, range.end.clone());
                }
                batch.delete_range(cf, range.start, range.end);
            }
            Op::Cas(cas) => {
                if cas.stored.as_ref().is_some_and(|stored| ttl::is_timed(stored)) {
                    self.timed.fetch_add(1, Ordering::Relaxed);
                }
                let reply = RegionReply { cas: Some(compare_and_swap(cas, read, batch)?), ..Default::default() };
                return Ok(reply.encode_to_vec().into());
            }
            Op::Collect(collect) => ttl::collect(raw_cf(collect.cf)?, collect.keys, collect.now_s, read, batch)?,
        }
        // The reply of a plain write is the empty message: no bytes, no allocation.
        Ok(Bytes::new())
    }

    fn ranges(&self, region: &Region) -> Vec<CfRange> {
        Cf::RAW
            .into_iter()
            .map(|cf| CfRange { cf, start: region.start_key.clone(), end: region.end_key.clone() })
            .collect()
    }

    fn reload(&mut self, _region: &Region, _read: &dyn Read) -> Result<()> {
        self.timed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn within(region: &Region, op: &Op) -> bool {
    match op {
        Op::Put(put) => put.pairs.iter().all(|pair| region::holds(region, &pair.key)),
        Op::Delete(delete) => delete.keys.iter().all(|key| region::holds(region, key)),
        Op::DeleteRange(range) => range.start >= region.start_key && region::ends_by(region, &range.end),
        Op::Cas(cas) => region::holds(region, &cas.key),
        Op::Collect(collect) => collect.keys.iter().all(|key| region::holds(region, key)),
    }
}

fn compare_and_swap(cas: CompareAndSwap, read: &dyn Read, batch: &mut WriteBatch) -> Result<CasReply> {
    let cf = raw_cf(cas.cf)?;
    let now_s = if crate::mutant!("region.cas-reads-stale") { 0 } else { cas.now_s };
    let previous = match read.get(cf, &cas.key)? {
        Some(stored) => raw::live(&stored, now_s)?.map(|(value, _)| value),
        None => None,
    };
    let succeed = previous == cas.expected || crate::mutant!("region.cas-ignores-expected");
    if succeed {
        match cas.stored {
            Some(stored) => batch.put(cf, cas.key, stored),
            None => batch.delete(cf, cas.key),
        }
    }
    Ok(CasReply { succeed, previous })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::armilla::raft::{Collect, DeleteBatch, DeleteRange, PutBatch};

    #[test]
    fn commands_that_read_are_told_from_their_first_bytes() {
        let ops = [
            Op::Put(PutBatch::default()),
            Op::Delete(DeleteBatch::default()),
            Op::DeleteRange(DeleteRange::default()),
            Op::Cas(CompareAndSwap::default()),
            Op::Collect(Collect::default()),
        ];
        for version in [0, 1, 127, 128, u64::MAX] {
            for op in ops.clone() {
                let reads = matches!(op, Op::Cas(_) | Op::Collect(_));
                let command = RegionCommand { version, op: Some(op) };
                assert_eq!(is_reading(&command.encode_to_vec()), reads, "{command:?}");
            }
        }
        assert!(!is_reading(b"") && !is_reading(b"\x08") && !is_reading(b"\x08\xff"));
    }
}
