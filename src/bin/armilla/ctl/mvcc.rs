//! `armilla ctl mvcc`, `locks`, `resolve`: what transactions have left, and the end of what the dead have left.

use std::collections::BTreeMap;

use armilla::client::Ended;
use armilla::client::txn::has_expired;
use armilla::codec::keyspace::Mode;
use armilla::codec::txn_key;
use armilla::proto::kvrpcpb::{LockInfo, MvccInfo, MvccLock, MvccWrite, Op};
use armilla::types::Timestamp;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Ctl;
use super::listing::RangeArgs;
use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// How many locks are asked for at once.
const PAGE: u32 = 256;

/// Which locks to list.
#[derive(clap::Args, Debug)]
pub struct LocksArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Maximum number of locks to list: the oldest.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Only the locks of this region [default: all regions]
    #[arg(long, value_name = "REGION", conflicts_with_all = ["start", "end", "prefix"])]
    region: Option<u64>,
}

/// Which locks to finish.
#[derive(clap::Args, Debug)]
pub struct ResolveArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Only the locks of this region [default: all regions]
    #[arg(long, value_name = "REGION", conflicts_with_all = ["start", "end", "prefix"])]
    region: Option<u64>,
}

/// A part of the key space: from an encoded key or a boundary up to a key, or to the end of a region.
struct Part {
    from: Bytes,
    /// Exclusive; empty: plus infinity.
    to: Bytes,
    /// The only region, if the user has named one.
    region: Option<u64>,
}

/// Returns the name of what a lock or a record does.
fn op_name(op: i32) -> &'static str {
    match Op::try_from(op) {
        Ok(Op::Put) => "put",
        Ok(Op::Del) => "delete",
        Ok(Op::Lock) => "lock",
        Ok(Op::Rollback) => "rollback",
        Ok(Op::Insert) => "insert",
        Ok(Op::PessimisticLock) => "pessimistic",
        Ok(Op::CheckNotExists) => "check",
        Ok(Op::SharedLock) => "shared",
        Ok(Op::SharedPessimisticLock) => "shared pessimistic",
        Err(_) => "unknown",
    }
}

/// Formats a duration in milliseconds in the largest unit that fits.
fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        120_000..7_200_000 => format!("{:.1} min", ms as f64 / 6e4),
        _ => format!("{:.1} h", ms as f64 / 3.6e6),
    }
}

impl Ctl {
    pub(super) async fn mvcc(&self, key: Option<&str>, start_ts: Option<u64>) -> Result<(), Failure> {
        if let Some(start) = start_ts {
            return self.written_by(Timestamp(start)).await;
        }
        let key = self.form.key(key.unwrap_or_default())?;
        let info = self.transactions().versions(&key).await?;
        if self.form.json {
            print_json(&self.mvcc_json(&key, &info).into())?;
        } else {
            self.print_mvcc(&info);
        }
        let nothing = info == MvccInfo::default();
        if nothing && !self.form.json {
            eprintln!("there is no lock and no version of {}", self.form.text(&key));
        }
        if nothing { Err(Failure::silent(1)) } else { Ok(()) }
    }

    /// Prints the first key of each region that a transaction has written.
    async fn written_by(&self, start: Timestamp) -> Result<(), Failure> {
        let client = self.transactions();
        let (mut from, mut found) = (Bytes::new(), Vec::new());
        loop {
            let (one, end) = client.written_by(&from, start).await?;
            found.extend(one.map(|(key, info)| (client.own(key), info)));
            if end.is_empty() {
                break;
            }
            from = end;
        }
        if self.form.json {
            let keys: Value = found.iter().map(|(key, info)| Value::from(self.mvcc_json(key, info))).collect();
            print_json(&json!({ "start_ts": start.0.to_string(), "keys": keys }))?;
        } else {
            for (key, info) in &found {
                say!("{}", self.form.text(key));
                self.print_mvcc(info);
            }
            if found.is_empty() {
                eprintln!("no key has a record of the transaction that began at {start}");
            }
        }
        if found.is_empty() { Err(Failure::silent(1)) } else { Ok(()) }
    }

