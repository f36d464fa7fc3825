//! # protocol: clients that send single transactional requests in any order that a correct client's could arrive in
//!
//! ```text
//!   begin ─▶ table ◀── answers, contradictions
//!              │ any client, any transaction, any request that may be sent by now, once more, late, or too early
//!              └─▶ lock, prewrite, commit, roll back, heartbeat, ask for the fate, resolve, read
//! ```
//! The clients of [`crate::workload::txn`] go one way through the protocol. Here the requests of a transaction are
//! fixed when it begins, and several clients send them as lost, repeated and late ones would come: a prewrite after the
//! question that rolled its transaction back, a commit after the push that forbids its timestamp, a lock after the
//! commit. Timestamps are fetched several at a time, as clients of a busy placement driver get them, so that a commit
//! timestamp may be another transaction's start timestamp.
//!
//! **In** come the plan and the insider's knowledge of leaders; **out** go single requests, and what is wrong with
//! their answers. At the end the history is judged as that of all transactions. **Never**: a request that no correct
//! client could have sent, so that everything that goes wrong is the store's fault.

mod act;
mod ask;
mod read;
mod send;
pub mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla::client::{PdClient, TxnClient};
use armilla::proto::etcdserverpb::kv_client::KvClient;
use armilla::proto::etcdserverpb::{PutRequest, RangeRequest};
use armilla::rt::rng::Rng;
use armilla::rt_select;
use armilla::types::Timestamp;
use bytes::Bytes;
use futures::future::join3;

use crate::oracle::Violation;
use crate::plan::{Plan, key};
use crate::workload::insider::Insider;
use send::Sender;
use table::{Entry, How, Locks, Table};

/// Number of clients.
pub const CLIENTS: u32 = 8;
/// Number of keys that many transactions write, of keys that few do, so that their locks stand for long, and of keys
/// that only those write at whose start the safe point is held.
const HOT: u32 = 5;
const QUIET: u32 = 4;
const STILL: u32 = 8;
/// Where older clients keep the safe point.
const SAVED_SAFE_POINT: &[u8] = b"/tidb/store/gcworker/saved_safe_point";
/// How many transactions the safe point is held for at a time.
const HELD: usize = 4;
/// How long a client waits for an answer, ns.
const PATIENCE_NS: u64 = 500_000_000;
/// How many transactions are the recent ones.
const RECENT: u64 = 5;

/// Returns the keys, spread over the key space; the hot ones first.
pub fn all_keys(plan: &Plan) -> Vec<Bytes> {
    let near = |n: u32, of: u32| key((u64::from(plan.workload.keys) * u64::from(n) / u64::from(of)) as u32);
    let hot = (0..HOT).map(|n| [&near(n, HOT)[..], b"~hot"].concat().into());
    let mut keys: Vec<Bytes> = hot.collect();
    keys.extend((0..QUIET).map(|n| Bytes::from([&near(n, QUIET)[..], b"~quiet"].concat())));
    keys.extend((0..STILL).map(|n| Bytes::from([&near(n, STILL)[..], b"~still"].concat())));
    keys.sort_by_key(|key| (key.ends_with(b"~still"), key.ends_with(b"~quiet"), key.clone()));
    keys.dedup();
    keys
}

/// What all clients know.
pub type Shared = Arc<Mutex<Table>>;

/// One client.
pub struct Worker {
    number: u32,
    sender: Sender,
    pd: PdClient,
    txn: TxnClient,
    table: Shared,
    keys: Vec<Bytes>,
    /// Whether old versions are removed in this run, and whether clients move the safe point, too.
    collects: bool,
    wishes: bool,
}

impl Worker {
    /// Creates the client with this number.
    pub fn new(number: u32, insider: Insider, (pd, txn): (PdClient, TxnClient), table: &Shared) -> Worker {
        let keys = all_keys(&insider.plan);
        let collects = insider.plan.knobs.config.get("pd").is_some_and(|pd| pd.get("keep_versions_ms").is_some());
        let wishes = collects && insider.plan.workload.seed.is_multiple_of(2);
        Worker { number, sender: Sender(insider), pd, txn, table: table.clone(), keys, collects, wishes }
    }

    fn plan(&self) -> &Plan {
        &self.sender.0.plan
    }

    fn now(&self) -> u64 {
        self.sender.0.world.now_ns()
    }

