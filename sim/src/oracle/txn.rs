//! Transactions: what their clients saw, against everything that is stored of their keys at the end.
//!
//! The records at the end, and those that stores showed before they removed them, are the whole history: each has its
//! transaction's start and commit timestamp and its value. With them every property is a comparison, in time linear in
//! the history. A version that was removed too early is one that a read should have seen.
//!
//! | property | what is compared |
//! |---|---|
//! | atomicity | a transaction's records are at all of its keys, at one commit timestamp, or at none |
//! | outcomes | committed ones have records at the timestamp that their client was told, aborted ones have none |
//! | snapshot reads | every read saw the newest record at or below its timestamp |
//! | first committer | no record is between a transaction's snapshot (or lock) of a key and its own record |
//! | real time | what was acknowledged before another transaction began is in its snapshot |
//! | storage | one record a transaction and key, values apart have their record, no lock is left |
//! | the bank | the sum of all accounts never changes |

use std::collections::{BTreeMap, BTreeSet};

use armilla::proto::kvrpcpb::{MvccWrite, Op};
use armilla::types::Timestamp;
use bytes::Bytes;

use super::Violation;
use super::removed::{Removed, Version};
use crate::workload::history::show;
use crate::workload::txn::{Dump, FIRST_BALANCE, Outcome, Record, balance, is_account};

/// Checks all transactions.
pub fn check(records: &[Record], dump: &Dump, removed: &Removed, at: u64) -> Result<(), Violation> {
    let wrong = |what: String| Violation::new("transactions", at, 0, what);
    let by_start: BTreeMap<u64, &Record> = records.iter().map(|record| (record.start.0, record)).collect();
    let versions = stored(dump, removed, &by_start).map_err(wrong)?;
    for (key, list) in &versions {
        first_committers(key, list, &by_start).map_err(wrong)?;
    }
    for record in records {
        outcome(record, &versions).map_err(wrong)?;
        locks_hold(record, &versions).map_err(wrong)?;
        reads(record, &versions).map_err(wrong)?;
    }
    real_time(records).map_err(wrong)?;
    bank(&versions).map_err(wrong)
}

/// Returns the commit records of each key, the oldest first.
fn stored(
    dump: &Dump,
    removed: &Removed,
    by_start: &BTreeMap<u64, &Record>,
) -> Result<BTreeMap<Bytes, Vec<Version>>, String> {
    let mut all = BTreeMap::new();
    for (key, info) in dump {
        if let Some(lock) = &info.lock {
            return Err(format!("key {} is still locked by the transaction {}", show(key), lock.start_ts));
        }
        let mut values: BTreeMap<u64, Bytes> =
            info.values.iter().map(|value| (value.start_ts, value.value.clone())).collect();
        let (mut list, mut starts) = (Vec::new(), BTreeSet::new());
        for one in &info.writes {
            if !starts.insert(one.start_ts) {
                return Err(format!("key {} has two records of the transaction {}", show(key), one.start_ts));
            }
            let op = one.r#type();
            if op == Op::Rollback {
                continue;
            }
            if one.commit_ts <= one.start_ts {
                return Err(format!("key {}: committed at {}, not after {}", show(key), one.commit_ts, one.start_ts));
            }
            let value = match op {
                Op::Put if one.short_value.is_empty() => match values.remove(&one.start_ts) {
                    Some(value) => Some(value),
                    None => return Err(format!("key {}: the value of {} is missing", show(key), one.start_ts)),
                },
                Op::Put => Some(one.short_value.clone()),
                _ => None,
            };
            list.push(Version { commit: one.commit_ts, start: one.start_ts, op, value });
        }
        if let Some(start) = values.keys().next() {
            let records: Vec<String> = info.writes.iter().map(shown).collect();
            let records = records.join(", ");
            let whose = by_start.get(start).map_or("nobody's".into(), |record| record.summary());
            let what = format!("key {} has a value of the transaction {start} ({whose}) without its record", show(key));
            return Err(format!("{what}: {records}"));
        }
        let oldest = list.iter().filter(|version| version.op != Op::Lock).map(|version| version.commit).min();
        for version in removed.of(key) {
            // One whose removal failed is still there.
            if list.iter().all(|known: &Version| known.commit != version.commit) {
                if version.op == Op::Del && oldest.is_some_and(|oldest| oldest < version.commit) {
                    let (key, at) = (show(key), version.commit);
                    return Err(format!("key {key}: the deletion at {at} was removed, but not what it hid"));
                }
                if !starts.insert(version.start) {
                    return Err(format!("key {} had two records of the transaction {}", show(key), version.start));
                }
                list.push(version.clone());
            }
        }
        list.sort_by_key(|version| version.commit);
        all.insert(key.clone(), list);
    }
    Ok(all)
}

