//! ResolveLock: ends locks of transactions whose fate their primary key has decided.

use std::collections::BTreeMap;

use crate::codec::lock::Lock;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::{ResolveLockRequest, ResolveLockResponse};
use crate::types::{Result, Timestamp};

use super::error::{self, Failure, told};
use super::{Decided, Key, Writes, rollback, settle};

/// The fates of transactions: their commit timestamp by their start timestamp, 0 if they are rolled back.
pub type Fates = BTreeMap<Timestamp, Timestamp>;

/// Returns the fates that a request gives.
pub fn fates(request: &ResolveLockRequest) -> Fates {
    if request.txn_infos.is_empty() {
        return [(Timestamp(request.start_version), Timestamp(request.commit_version))].into();
    }
    request.txn_infos.iter().map(|one| (Timestamp(one.txn), Timestamp(one.status))).collect()
}

/// Returns the error of a fate that cannot be.
pub fn impossible(fates: &Fates) -> Option<ResolveLockResponse> {
    let (start, commit) = fates.iter().find(|(start, commit)| commit.0 != 0 && commit <= start)?;
    Some(ResolveLockResponse { error: Some(error::invalid_commit_ts(*start, *commit).into()), ..Default::default() })
}

/// Decides the end of locks. With `listed`, `found` are the keys of the request: one that has no lock must have been
/// ended in the same way before. Otherwise they are keys of the region that had such locks a moment ago.
///
/// # Errors
/// The engine's.
pub fn decide(reader: &Reader<'_>, fates: &Fates, found: &[Key], listed: bool) -> Result<Decided<ResolveLockResponse>> {
    let mut writes = Writes::default();
    for key in found {
        let done = told(if listed {
            one_listed(reader, fates, key, &mut writes)
        } else {
            one(reader, fates, key, &mut writes)
        })?;
        if let Err(error) = done {
            return Ok(Decided::reply(ResolveLockResponse { error: Some(error.into()), ..Default::default() }));
        }
    }
    Ok(Decided { writes, reply: ResolveLockResponse::default() })
}

fn one_listed(reader: &Reader<'_>, fates: &Fates, key: &Key, writes: &mut Writes) -> Result<(), Failure> {
    for (start, commit) in fates {
        let own = |lock: &Lock| lock.start == *start;
        if reader.fate(&key.encoded, *start)? == Fate::Forgotten
            && !writes.lock_of(reader, key, *start)?.as_ref().is_some_and(own)
        {
            return Err(error::forgotten(*start).into());
        }
        match commit.0 {
            0 => rollback::one(reader, key, *start, writes)?,
            _ => settle::one(reader, key, *start, *commit, writes)?,
        }
    }
    Ok(())
}

fn one(reader: &Reader<'_>, fates: &Fates, key: &Key, writes: &mut Writes) -> Result<(), Failure> {
    let Some(found) = reader.any_lock(&key.encoded)? else { return Ok(()) };
    let foreign = || fates.first_key_value().map(|(_, commit)| *commit);
    let starts: Vec<Timestamp> = found.each().iter().map(|lock| lock.start).collect();
    let mut left = Some(found);
    for start in starts {
        let fate = match fates.get(&start) {
            None if crate::mutant!("txn.resolve-foreign-lock") => foreign().filter(|commit| commit.0 == 0),
            fate => fate.copied(),
        };
        let Some(fate) = fate else { continue };
        let Some(lock) = left.take().map(|left| left.seen_by(start)) else { return Ok(()) };
        left = lock.rest();
        match fate {
            Timestamp(0) => rollback::end_lock(reader, key, &lock, true, writes)?,
            commit => {
                settle::check_commit_ts(reader, key, &lock, commit)?;
                writes.commit(key, &lock, commit);
            }
        }
    }
    Ok(())
}