    fn print_mvcc(&self, info: &MvccInfo) {
        if let Some(lock) = &info.lock {
            say!("lock: {}", self.describe_lock(lock));
        }
        let mut table = Table::new(&["version", "start", "started (UTC)", "commit", "committed (UTC)", "value"]);
        for write in &info.writes {
            let (start, commit) = (Timestamp(write.start_ts), Timestamp(write.commit_ts));
            let rolled_back = write.r#type() == Op::Rollback;
            let value = value_of(info, write).map_or(String::new(), |value| show::cut(self.form.text(&value)));
            let mark = if write.has_overlapped_rollback { " (and a rollback)" } else { "" };
            table.row(vec![
                format!("{}{mark}", op_name(write.r#type)),
                start.to_string(),
                show::utc(start.physical_ms()),
                if rolled_back { String::new() } else { commit.to_string() },
                if rolled_back { String::new() } else { show::utc(commit.physical_ms()) },
                value,
            ]);
        }
        if !info.writes.is_empty() {
            table.print();
        }
        let orphans = orphans(info).count();
        if orphans > 0 {
            say!("and {orphans} value(s) without a record or a lock");
        }
    }

    /// Formats a lock as a sentence.
    fn describe_lock(&self, lock: &MvccLock) -> String {
        let start = Timestamp(lock.start_ts);
        let mut text = format!(
            "{}, start {start} ({} UTC), primary {}, ttl {}",
            op_name(lock.r#type),
            show::utc(start.physical_ms()),
            self.form.text(&self.raw.space().own(lock.primary.clone())),
            duration(lock.ttl)
        );
        if lock.for_update_ts != 0 {
            text += &format!(", locked at {}", lock.for_update_ts);
        }
        if lock.use_async_commit {
            text += &format!(", async commit with {} other key(s)", lock.secondaries.len());
        }
        if !lock.short_value.is_empty() {
            text += &format!(", value {}", show::cut(self.form.text(&lock.short_value)));
        }
        text
    }

    fn mvcc_json(&self, key: &Bytes, info: &MvccInfo) -> Map<String, Value> {
        let mut object = Map::new();
        self.form.insert(&mut object, "key", key);
        let lock = info.lock.as_ref().map(|lock| {
            let mut object = Map::new();
            object.insert("type".into(), op_name(lock.r#type).into());
            insert_time(&mut object, "start", Timestamp(lock.start_ts));
            self.form.insert(&mut object, "primary", &self.raw.space().own(lock.primary.clone()));
            object.insert("ttl_ms".into(), lock.ttl.into());
            object.insert("for_update_ts".into(), lock.for_update_ts.to_string().into());
            object.insert("async_commit".into(), lock.use_async_commit.into());
            if let Some(value) = value_at(info, lock.start_ts, &lock.short_value).filter(|_| lock.r#type() == Op::Put) {
                self.form.insert(&mut object, "value", &value);
            }
            Value::from(object)
        });
        object.insert("lock".into(), lock.into());
        let version = |write: &MvccWrite| {
            let mut object = Map::new();
            object.insert("type".into(), op_name(write.r#type).into());
            insert_time(&mut object, "start", Timestamp(write.start_ts));
            if write.r#type() != Op::Rollback {
                insert_time(&mut object, "commit", Timestamp(write.commit_ts));
            }
            object.insert("overlapped_rollback".into(), write.has_overlapped_rollback.into());
            if let Some(value) = value_of(info, write) {
                self.form.insert(&mut object, "value", &value);
            }
            Value::from(object)
        };
        object.insert("versions".into(), info.writes.iter().map(version).collect());
        object.insert("values_without_record".into(), orphans(info).count().into());
        object
    }

    /// Returns the part of the key space that a command is about.
    async fn part(&self, range: &RangeArgs, region: Option<u64>) -> Result<Part, Failure> {
        let Some(id) = region else {
            let (start, end) = range.range(self.form)?;
            let space = self.raw.space();
            let (start, to) = (space.wire(Mode::Txn, &start), space.wire_end(Mode::Txn, &end).unwrap_or_default());
            let from = if start.is_empty() { Bytes::new() } else { txn_key::encode(&start) };
            return Ok(Part { from, to, region: None });
        };
        let found = self.pd.get_region_by_id(id).await?;
        let found = found.ok_or_else(|| Failure::new(format!("there is no region {id}")))?;
        Ok(Part { from: found.region.start_key, to: Bytes::new(), region: Some(id) })
    }

    pub(super) async fn locks(&self, args: &LocksArgs) -> Result<(), Failure> {
        let client = self.transactions();
        let Part { from, to, region } = self.part(&args.range, args.region).await?;
        // The oldest, by start and key: no more are kept than are shown.
        let mut oldest: BTreeMap<(u64, Bytes), (u64, LockInfo)> = BTreeMap::new();
        let (mut next, mut count) = (Some(from), 0usize);
        while let Some(from) = next {
            let page = client.locks(&from, &to, PAGE).await?;
            if region.is_some_and(|id| id != page.region) {
                break;
            }
            for mut lock in page.locks {
                lock.key = client.own(lock.key);
                lock.primary_lock = client.own(lock.primary_lock);
                let is_new = oldest.insert((lock.lock_version, lock.key.clone()), (page.region, lock)).is_none();
                count += usize::from(is_new);
                if oldest.len() > args.limit {
                    oldest.pop_last();
                }
            }
            next = page.next;
        }
        let now = self.pd.tso(1).await?;
        self.print_locks(oldest.into_values().collect(), now, count)?;
        if count > args.limit && !self.form.json {
            eprintln!("reached --limit {}, there are {count} locks", args.limit);
        }
        Ok(())
    }

    fn print_locks(&self, locks: Vec<(u64, LockInfo)>, now: Timestamp, count: usize) -> Result<(), Failure> {
        let age = |lock: &LockInfo| now.physical_ms().saturating_sub(Timestamp(lock.lock_version).physical_ms());
        if self.form.json {
            let one = |(region, lock): &(u64, LockInfo)| {
                let mut object = Map::new();
                object.insert("region".into(), (*region).into());
                self.form.insert(&mut object, "key", &lock.key);
                self.form.insert(&mut object, "primary", &lock.primary_lock);
                insert_time(&mut object, "start", Timestamp(lock.lock_version));
                object.insert("age_ms".into(), age(lock).into());
                object.insert("ttl_ms".into(), lock.lock_ttl.into());
                object.insert("expired".into(), has_expired(lock, now).into());
                object.insert("type".into(), op_name(lock.lock_type).into());
                object.insert("async_commit".into(), lock.use_async_commit.into());
                Value::from(object)
            };
            let shown: Value = locks.iter().map(one).collect();
            let more = count > locks.len();
            return print_json(&json!({ "locks": shown, "count": count, "more": more }));
        }
        let mut table = Table::new(&["region", "key", "primary", "start", "age", "ttl", "type"]);
        for (region, lock) in &locks {
            let by = if lock.use_async_commit { ", async" } else { "" };
            let expired = if has_expired(lock, now) { " (expired)" } else { "" };
            table.row(vec![
                region.to_string(),
                self.form.text(&lock.key),
                self.form.text(&lock.primary_lock),
                lock.lock_version.to_string(),
                duration(age(lock)),
                format!("{}{expired}", duration(lock.lock_ttl)),
                format!("{}{by}", op_name(lock.lock_type)),
            ]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn resolve(&self, args: &ResolveArgs) -> Result<(), Failure> {
        let client = self.transactions();
        let Part { from, to, region } = self.part(&args.range, args.region).await?;
        let (mut committed, mut rolled_back, mut alive) = (0u64, 0u64, 0u64);
        let mut next = Some(from);
        while let Some(from) = next {
            let page = client.locks(&from, &to, PAGE).await?;
            if region.is_some_and(|id| id != page.region) {
                break;
            }
            let now = self.pd.tso(1).await?;
            for lock in &page.locks {
                let ended = match has_expired(lock, now) {
                    true => client.end_decided(std::slice::from_ref(lock), Timestamp(0)).await?,
                    false => Ended::Alive,
                };
                match ended {
                    Ended::Committed(_) => committed += 1,
                    Ended::RolledBack => rolled_back += 1,
                    Ended::Alive | Ended::Later => alive += 1,
                }
            }
            next = page.next;
        }
        if self.form.json {
            return print_json(&json!({ "committed": committed, "rolled_back": rolled_back, "alive": alive }));
        }
        say!("locks: {committed} committed, {rolled_back} rolled back, {alive} of transactions that are alive");
        Ok(())
    }
}

/// Adds a timestamp to a JSON object: as text, because most JSON readers are exact only up to 2^53, and as a time.
fn insert_time(object: &mut Map<String, Value>, name: &str, at: Timestamp) {
    object.insert(format!("{name}_ts"), at.0.to_string().into());
    object.insert(format!("{name}_utc"), show::utc(at.physical_ms()).into());
}

/// Returns the value of a record.
fn value_of(info: &MvccInfo, write: &MvccWrite) -> Option<Bytes> {
    if write.r#type() != Op::Put {
        return None;
    }
    value_at(info, write.start_ts, &write.short_value)
}

/// Returns a value that is beside its record, or with it.
fn value_at(info: &MvccInfo, start: u64, short: &Bytes) -> Option<Bytes> {
    let stored = info.values.iter().find(|value| value.start_ts == start).map(|value| value.value.clone());
    stored.or_else(|| Some(short.clone()))
}

/// Returns the starts of values that no record and no lock belongs to.
fn orphans(info: &MvccInfo) -> impl Iterator<Item = u64> {
    let has_owner = |start: u64| {
        info.lock.as_ref().is_some_and(|lock| lock.start_ts == start)
            || info.writes.iter().any(|write| write.start_ts == start)
    };
    info.values.iter().map(|value| value.start_ts).filter(move |start| !has_owner(*start))
}

#[cfg(test)]
mod tests {
    //! Goal: a version shows its own value, and values without one are counted. Method: a key made by hand.
    use armilla::proto::kvrpcpb::MvccValue;

    use super::*;

    #[test]
    fn values_belong_to_their_records() {
        let write = |op: Op, start_ts, short: &'static str| MvccWrite {
            r#type: op as i32,
            start_ts,
            commit_ts: start_ts + 1,
            short_value: short.into(),
            ..MvccWrite::default()
        };
        let value = |start_ts| MvccValue { start_ts, value: Bytes::from(vec![b'v'; 300]) };
        let info = MvccInfo {
            lock: Some(MvccLock { start_ts: 9, ..MvccLock::default() }),
            writes: vec![
                write(Op::Put, 5, ""),
                write(Op::Del, 4, ""),
                write(Op::Put, 3, "short"),
                write(Op::Put, 2, ""),
            ],
            values: vec![value(9), value(5), value(1)],
        };
        let shown: Vec<Option<usize>> =
            info.writes.iter().map(|write| value_of(&info, write).map(|value| value.len())).collect();
        assert_eq!(shown, [Some(300), None, Some(5), Some(0)]);
        assert_eq!(orphans(&info).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        assert_eq!([7, 1500, 180_000, 7_200_000].map(duration), ["7 ms", "1.5 s", "3.0 min", "2.0 h"]);
    }
}