fn shown(record: &MvccWrite) -> String {
    let covers = if record.has_overlapped_rollback { "+R" } else { "" };
    format!("{} {}@{}{covers}", record.r#type().as_str_name(), record.start_ts, record.commit_ts)
}

/// Checks that nobody wrote a key between a transaction's snapshot or lock of it and its own record.
fn first_committers(key: &Bytes, list: &[Version], by_start: &BTreeMap<u64, &Record>) -> Result<(), String> {
    let changes: Vec<&Version> = list.iter().filter(|version| version.op != Op::Lock).collect();
    for pair in changes.windows(2) {
        let (before, own) = (pair[0], pair[1]);
        let Some(record) = by_start.get(&own.start) else {
            return Err(format!("key {} has a record of {}, which nobody began", show(key), own.start));
        };
        let locked = record.locks.iter().filter(|(of, _)| of == key).map(|(_, at)| at.0).max();
        let any = record.locks.iter().map(|(_, at)| at.0).max();
        let until = locked.or(any).unwrap_or(own.start);
        if before.commit > until {
            return Err(format!(
                "key {}: the transaction {} (client {}) wrote at {} over a record at {} that its view at {until} lacks",
                show(key),
                own.start,
                record.client,
                own.commit,
                before.commit
            ));
        }
    }
    match list.first().filter(|version| !by_start.contains_key(&version.start)) {
        Some(version) => Err(format!("key {} has a record of {}, which nobody began", show(key), version.start)),
        None => Ok(()),
    }
}

/// Checks that nobody wrote a key while a transaction that has committed had it locked.
fn locks_hold(record: &Record, versions: &BTreeMap<Bytes, Vec<Version>>) -> Result<(), String> {
    let Outcome::Committed(committed) = record.outcome else { return Ok(()) };
    for (key, at) in &record.locks {
        let foreign = |version: &&Version| version.op != Op::Lock && version.start != record.start.0;
        let mut list = versions.get(key).into_iter().flatten().filter(foreign);
        if let Some(version) = list.find(|version| version.commit > at.0 && version.commit < committed.0) {
            return Err(format!(
                "the transaction {} (client {}) locked key {} at {at} and committed at {committed}, but {} wrote it at {}",
                record.start,
                record.client,
                show(key),
                version.start,
                version.commit
            ));
        }
    }
    Ok(())
}

/// Checks that a transaction's records are those that its client knows of.
fn outcome(record: &Record, versions: &BTreeMap<Bytes, Vec<Version>>) -> Result<(), String> {
    let who = format!("the transaction {} (client {})", record.start, record.client);
    let mut found: Vec<(&Bytes, Option<&Version>, &Option<Bytes>)> = Vec::new();
    for (key, value) in &record.writes {
        let own = versions.get(key).and_then(|list| list.iter().find(|version| version.start == record.start.0));
        found.push((key, own, value));
    }
    let commits: BTreeSet<u64> = found.iter().filter_map(|(_, own, _)| own.map(|own| own.commit)).collect();
    if commits.len() > 1 {
        return Err(format!("{who} has committed at several timestamps: {commits:?}"));
    }
    let missing = found.iter().find(|(_, own, _)| own.is_none());
    match (&record.outcome, commits.first(), missing) {
        (Outcome::Aborted, Some(at), _) => return Err(format!("{who} was reported as aborted, but committed at {at}")),
        (Outcome::Committed(at), Some(stored), None) if at.0 != *stored => {
            return Err(format!("{who} was told that it committed at {at}, but its records are at {stored}"));
        }
        (Outcome::Committed(at), _, Some((key, ..))) => {
            return Err(format!("{who} has committed at {at}, but not at key {}", show(key)));
        }
        (Outcome::Unknown, Some(at), Some((key, ..))) => {
            return Err(format!("{who} has committed at {at}, but not at key {}", show(key)));
        }
        _ => {}
    }
    for (key, own, value) in found {
        if let Some(own) = own.filter(|own| own.value != *value) {
            return Err(format!("{who}: key {} holds {:?} instead of {value:?}", show(key), own.value));
        }
    }
    Ok(())
}

/// Checks that every read saw the newest record at or below its timestamp.
fn reads(record: &Record, versions: &BTreeMap<Bytes, Vec<Version>>) -> Result<(), String> {
    for (key, at, seen) in &record.reads {
        let below = |version: &&Version| version.commit <= at.0 && version.op != Op::Lock;
        let newest = versions.get(key).and_then(|list| list.iter().rev().find(below));
        let stored = newest.and_then(|version| version.value.as_ref());
        if stored != seen.as_ref() {
            let text = |value: Option<&Bytes>| value.map_or("nothing".into(), |value| show(value));
            return Err(format!(
                "the transaction {} (client {}) read {} of key {} at {at}, but {} was committed at {}",
                record.start,
                record.client,
                text(seen.as_ref()),
                show(key),
                text(stored),
                newest.map_or(0, |version| version.commit)
            ));
        }
    }
    Ok(())
}

/// Checks that what was acknowledged is in the snapshot of every transaction that began later.
fn real_time(records: &[Record]) -> Result<(), String> {
    let mut ends: Vec<(u64, Timestamp)> = Vec::new();
    for record in records {
        if let Outcome::Committed(at) = record.outcome {
            ends.push((record.ended, at));
        }
    }
    ends.sort();
    let mut begins: Vec<&Record> = records.iter().collect();
    begins.sort_by_key(|record| record.begun);
    let (mut done, mut largest) = (0, Timestamp(0));
    for record in begins {
        while done < ends.len() && ends[done].0 < record.begun {
            largest = largest.max(ends[done].1);
            done += 1;
        }
        if record.start < largest {
            return Err(format!(
                "the transaction {} (client {}) began after one was acknowledged that committed at {largest}",
                record.start, record.client
            ));
        }
    }
    Ok(())
}

/// Checks that transfers neither made nor lost money.
fn bank(versions: &BTreeMap<Bytes, Vec<Version>>) -> Result<(), String> {
    let (mut sum, mut accounts) = (0, 0);
    for (_, list) in versions.iter().filter(|(key, _)| is_account(key)) {
        let newest = list.iter().rev().find(|version| version.op != Op::Lock);
        sum += balance(newest.and_then(|version| version.value.as_ref()));
        accounts += 1;
    }
    if sum == accounts * FIRST_BALANCE {
        return Ok(());
    }
    Err(format!("the accounts have {sum} together, not {}", accounts * FIRST_BALANCE))
}

#[cfg(test)]
mod tests {
    //! Goal: every property can fail. Method: one small history, changed in one place at a time.
    use armilla::codec::record::{self, RecordKind};
    use armilla::proto::kvrpcpb::{MvccInfo, MvccValue};
    use armilla::rt::probe::Event;

    use super::*;

    fn write(start: u64, commit: u64, value: &'static str) -> MvccWrite {
        MvccWrite { start_ts: start, commit_ts: commit, short_value: value.into(), ..MvccWrite::default() }
    }

    fn history() -> (Vec<Record>, Dump) {
        let record = |start: u64, commit: u64, value: &'static str, seen: Option<&'static str>| Record {
            client: 1,
            begun: start,
            ended: commit,
            start: Timestamp(start),
            reads: vec![("k~register".into(), Timestamp(start), seen.map(Bytes::from))],
            writes: vec![("k~register".into(), Some(value.into())), ("l~register".into(), Some(value.into()))],
            locks: Vec::new(),
            outcome: Outcome::Committed(Timestamp(commit)),
            options: Default::default(),
        };
        let writes = || vec![write(30, 40, "b"), write(10, 20, "a")];
        let info = |writes| MvccInfo { writes, ..MvccInfo::default() };
        let dump = vec![("k~register".into(), info(writes())), ("l~register".into(), info(writes()))];
        (vec![record(10, 20, "a", None), record(30, 40, "b", Some("a"))], dump)
    }

    /// Returns what is wrong with a changed history.
    fn wrong(change: impl FnOnce(&mut Vec<Record>, &mut Dump)) -> String {
        let (mut records, mut dump) = history();
        change(&mut records, &mut dump);
        check(&records, &dump, &Removed::default(), 1).expect_err("it is wrong").what
    }

    #[test]
    fn each_property_can_fail() {
        let (records, dump) = history();
        assert_eq!(check(&records, &dump, &Removed::default(), 1), Ok(()));
        let has = |what: String, part: &str| assert!(what.contains(part), "{what}");
        has(wrong(|_, dump| drop(dump[1].1.writes.remove(0))), "but not at key");
        has(wrong(|_, dump| dump[1].1.writes[0].commit_ts = 41), "several timestamps");
        has(wrong(|records, _| records[1].outcome = Outcome::Aborted), "reported as aborted");
        has(wrong(|records, _| records[1].outcome = Outcome::Committed(Timestamp(39))), "its records are at 40");
        has(wrong(|records, _| records[1].reads[0].2 = None), "read nothing");
        has(wrong(|records, _| records[1].reads[0].1 = Timestamp(19)), "nothing was committed");
        has(wrong(|records, _| records[1].writes[0].1 = None), "instead of None");
    }

    #[test]
    fn removed_records_are_part_of_the_history() {
        let (records, mut dump) = history();
        let mut removed = Removed::default();
        let record = Bytes::from(record::encode(&record::Record::new(RecordKind::Put, Timestamp(10))));
        for (key, info) in &mut dump {
            info.writes.pop();
            let parts = [&key[..], &record[..], &b"a"[..]];
            let data =
                parts.into_iter().flat_map(|part| [&(part.len() as u32).to_be_bytes()[..], part].concat()).collect();
            removed.observe(&Event::Note { store: 0, what: "version-collected", a: 2, b: 20, data });
        }
        assert!(check(&records, &dump, &Removed::default(), 1).is_err());
        assert_eq!((check(&records, &dump, &removed, 1), removed.count()), (Ok(()), 2));
    }

    #[test]
    fn storage_and_order() {
        let has = |what: String, part: &str| assert!(what.contains(part), "{what}");
        has(wrong(|_, dump| dump[0].1.lock = Some(Default::default())), "still locked");
        has(wrong(|_, dump| dump[0].1.writes[0].start_ts = 10), "two records");
        has(wrong(|_, dump| dump[0].1.writes[0].commit_ts = 30), "not after");
        has(wrong(|_, dump| dump[0].1.writes[0].short_value = Bytes::new()), "is missing");
        has(
            wrong(|_, dump| dump[0].1.values.push(MvccValue { start_ts: 5, ..Default::default() })),
            "without its record",
        );
        has(wrong(|records, _| records[0].start = Timestamp(11)), "nobody began");
        has(
            wrong(|records, dump| {
                (records[1].start, records[1].reads) = (Timestamp(15), Vec::new());
                dump.iter_mut().for_each(|(_, info)| info.writes[0].start_ts = 15);
            }),
            "over a record at 20",
        );
        let late =
            Record { begun: 50, start: Timestamp(35), reads: Vec::new(), writes: Vec::new(), ..history().0[0].clone() };
        has(wrong(|records, _| records.push(late)), "began after");
    }
}