    /// Calls `act` with what is known.
    fn with<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        act(&mut self.table.lock().expect("nothing panics while holding it"))
    }

    /// Returns what is known of a transaction.
    fn entry(&self, number: usize) -> Entry {
        self.with(|table| table.entries[number].clone())
    }

    fn judge(&self, result: Result<(), String>) {
        if let Err(what) = result {
            self.sender.0.monitor.report(Violation::new("transactions", self.now(), 0, what));
        }
    }

    fn fails(&self, what: String) {
        self.judge(Err(what));
    }

    /// Returns how long to wait for an answer: sometimes not long enough, so that the request is sent again.
    fn wait_ns(rng: &mut Rng) -> u64 {
        if rng.chance(0.1) { rng.between(1, 20) * 1_000_000 } else { PATIENCE_NS }
    }

    /// Sends requests until `until_ns` (true time).
    pub async fn run(self, until_ns: u64) {
        let mut rng = Rng::fork(self.plan().workload.seed ^ u64::from(self.number), "protocol");
        let pace_ms = self.plan().workload.protocol_ms;
        let barrier = format!("protocol-{}", self.number);
        loop {
            self.sender.0.world.sleep_ns(rng.between(1, pace_ms * 2) * 1_000_000).await;
            if self.now() >= until_ns {
                break;
            }
            match rng.below(24) {
                0..=3 => self.burst(&mut rng).await,
                4 if rng.chance(0.2) => drop(self.queue(&mut rng).await),
                4 => drop(self.collide(&mut rng).await),
                5..=6 => self.read(None, &mut rng).await,
                // Not so often that regions never catch up.
                7 if self.wishes && rng.chance(0.02) => self.wish(&mut rng).await,
                7 if self.collects => self.read_safe_point(&mut rng).await,
                8 if self.collects && self.number < HELD as u32 && rng.chance(0.08) => {
                    self.hold(&barrier, &mut rng).await
                }
                9 if self.collects && rng.chance(0.2) => self.look_for_old_locks().await,
                10 | 11 => self.ask_old(&mut rng).await,
                12 if self.collects => self.return_to_held(&mut rng).await,
                _ => {
                    let Some(number) = self.pick(&mut rng) else { continue };
                    self.act(number, &mut rng).await;
                }
            }
        }
        for _ in 0..20 {
            if self.pd.delete_gc_barrier(&barrier).await.is_ok() {
                return;
            }
        }
    }

    /// Chooses a transaction, usually a recent one.
    fn pick(&self, rng: &mut Rng) -> Option<usize> {
        let count = self.with(|table| table.entries.len()) as u64;
        let newest = count.checked_sub(1)?;
        let back = match rng.below(20) {
            0 => rng.below(count),
            1..=3 => rng.below(count.min(40)),
            _ => rng.below(count.min(RECENT)),
        };
        Some((newest - back) as usize)
    }

    /// Begins some transactions at once, and sends a few of their requests without a pause.
    async fn burst(&self, rng: &mut Rng) {
        let count = rng.between(1, 3) as usize;
        let begun_ns = self.now();
        let Ok(last) = self.pd.tso(count as u32).await else { return };
        let at = if rng.chance(0.4) { self.pd.tso(1).await.ok() } else { None };
        let first = last.0 - (count as u64 - 1);
        let numbers: Vec<usize> = (first..=last.0)
            .map(|start| {
                let entry = self.draw(begun_ns, start, at, rng);
                self.with(|table| table.begin(entry))
            })
            .collect();
        if rng.chance(0.5) {
            // One of them goes its way, as far as others let it.
            let number = *rng.pick(&numbers);
            for _ in 0..rng.between(3, 12) {
                self.advance(number, rng).await;
            }
            return;
        }
        for _ in 0..rng.below(8 * count as u64) {
            self.act(*rng.pick(&numbers), rng).await;
        }
    }

    /// Begins two transactions with neighbouring timestamps about one key. The younger one is ended, or looks at the
    /// key, and the older one may commit exactly at its start timestamp. If the older one is pessimistic, it has locked
    /// the key before.
    async fn collide(&self, rng: &mut Rng) -> Option<()> {
        let begun_ns = self.now();
        let last = self.pd.tso(3).await.ok()?.0;
        let locked = rng.chance(0.5);
        let at = locked.then_some(Timestamp(last - 1));
        let drawn = self.draw(begun_ns, if locked { last - 2 } else { last - 1 }, at, rng);
        let older = Entry { how: How::Async, min_commit: 0, shared: None, ..drawn };
        let mut younger = self.draw(begun_ns, last, None, rng);
        let key = older.primary().clone();
        let looks = rng.chance(0.4);
        if looks {
            younger = Entry { how: How::TwoPhase, absent: Some(key.clone()), ..younger };
            younger.writes.retain(|(other, _)| *other != key);
            if younger.writes.is_empty() {
                return None;
            }
        } else {
            younger.writes.retain(|(other, _)| *other != key);
            younger.writes.insert(0, (key.clone(), Some(format!("p{last}.c").into())));
        }
        let [older, younger] = [older, younger].map(|entry| self.with(|table| table.begin(entry)));
        if locked || rng.chance(0.3) {
            self.advance(older, rng).await;
        }
        match looks {
            true => drop(self.check_absent(younger, key).await),
            false => drop(self.ask_ending(younger, rng).await),
        }
        for _ in 0..4 {
            self.advance(older, rng).await;
        }
        for _ in 0..rng.below(8) {
            self.advance(younger, rng).await;
        }
        Some(())
    }

    /// Lets two transactions wait for the lock of a third one, which commits soon. The first of them takes the lock in
    /// any case, and the other one, whose time ends later, has waited for both.
    async fn queue(&self, rng: &mut Rng) -> Option<()> {
        let begun_ns = self.now();
        let last = self.pd.tso(3).await.ok()?.0;
        let at = self.pd.tso(1).await.ok()?;
        let hot: Vec<&Bytes> = self.keys.iter().filter(|key| key.ends_with(b"~hot")).collect();
        let key = *rng.pick(&hot);
        let begin = |start: u64, at: Option<Timestamp>, forced: bool, rng: &mut Rng| {
            let drawn = self.draw(begun_ns, start, at, rng);
            let writes = vec![(key.clone(), Some(format!("p{start}.q").into()))];
            let locks = at.map(|at| Locks { at: at.0, count: 1, forced });
            let entry = Entry { writes, locks, absent: None, shared: None, how: How::TwoPhase, max_commit: 0, ..drawn };
            self.with(|table| table.begin(entry))
        };
        let holder = begin(last - 2, None, false, rng);
        let [first, second] =
            [(last - 1, true), (last, false)].map(|(start, forced)| begin(start, Some(at), forced, rng));
        self.advance(holder, rng).await?;
        let [mut one, mut other] = [1, 2].map(|_| Rng::new(rng.next_u64()));
        let world = &self.sender.0.world;
        let ends = async {
            world.sleep_ns(rng.between(10, 40) * 1_000_000).await;
            for _ in 0..4 {
                self.advance(holder, rng).await;
            }
        };
        let waits = async {
            world.sleep_ns(2_000_000).await;
            self.lock_within(second, 200, &mut other).await
        };
        join3(ends, self.lock_within(first, 300, &mut one), waits).await;
        for number in [first, second, first, second, first, second] {
            self.advance(number, rng).await;
        }
        Some(())
    }

    /// Draws a transaction.
    fn draw(&self, begun_ns: u64, start: u64, at: Option<Timestamp>, rng: &mut Rng) -> Entry {
        let hot = self.keys.iter().filter(|key| key.ends_with(b"~hot")).count() as u64;
        let written = self.keys.iter().filter(|key| !key.ends_with(b"~still")).count() as u64;
        let count = rng.between(1, 3);
        let mut keys: Vec<Bytes> = Vec::new();
        for n in 0..count {
            // The primary key is hot; some others are quiet.
            let below = if n == 0 || rng.chance(0.5) { hot } else { written };
            let key = &self.keys[rng.below(below) as usize];
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let value = |n: usize, rng: &mut Rng| {
            let mut value = format!("p{start}.{n}").into_bytes();
            if rng.chance(0.15) {
                value.resize(300, b'.');
            }
            rng.chance(0.75).then(|| Bytes::from(value))
        };
        let writes: Vec<_> = keys.into_iter().enumerate().map(|(n, key)| (key, value(n, rng))).collect();
        let how = *rng.pick(&[How::TwoPhase, How::TwoPhase, How::Async, How::Async, How::OnePhase]);
        let locked = rng.between(1, writes.len() as u64) as usize;
        let locks = at.map(|at| Locks { at: at.0, count: locked, forced: rng.chance(0.5) });
        let other = rng.pick(&self.keys).clone();
        let spare = locks.is_none() && how == How::TwoPhase && !writes.iter().any(|(key, _)| *key == other);
        let shares = self.plan().workload.protocol_shares && locks.is_some() && how == How::TwoPhase;
        let shared = shares.then(|| self.keys[rng.below(written) as usize].clone());
        let shared = shared.filter(|key| !writes.iter().any(|(own, _)| own == key));
        let max_ms = Timestamp(start).physical_ms() + rng.below(40);
        Entry {
            client: self.number,
            begun_ns,
            start,
            writes,
            shared,
            absent: (spare && rng.chance(0.3)).then_some(other),
            how,
            ttl_ms: if rng.chance(0.4) { rng.between(5, 200) } else { rng.between(200, 2000) },
            min_commit: if rng.chance(0.6) { start + 1 } else { 0 },
            max_commit: if rng.chance(0.25) { Timestamp::new(max_ms, 0).0.max(start + 2) } else { 0 },
            locks,
            held: BTreeMap::new(),
            frozen: None,
            prewritten: BTreeMap::new(),
            commits: Vec::new(),
            refused: false,
            gives_up: false,
            lives_ms: 0,
            fate: None,
            must_be_committed: false,
            reads: Vec::new(),
        }
    }

    /// Writes a safe point near the present, as older clients do at any time: to any node, under etcd's key.
    async fn wish(&self, rng: &mut Rng) {
        let Ok(now) = self.pd.tso(1).await else { return };
        let safe_point = Timestamp::new(now.physical_ms().saturating_sub(rng.below(300)), 0).0;
        let addresses = self.sender.0.cluster.addresses();
        let Ok(channel) = self.sender.0.env.net.channel(rng.pick(&addresses[..]).as_str()) else { return };
        let mut stub = KvClient::new(channel);
        let value = safe_point.to_string().into();
        rt_select! {
            answer = stub.put(PutRequest { key: SAVED_SAFE_POINT.into(), value, ..PutRequest::default() }) => {
                if answer.is_ok() {
                    let mut table = self.table.lock().expect("no client panics");
                    table.safe_point = table.safe_point.max(safe_point);
                }
            },
            () = self.sender.0.world.sleep_ns(PATIENCE_NS) => {},
        }
    }

    /// Asks any node for the safe point: it is not below what was written, or read, before.
    async fn read_safe_point(&self, rng: &mut Rng) {
        let known = self.table.lock().expect("no client panics").safe_point;
        let addresses = self.sender.0.cluster.addresses();
        let Ok(channel) = self.sender.0.env.net.channel(rng.pick(&addresses[..]).as_str()) else { return };
        let mut stub = KvClient::new(channel);
        rt_select! {
            answer = stub.range(RangeRequest { key: SAVED_SAFE_POINT.into(), ..RangeRequest::default() }) => {
                let Ok(answer) = answer else { return };
                let pairs = answer.into_inner().kvs;
                let text = pairs.first().map_or("0", |pair| std::str::from_utf8(&pair.value).unwrap_or_default());
                let found = text.parse().unwrap_or(0);
                if found < known {
                    self.fails(format!("the safe point is {text:?}, but was {known} already"));
                }
                let mut table = self.table.lock().expect("no client panics");
                table.safe_point = table.safe_point.max(found);
            },
            () = self.sender.0.world.sleep_ns(PATIENCE_NS) => {},
        }
    }

    /// Holds the safe point at the start of a transaction that is rolled back before it does anything: it is not below
    /// the safe point, so that its requests may still come.
    async fn hold(&self, barrier: &str, rng: &mut Rng) {
        let begun_ns = self.now();
        let Ok(start) = self.pd.tso(1).await else { return };
        let still: Vec<Bytes> = self.keys.iter().filter(|key| key.ends_with(b"~still")).cloned().collect();
        let writes = vec![(rng.pick(&still).clone(), Some(format!("p{start}.0").into()))];
        let drawn = self.draw(begun_ns, start.0, None, rng);
        let entry = Entry { writes, absent: None, locks: None, shared: None, how: How::TwoPhase, ..drawn };
        if self.pd.set_gc_barrier(barrier, start, u64::MAX).await.is_ok() {
            let number = self.with(|table| table.begin(entry));
            self.ask_ending(number, rng).await;
            self.with(|table| table.held.push(number));
        }
    }

    /// Goes on with a transaction at whose start the safe point is held.
    async fn return_to_held(&self, rng: &mut Rng) {
        let held = self.with(|table| table.held.iter().rev().take(HELD).copied().collect::<Vec<_>>());
        if held.is_empty() {
            return;
        }
        let number = *rng.pick(&held);
        for _ in 0..6 {
            self.advance(number, rng).await;
        }
    }

    /// Asks about a transaction of any age, whose records may be gone.
    async fn ask_old(&self, rng: &mut Rng) {
        let count = self.with(|table| table.entries.len()) as u64;
        if count == 0 {
            return;
        }
        let number = rng.below(count) as usize;
        match rng.below(10) {
            8 | 9 if self.collects => drop(self.read_below(rng).await),
            0..=4 => drop(self.ask_ending(number, rng).await),
            5 => drop(self.clean_up(number, rng).await),
            6 => drop(self.ask_secondary(number, rng).await),
            _ => drop(self.prewrite(number, rng).await),
        }
    }

    /// Looks for locks of transactions that began below a point up to which old versions were removed somewhere:
    /// before that, every region had ended its locks below, and none may come later.
    async fn look_for_old_locks(&self) {
        let collected = self.sender.0.monitor.with(|seen| seen.collected);
        let mut from = Bytes::new();
        if collected == 0 {
            return;
        }
        loop {
            let Ok((locks, _, end)) = self.txn.locks_from(&from).await else { return };
            if let Some(lock) = locks.iter().find(|lock| lock.lock_version < collected) {
                let (key, start) = (lock.key.escape_ascii(), lock.lock_version);
                return self.fails(format!(
                    "key {key} is locked by the transaction {start}, although versions up to {collected} were removed"
                ));
            }
            if end.is_empty() {
                return;
            }
            from = end;
        }
    }
}
