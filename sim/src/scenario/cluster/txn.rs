//! Transactions of a run: the clients, and the judgement at its end.

use armilla::client::TxnClient;
use armilla::proto::kvrpcpb::Op;
use armilla::rt::task::JoinHandle;
use bytes::Bytes;

use super::{Run, SECOND, Verdict};
use crate::oracle::{Violation, liveness, txn as oracle};
use crate::workload::client::Client;
use crate::workload::protocol;
use crate::workload::txn::{self, Dump, Outcome, TTL_MS_MAX, TxnWorker};

impl Run {
    /// Starts the clients that run transactions, on machines from `first` on.
    pub(super) fn spawn_transactions(&self, first: u32, end_ns: u64) -> Vec<JoinHandle<()>> {
        if self.plan.workload.txn_ms == 0 {
            return Vec::new();
        }
        let worker = |number: u32| {
            let machine = self.cluster.client_machine(number);
            let client = self.client(number, &machine);
            let worker = TxnWorker::new(
                number,
                client.raw(),
                &self.world,
                &self.plan,
                (&self.ledger.transactions, &self.monitor),
            );
            machine.spawn(worker.run(end_ns))
        };
        (first..first + txn::CLIENTS).map(worker).collect()
    }

    /// Starts the clients that send single transactional requests, all on the machine `number`.
    pub(super) fn spawn_protocol(&self, number: u32, end_ns: u64) -> Vec<JoinHandle<()>> {
        if self.plan.workload.protocol_ms == 0 {
            return Vec::new();
        }
        let machine = self.cluster.client_machine(number);
        let client = self.client(number, &machine);
        let worker = |n: u32| {
            let clients = (client.pd().clone(), txn::over(client.raw()));
            let worker = protocol::Worker::new(n, self.insider(&machine), clients, &self.ledger.protocol);
            machine.spawn(worker.run(end_ns))
        };
        (0..protocol::CLIENTS).map(worker).collect()
    }

    /// Ends the locks that dead clients left, and judges all transactions by what is stored.
    pub(super) async fn transactions(&mut self, admin: &Client) -> Verdict {
        let workload = &self.plan.workload;
        if workload.txn_ms == 0 && workload.protocol_ms == 0 {
            return Ok(());
        }
        let client = txn::over(admin.raw());
        self.end_locks(&client).await?;
        // Older nodes cannot write transactional keys.
        if self.cluster.ids().into_iter().all(|id| self.cluster.with(id, |machine| machine.is_newest())) {
            self.deadlock(admin).await?;
            self.wakes(admin).await?;
            self.circle_on_one_store(admin).await?;
            self.circle_behind_a_new_holder(admin).await?;
            self.keeps_its_locks(admin).await?;
            self.shares_a_key(admin).await?;
            self.end_locks(&client).await?;
        }
        let dump = self.dump(&client, txn::all_keys(&self.plan)).await?;
        let records = self.ledger.transactions.lock().expect("nothing panics while holding it").clone();
        let committed = records.iter().filter(|record| matches!(record.outcome, Outcome::Committed(at) if at.0 != 0));
        self.stats.insert("transactions_committed".into(), committed.count() as u64);
        let removed = self.monitor.with(|observed| observed.removed.clone());
        self.stats.insert("versions_removed".into(), removed.count());
        oracle::check(&records, &dump, &removed, self.now())?;
        let dump = self.dump(&client, protocol::all_keys(&self.plan)).await?;
        // What was removed until now: the collection goes on meanwhile (seed 1796300000101).
        let removed = self.monitor.with(|observed| observed.removed.clone());
        let (counts, records, newest) = {
            let table = self.ledger.protocol.lock().expect("nothing panics while holding it");
            (table.counts(), table.records(), table.check_newest())
        };
        self.stats.insert("protocol_begun".into(), counts.0);
        self.stats.insert("protocol_committed".into(), counts.1);
        let has_record = |start: u64, key: &Bytes| {
            let stored = dump.iter().filter(|(of, _)| of == key).flat_map(|(_, info)| &info.writes);
            let mut stored = stored.filter(|one| one.r#type() != Op::Rollback);
            stored.any(|one| one.start_ts == start) || removed.of(key).any(|one| one.start == start)
        };
        let accepted = self.ledger.protocol.lock().expect("nothing panics while holding it").check_accepted(has_record);
        newest.and(accepted).map_err(|what| Violation::new("transactions", self.now(), 0, what))?;
        oracle::check(&records, &dump, &removed, self.now())
    }
}

impl Run {
    /// Returns everything that is stored of keys.
    async fn dump(&mut self, client: &TxnClient, keys: Vec<Bytes>) -> Result<Dump, Violation> {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let mut dump = Vec::new();
        for key in keys {
            let info = loop {
                match client.versions(&key).await {
                    Ok(info) => break info,
                    Err(error) if self.now() >= until => {
                        let what = format!("the versions of a key cannot be read: {error}");
                        return Err(Violation::new("liveness", self.now(), 0, what));
                    }
                    Err(_) => self.guard(self.now() + SECOND / 5).await?,
                }
            };
            dump.push((key, info));
        }
        Ok(dump)
    }

    /// Ends the locks that dead clients have left.
    async fn end_locks(&mut self, client: &TxnClient) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan) + TTL_MS_MAX * 1_000_000;
        loop {
            let why = match left_over(client).await {
                Ok(None) => return Ok(()),
                Ok(Some(lock)) => lock,
                Err(error) => error,
            };
            if self.now() >= until {
                let what = format!("the locks of dead clients are not ended: {why}{}", self.known_of(&why));
                return Err(Violation::new("liveness", self.now(), 0, what));
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
    }
}

impl Run {
    /// Returns what is known of the transaction whose start timestamp a text contains.
    fn known_of(&self, text: &str) -> String {
        let table = self.ledger.protocol.lock().expect("nothing panics while holding it");
        let known = table.entries.iter().find(|entry| text.contains(&entry.start.to_string()));
        known.map_or_else(String::new, |entry| format!("; {entry:?}"))
    }
}

/// Ends the locks whose transactions are decided or whose clients are dead. Returns the description of a lock, if there
/// was one.
async fn left_over(client: &armilla::client::TxnClient) -> Result<Option<String>, String> {
    let (mut from, mut found) = (Bytes::new(), None);
    loop {
        let (locks, error, end) = client.locks_from(&from).await.map_err(|error| error.to_string())?;
        for lock in error.and_then(|error| error.locked).into_iter().chain(locks) {
            let gone = client.end(&lock).await.map_err(|error| format!("{error}: {lock:?}"))?;
            let state = if gone { "ended" } else { "not ended" };
            found = Some(format!("{state}: {lock:?}"));
        }
        if end.is_empty() {
            return Ok(found);
        }
        from = end;
    }
}
