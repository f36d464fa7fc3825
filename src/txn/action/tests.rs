//! Goal: every row of the decision tables, and what each leaves. Method: golden scripts over the simulated engine; each
//! block begins with `reset`, sets a state up, sends a request and shows what is stored.
//!
//! ```text
//!   prewrite START MUTATION… [primary= f= act= ttl= async= 1pc m= max= skip level= expect= max_ts=]
//!   flush START GENERATION MUTATION… [ttl= level=]          flushed START KEY…
//!   commit START AT KEY…           rollback START KEY…        cleanup START KEY [now=]
//!   lock START F KEY… [primary= ttl= m= force values existence only-if-exists]      unlock START F KEY…
//!   status START KEY [caller= now= roll sync resolving verify]
//!   secondaries START KEY…         heartbeat START KEY TTL    resolve START AT [KEY… found]
//!   get AT KEY… [resolved= committed= rc times]               scan AT FROM TO [limit= reverse keys …]
//!   locks AT [limit=]              show KEY…                  reset
//!   floor AT                       collect AT [limit=]
//! ```
//! A mutation is `a`, `a=text`, `a=long`, `Del:a`, `Lock:a`, `Insert:a`, `Absent:a`, `Share:a`, and may end with `!exist` or `!not`.
//! Times are in milliseconds; `10+1` is the first timestamp after 10.

use bytes::Bytes;

use super::error::told;
use super::lock_keys::Locking;
use super::page::Page;
use super::prewrite::{Checked, Mode};
use super::read::{Range, View};
use super::*;
use crate::codec::lock::Lock;
use crate::codec::txn_key;
use crate::engine::{Cf, KvEngine, SimEngine, SimStorage, WriteBatch};
use crate::golden;
use crate::mvcc::{Reader, garbage};
use crate::proto::armilla::raft::Marks;
use crate::proto::kvrpcpb::*;
use crate::types::Timestamp;
use crate::types::limits::SHARED_LOCKS_BYTES_FULL;

const FOLDER: &str = "src/txn/action/scripts";

/// A command: its words, and its options by name.
struct Words<'a> {
    words: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

const OPTIONS: &[&str] = &[
    "primary",
    "f",
    "act",
    "ttl",
    "async",
    "1pc",
    "m",
    "max",
    "skip",
    "level",
    "expect",
    "max_ts",
    "now",
    "force",
    "waited-for",
    "values",
    "existence",
    "only-if-exists",
    "caller",
    "roll",
    "sync",
    "resolving",
    "verify",
    "resolved",
    "committed",
    "rc",
    "times",
    "found",
    "limit",
    "one-in",
    "reverse",
    "keys",
    "secondaries",
];

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            // "max" alone is a time.
            let is_option = OPTIONS.contains(&name) && !words.is_empty() && word != "max";
            match is_option {
                true => options.push((name, value)),
                false => words.push(word),
            }
        }
        Words { words, options }
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    fn time(&self, name: &str) -> u64 {
        self.option(name).map_or(0, time)
    }

    fn keys(&self, from: usize) -> Vec<Bytes> {
        self.words[from..].iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn list(&self, name: &str) -> Vec<&'a str> {
        self.option(name).into_iter().flat_map(|value| value.split(',')).filter(|one| !one.is_empty()).collect()
    }
}

fn time(text: &str) -> u64 {
    if text == "max" {
        return u64::MAX;
    }
    let (whole, more) = text.split_once('+').unwrap_or((text, "0"));
    (whole.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no time")) << 18)
        + more.parse::<u64>().expect("a number")
}

fn shown(at: u64) -> String {
    match (at, at >> 18, at & 0x3_ffff) {
        (u64::MAX, ..) => "max".into(),
        (_, ms, 0) => ms.to_string(),
        (_, ms, more) => format!("{ms}+{more}"),
    }
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > 40 { format!("{} bytes", bytes.len()) } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn op_name(op: i32) -> &'static str {
    ["Put", "Del", "Lock", "R", "Insert", "S", "Absent", "Shared"].get(op as usize).copied().unwrap_or("?")
}

fn lock_text(lock: &LockInfo, with_key: bool) -> String {
    let mut out = op_name(lock.lock_type).to_owned();
    if with_key {
        out += &format!(" {}", text(&lock.key));
    }
    if !lock.shared_lock_infos.is_empty() {
        let each: Vec<String> = lock.shared_lock_infos.iter().map(|lock| lock_text(lock, false)).collect();
        return out + &format!(" {{{}}}", each.join(", "));
    }
    out += &format!(" {} ttl={}", shown(lock.lock_version), lock.lock_ttl);
    if lock.primary_lock != lock.key {
        out += &format!(" primary={}", text(&lock.primary_lock));
    }
    for (name, at) in [("f", lock.lock_for_update_ts), ("m", lock.min_commit_ts)] {
        if at != 0 {
            out += &format!(" {name}={}", shown(at));
        }
    }
    if lock.use_async_commit {
        out += " async";
    }
    if !lock.secondaries.is_empty() {
        let keys: Vec<String> = lock.secondaries.iter().map(|key| text(key)).collect();
        out += &format!(" secondaries={}", keys.join(","));
    }
    out
}

fn error_text(error: &KeyError) -> String {
    if let Some(lock) = &error.locked {
        return format!("locked: {}", lock_text(lock, true));
    }
    if let Some(one) = &error.conflict {
        let reason = write_conflict::Reason::try_from(one.reason).expect("a reason").as_str_name();
        let (other, at) = (shown(one.conflict_ts), shown(one.conflict_commit_ts));
        return format!("conflict: {reason} {} with {other}@{at}, primary {}", text(&one.key), text(&one.primary));
    }
    if let Some(one) = &error.already_exist {
        return format!("already exists: {}", text(&one.key));
    }
    if let Some(one) = &error.assertion_failed {
        let found = format!("{}@{}", shown(one.existing_start_ts), shown(one.existing_commit_ts));
        return format!("assertion failed: {} {}, found {found}", text(&one.key), one.assertion().as_str_name());
    }
    if let Some(one) = &error.commit_ts_expired {
        return format!("commit too early: {} must be at least {}", text(&one.key), shown(one.min_commit_ts));
    }
    if let Some(one) = &error.txn_not_found {
        return format!("transaction not found: {} at {}", shown(one.start_ts), text(&one.primary_key));
    }
    if let Some(one) = &error.txn_lock_not_found {
        return format!("lock not found: {}", text(&one.key));
    }
    if let Some(one) = &error.primary_mismatch {
        return format!("primary mismatch: {}", lock_text(one.lock_info.as_ref().expect("a lock"), true));
    }
    let name = error.abort.split(" {").next().unwrap_or_default();
    format!("abort: {}", if error.abort.contains(" {") { name } else { &error.abort })
}

fn errors(list: &[KeyError]) -> Option<String> {
    let lines: Vec<String> = list.iter().map(error_text).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn mutation(word: &str, start: u64, default: Op) -> Mutation {
    let (word, assertion) = word.split_once('!').unwrap_or((word, ""));
    let (word, value) = word.split_once('=').map_or((word, None), |(word, value)| (word, Some(value)));
    let (op, key) = word.split_once(':').unwrap_or(("", word));
    let op = match op {
        "Del" => Op::Del,
        "Lock" => Op::Lock,
        "Insert" => Op::Insert,
        "Absent" => Op::CheckNotExists,
        "S" => Op::PessimisticLock,
        "Share" if default == Op::PessimisticLock => Op::SharedPessimisticLock,
        "Share" => Op::SharedLock,
        _ => default,
    };
    let assertion = match assertion {
        "exist" => Assertion::Exist,
        "not" => Assertion::NotExist,
        _ => Assertion::None,
    };
    let value = match value {
        Some("long") => "x".repeat(300),
        Some(value) => value.to_owned(),
        None => format!("v{}", start >> 18),
    };
    let value = if matches!(op, Op::Put | Op::Insert) { value.into() } else { Bytes::new() };
    let key = Bytes::copy_from_slice(key.as_bytes());
    Mutation { op: op as i32, key, value, assertion: assertion as i32 }
}

struct World {
    engine: SimEngine,
    marks: Marks,
}

impl World {
    fn new() -> World {
        World { engine: SimEngine::open(&SimStorage::new()).expect("an engine"), marks: Marks::default() }
    }

    fn write(&self, writes: Writes) {
        let mut batch = WriteBatch::new();
        for change in writes.changes() {
            match &change.value {
                Some(value) => batch.put(change.cf, change.key.clone(), value.clone()),
                None => batch.delete(change.cf, change.key.clone()),
            }
        }
        self.engine.write(&batch).expect("a write");
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.engine).under(Timestamp(self.marks.floor), Timestamp(self.marks.collected))
    }

    /// Removes what may be removed, at most `limit` records of each key.
    fn collect(&mut self, words: &Words<'_>) -> String {
        let safe = Timestamp(time(words.words[1]));
        let page = garbage::page(&self.engine, b"", b"", safe).expect("the engine works");
        let limit = words.option("limit").map_or(100, |limit| limit.parse().expect("a number"));
        let mut batch = WriteBatch::new();
        let mut removed = 0;
        for key in &page.keys {
            let found = garbage::of_key(&self.reader(), key, safe, limit).expect("the engine works");
            removed += found.records.len();
            for (commit, record) in found.records {
                batch.delete(Cf::TxnWrite, txn_key::versioned(key, commit));
                if record.is_put() && record.short_value.is_none() {
                    batch.delete(Cf::TxnDefault, txn_key::versioned(key, record.start));
                }
            }
        }
        self.engine.write(&batch).expect("a write");
        self.marks = Marks { floor: self.marks.floor.max(safe.0), collected: self.marks.collected.max(safe.0) };
        format!("removed {removed}{}", if page.has_old { ", there were old ones" } else { "" })
    }

    fn done<R>(&self, decided: crate::types::Result<Decided<R>>, show: impl FnOnce(R) -> String) -> String {
        let Decided { writes, reply } = match decided {
            Err(crate::types::Error::Unknown(_)) => return "undetermined".into(),
            decided => decided.expect("the engine works"),
        };
        self.write(writes);
        show(reply)
    }

    fn run(&mut self, line: &str) -> String {
        let words = Words::of(line);
        let said = match words.words[0] {
            "reset" => {
                *self = World::new();
                String::new()
            }
            "floor" => {
                self.marks.floor = time(words.words[1]);
                String::new()
            }
            "collect" => self.collect(&words),
            "prewrite" => self.prewrite(&words),
            "lock" => self.lock(&words),
            "flush" => self.flush(&words),
            "flushed" => self.flushed(&words),
            "get" | "scan" | "locks" => self.read(&words),
            "show" => self.show(&words.words[1..]),
            _ => self.end(&words),
        };
        if said.is_empty() { said } else { said + "\n" }
    }

    fn prewrite(&self, words: &Words<'_>) -> String {
        let start = time(words.words[1]);
        let mutations: Vec<Mutation> = words.words[2..].iter().map(|word| mutation(word, start, Op::Put)).collect();
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let action = |name: &str| ["skip", "do", "check"].iter().position(|known| *known == name).expect("an action");
        let mut actions: Vec<i32> = words.list("act").into_iter().map(|name| action(name) as i32).collect();
        if words.has("f") && actions.len() < 2 {
            actions = vec![actions.first().copied().unwrap_or(1); mutations.len()];
        }
        let expect = |one: &str| {
            let (index, at) = one.split_once(':').expect("index:time");
            let index = index.parse().expect("an index");
            prewrite_request::ForUpdateTsConstraint { index, expected_for_update_ts: time(at) }
        };
        let level = ["off", "fast", "strict"].iter().position(|known| Some(*known) == words.option("level"));
        let secondaries = if words.has("async") { words.list("async") } else { words.list("secondaries") };
        let request = PrewriteRequest {
            primary_lock: words.option("primary").map_or_else(|| mutations[0].key.clone(), bytes),
            start_version: start,
            lock_ttl: words.option("ttl").map_or(50, |ttl| ttl.parse().expect("a TTL")),
            skip_constraint_check: words.has("skip"),
            pessimistic_actions: actions,
            for_update_ts: words.time("f"),
            min_commit_ts: words.time("m"),
            use_async_commit: words.has("async"),
            secondaries: secondaries.into_iter().map(bytes).collect(),
            try_one_pc: words.has("1pc"),
            max_commit_ts: words.time("max"),
            assertion_level: level.unwrap_or(0) as i32,
            for_update_ts_constraints: words.list("expect").into_iter().map(expect).collect(),
            mutations,
            ..PrewriteRequest::default()
        };
        let checked = match prewrite::check(&self.reader(), &request, 0) {
            Err(crate::types::Error::Unknown(_)) => return "undetermined".into(),
            checked => checked.expect("the engine works"),
        };
        let reply = match checked {
            Checked::Answer(reply) => *reply,
            Checked::Locked(errors, prewrite) => prewrite.locked(errors, Timestamp(words.time("max_ts"))),
            Checked::Ready(ready) => {
                assert!(ready.mode() == Mode::TwoPhase || ready.guards() <= request.mutations.len());
                let Decided { writes, reply } = ready.settle(Timestamp(words.time("max_ts")));
                self.write(writes);
                reply
            }
        };
        let mut out = errors(&reply.errors).unwrap_or_default();
        for (name, at) in [("min_commit", reply.min_commit_ts), ("committed", reply.one_pc_commit_ts)] {
            if at != 0 {
                out += &format!("{}{name} {}", if out.is_empty() { "" } else { ", " }, shown(at));
            }
        }
        if out.is_empty() { "ok".into() } else { out }
    }

    fn flush(&self, words: &Words<'_>) -> String {
        let start = time(words.words[1]);
        let mutations: Vec<Mutation> = words.words[3..].iter().map(|word| mutation(word, start, Op::Put)).collect();
        let generation = words.words[2].parse().expect("a generation");
        let level = ["off", "fast", "strict"].iter().position(|known| Some(*known) == words.option("level"));
        let request = flush::as_prewrite(FlushRequest {
            primary_key: mutations[0].key.clone(),
            start_ts: start,
            lock_ttl: words.option("ttl").map_or(50, |ttl| ttl.parse().expect("a TTL")),
            assertion_level: level.unwrap_or(0) as i32,
            mutations,
            ..FlushRequest::default()
        });
        let decided = flush::decide(&self.reader(), &request, 0, generation);
        self.done(decided, |reply| errors(&reply.errors).unwrap_or_else(|| "ok".into()))
    }

    fn flushed(&self, words: &Words<'_>) -> String {
        let start = Timestamp(time(words.words[1]));
        let one = |key: Bytes| {
            let found = flush::flushed(&self.reader(), start, &Key::new(key.clone())).expect("the engine works");
            found.map_or(format!("{}: nothing", text(&key)), |pair| format!("{}: `{}`", text(&key), text(&pair.value)))
        };
        words.keys(2).into_iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn lock(&self, words: &Words<'_>) -> String {
        let start = time(words.words[1]);
        let mutations: Vec<Mutation> =
            words.words[3..].iter().map(|word| mutation(word, start, Op::PessimisticLock)).collect();
        let request = PessimisticLockRequest {
            primary_lock: words
                .option("primary")
                .map_or_else(|| mutations[0].key.clone(), |text| Bytes::copy_from_slice(text.as_bytes())),
            start_version: start,
            lock_ttl: words.option("ttl").map_or(50, |ttl| ttl.parse().expect("a TTL")),
            for_update_ts: time(words.words[2]),
            return_values: words.has("values"),
            min_commit_ts: words.time("m"),
            check_existence: words.has("existence"),
            lock_only_if_exists: words.has("only-if-exists"),
            wake_up_mode: i32::from(words.has("force")),
            mutations,
            ..PessimisticLockRequest::default()
        };
        let waited = words
            .option("waited-for")
            .map(|start| (Key::new(request.mutations[0].key.clone()), Timestamp(time(start))));
        let decided = lock_keys::decide_after(&self.reader(), &request, waited.as_ref());
        let reply = match decided.expect("the engine works") {
            Locking::Done(decided) => {
                let Decided { writes, reply } = *decided;
                self.write(writes);
                reply
            }
            Locking::Locked(key, lock, closes) => {
                self.write(closes);
                lock_keys::refused(&request, error::locked(&key.plain, &lock))
            }
        };
        let mut out: Vec<String> = errors(&reply.errors).into_iter().collect();
        for result in &reply.results {
            let kind = result.r#type().as_str_name().trim_start_matches("LockResult");
            let mut line = kind.to_owned();
            if result.existence || !result.value.is_empty() {
                line += &format!(" exists {}", text(&result.value));
            }
            if result.locked_with_conflict_ts != 0 {
                line += &format!(" at {}", shown(result.locked_with_conflict_ts));
            }
            out.push(line.trim_end().to_owned());
        }
        for (at, missing) in reply.not_founds.iter().enumerate() {
            let value = reply.values.get(at).map(|value| format!(" {}", text(value))).unwrap_or_default();
            out.push(if *missing { "not found".into() } else { format!("found{value}") });
        }
        if out.is_empty() { "ok".into() } else { out.join("\n") }
    }

    fn read(&self, words: &Words<'_>) -> String {
        let at = time(words.words[1]);
        let isolation = if words.has("rc") { IsolationLevel::Rc } else { IsolationLevel::Si };
        let context = Context {
            isolation_level: isolation as i32,
            resolved_locks: words.list("resolved").into_iter().map(time).collect(),
            committed_locks: words.list("committed").into_iter().map(time).collect(),
            ..Context::default()
        };
        let view = View::new(&context, at, words.has("times"));
        let reader = Reader::new(&self.engine);
        let limit = words.option("limit").map_or(100, |limit| limit.parse().expect("a number"));
        let mut out = Vec::new();
        match words.words[0] {
            "locks" => {
                let found = locks::scan(&self.engine, (b"", b""), limit, &|lock: &Lock| lock.start.0 <= at);
                out.extend(locks::infos(&found.expect("the engine works")).iter().map(|lock| lock_text(lock, true)));
            }
            "scan" => {
                let [start, end] =
                    [2, 3].map(|at| Key::new(Bytes::copy_from_slice(words.words[at].as_bytes())).encoded);
                let (reverse, key_only) = (words.has("reverse"), words.has("keys"));
                let one_in = words.option("one-in").map_or(0, |step| step.parse().expect("a number"));
                let range = Range { start, end, reverse, limit, key_only, one_in };
                let mut page = Page::default();
                read::range(&reader, &view, &range, &mut page).expect("the engine works");
                out.extend(page.into_pairs().iter().map(|pair| match &pair.error {
                    Some(error) => error_text(error),
                    None => format!("{}={}", text(&pair.key), text(&pair.value)),
                }));
            }
            _ => {
                for key in words.keys(2) {
                    let found = read::get(&reader, &view, &Key::new(key)).expect("the engine works");
                    out.push(match found {
                        Ok(None) => "nothing".into(),
                        Ok(Some((commit, value))) if words.has("times") => {
                            format!("{} committed {}", text(&value), shown(commit.0))
                        }
                        Ok(Some((_, value))) => text(&value),
                        Err(error) => error_text(&error),
                    });
                }
            }
        }
        if out.is_empty() { "nothing".into() } else { out.join("\n") }
    }

    /// The requests that end transactions, and those that look at them.
    fn end(&self, words: &Words<'_>) -> String {
        let reader = self.reader();
        let start_version = time(words.words[1]);
        let said = |error: Option<Box<KeyError>>, ok: String| error.map_or(ok, |error| error_text(&error));
        match words.words[0] {
            "commit" => {
                let commit_version = time(words.words[2]);
                let keys = words.keys(3);
                let request = CommitRequest { start_version, commit_version, keys, ..Default::default() };
                self.done(settle::decide(&reader, &request), |reply| {
                    said(reply.error, format!("committed {}", shown(reply.commit_version)))
                })
            }
            "rollback" => {
                let request = BatchRollbackRequest { start_version, keys: words.keys(2), ..Default::default() };
                self.done(rollback::batch(&reader, &request), |reply| said(reply.error, "ok".into()))
            }
            "cleanup" => {
                let (key, current_ts) = (words.keys(2).remove(0), words.time("now"));
                let request = CleanupRequest { start_version, key, current_ts, ..Default::default() };
                self.done(rollback::cleanup(&reader, &request), |reply| {
                    let at = shown(reply.commit_version);
                    said(reply.error, if reply.commit_version == 0 { "ok".into() } else { format!("committed {at}") })
                })
            }
            "unlock" => {
                let for_update_ts = time(words.words[2]);
                let request = PessimisticRollbackRequest { start_version, for_update_ts, ..Default::default() };
                let found = keys(&words.keys(3));
                self.done(rollback::pessimistic(&reader, &request, &found), |reply| {
                    errors(&reply.errors).unwrap_or_else(|| "ok".into())
                })
            }
            "secondaries" => {
                let request = CheckSecondaryLocksRequest { start_version, keys: words.keys(2), ..Default::default() };
                self.done(locks::secondaries(&reader, &request), |reply| {
                    let found: Vec<String> = reply.locks.iter().map(|lock| lock_text(lock, true)).collect();
                    let ended = match reply.commit_ts {
                        0 => "rolled back".into(),
                        at => format!("committed {}", shown(at)),
                    };
                    said(reply.error, if found.is_empty() { ended } else { found.join("\n") })
                })
            }
            "heartbeat" => {
                let (primary_lock, ttl) = (words.keys(2).remove(0), words.words[3].parse().expect("a TTL"));
                let request =
                    TxnHeartBeatRequest { start_version, primary_lock, advise_lock_ttl: ttl, ..Default::default() };
                self.done(locks::heartbeat(&reader, &request), |reply| {
                    said(reply.error, format!("ttl {}", reply.lock_ttl))
                })
            }
            "resolve" => {
                let fates: resolve::Fates = [(Timestamp(start_version), Timestamp(time(words.words[2])))].into();
                if let Some(reply) = resolve::impossible(&fates) {
                    return said(reply.error, String::new());
                }
                let listed = keys(&words.keys(3));
                let is_listed = !listed.is_empty() && !words.has("found");
                let all = |lock: &Lock| fates.contains_key(&lock.start);
                let found = locks::scan(&self.engine, (b"", b""), 0, &all).expect("the engine works");
                let found: Vec<Key> = found.into_iter().map(|(key, _)| key).collect();
                let keys = if listed.is_empty() { &found } else { &listed };
                self.done(resolve::decide(&reader, &fates, keys, is_listed), |reply| said(reply.error, "ok".into()))
            }
            "status" => {
                let request = CheckTxnStatusRequest {
                    primary_key: words.keys(2).remove(0),
                    lock_ts: start_version,
                    caller_start_ts: words.time("caller"),
                    current_ts: words.option("now").map_or(1 << 18, time),
                    rollback_if_not_exist: words.has("roll"),
                    force_sync_commit: words.has("sync"),
                    resolving_pessimistic_lock: words.has("resolving"),
                    verify_is_primary: words.has("verify"),
                    ..CheckTxnStatusRequest::default()
                };
                self.done(status::decide(&reader, &request), |reply| {
                    let mut out = Vec::new();
                    if let Some(lock) = &reply.lock_info {
                        out.push(format!("alive {}: {}", reply.lock_ttl, lock_text(lock, true)));
                    }
                    if reply.commit_version != 0 {
                        out.push(format!("committed {}", shown(reply.commit_version)));
                    }
                    if reply.action() != Action::NoAction {
                        out.push(reply.action().as_str_name().to_owned());
                    }
                    said(reply.error, if out.is_empty() { "rolled back".into() } else { out.join(" ") })
                })
            }
            other => panic!("no command {other:?}"),
        }
    }

    fn show(&self, names: &[&str]) -> String {
        let line = |name: &&str| {
            let key = Key::new(Bytes::copy_from_slice(name.as_bytes()));
            let info = read::everything(&self.engine, &key).expect("the engine works");
            let mut parts = Vec::new();
            if let Some(lock) = Reader::new(&self.engine).any_lock(&key.encoded).expect("the engine works") {
                let mut said = lock_text(&error::info(&key.plain, &lock), false);
                if lock.shared.as_ref().is_some_and(|shared| shared.closed) {
                    said += " closed";
                }
                for at in &lock.rollbacks {
                    said += &format!(" r={}", shown(at.0));
                }
                parts.push(format!("[{said}]"));
            }
            for one in &info.writes {
                parts.push(if one.r#type() == Op::Rollback {
                    format!("R {}{}", shown(one.start_ts), if &one.short_value[..] == b"p" { " p" } else { "" })
                } else {
                    let covers = if one.has_overlapped_rollback { "+R" } else { "" };
                    format!("{} {}@{}{covers}", op_name(one.r#type), shown(one.start_ts), shown(one.commit_ts))
                });
            }
            parts.extend(info.values.iter().map(|value| format!("data {}", shown(value.start_ts))));
            format!("{name}: {}", if parts.is_empty() { "nothing".into() } else { parts.join(" | ") })
        };
        names.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Goal: what is written for each transaction that joins a shared lock is bounded. Method: transactions join until one is
/// told to wait; the others go on.
#[test]
fn a_key_is_shared_up_to_a_limit() {
    let world = World::new();
    let key = Key::new("k".into());
    for start in 1.. {
        let request = PessimisticLockRequest {
            mutations: vec![Mutation {
                op: Op::SharedPessimisticLock as i32,
                key: key.plain.clone(),
                ..Mutation::default()
            }],
            primary_lock: vec![b'p'; 1000].into(),
            start_version: start,
            for_update_ts: start,
            ..PessimisticLockRequest::default()
        };
        match lock_keys::decide(&world.reader(), &request).expect("the engine works") {
            Locking::Done(decided) => world.write(decided.writes),
            Locking::Locked(_, lock, closes) => {
                let bytes = crate::codec::lock::encode(&lock).len();
                assert!((SHARED_LOCKS_BYTES_FULL..SHARED_LOCKS_BYTES_FULL + 1100).contains(&bytes), "{bytes}");
                return assert!(closes.is_empty(), "it becomes shorter by itself");
            }
        }
    }
}

#[test]
fn scripts() {
    let mutants = [MUTANTS, crate::mvcc::MUTANTS].concat();
    golden::check_all(FOLDER, &mutants, || {
        let mut world = World::new();
        move |line: &str| world.run(line)
    });
}

#[test]
fn the_engine_s_error_is_not_a_reply() {
    let broken = crate::types::Error::Io("gone".into());
    assert_eq!(told::<()>(Err(broken.clone().into())), Err(broken));
    let batch = {
        let mut batch = WriteBatch::new();
        batch.put(Cf::TxnLock, Key::new("a".into()).encoded, "nonsense");
        batch
    };
    let world = World::new();
    world.engine.write(&batch).expect("a write");
    assert!(Reader::new(&world.engine).lock(&Key::new("a".into()).encoded).is_err());
}
