//! Transactions of a run: the clients, and the judgement at its end.

use std::pin::pin;
use std::time::Duration;

use armilla::client::txn::Why;
use armilla::client::{Failed, RawOptions, TxnClient, TxnOptions};
use armilla::rt::task::JoinHandle;
use bytes::Bytes;
use futures::future::{Either, select};

use super::{Run, SECOND, Verdict};
use crate::oracle::{Violation, liveness, txn as oracle};
use crate::workload::client::Client;
use crate::workload::txn::{self, Outcome, TTL_MS_MAX, TxnWorker};

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

    /// Ends the locks that dead clients left, and judges all transactions by what is stored.
    pub(super) async fn transactions(&mut self, admin: &Client) -> Verdict {
        if self.plan.workload.txn_ms == 0 {
            return Ok(());
        }
        let client = txn::over(admin.raw());
        self.end_locks(&client).await?;
        // Older nodes cannot write transactional keys.
        if self.cluster.ids().into_iter().all(|id| self.cluster.with(id, |machine| machine.is_newest())) {
            self.deadlock(admin).await?;
            self.end_locks(&client).await?;
        }
        let until = self.now() + liveness::bound_ns(&self.plan);
        let mut dump = Vec::new();
        for key in txn::all_keys(&self.plan) {
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
        let records = self.ledger.transactions.lock().expect("nothing panics while holding it").clone();
        let committed = records.iter().filter(|record| matches!(record.outcome, Outcome::Committed(at) if at.0 != 0));
        self.stats.insert("transactions_committed".into(), committed.count() as u64);
        let removed = self.monitor.with(|observed| observed.removed.clone());
        self.stats.insert("versions_removed".into(), removed.count());
        oracle::check(&records, &dump, &removed, self.now())
    }
}

impl Run {
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
                let what = format!("the locks of dead clients are not ended: {why}");
                return Err(Violation::new("liveness", self.now(), 0, what));
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Lets two transactions wait for each other's locks: one of them must be told so, long before its patience ends.
    async fn deadlock(&mut self, admin: &Client) -> Verdict {
        let attempt = Duration::from_secs(3);
        let options = RawOptions { attempt, deadline: attempt * 3, ..admin.raw().options().clone() };
        let client = TxnClient::new(admin.raw().with_options(options));
        let keys = txn::all_keys(&self.plan);
        let (Some(first), Some(last)) = (keys.first(), keys.last().filter(|_| keys.len() > 1)) else { return Ok(()) };
        let patience = Duration::from_secs(600);
        let options = TxnOptions { pessimistic: true, ttl_ms: TTL_MS_MAX, patience, ..TxnOptions::default() };
        let until = self.now() + liveness::bound_ns(&self.plan) + TTL_MS_MAX * 1_000_000;
        loop {
            let (Ok(mut one), Ok(mut other)) =
                (client.begin(options.clone()).await, client.begin(options.clone()).await)
            else {
                self.in_time(until, "no transaction begins")?;
                continue;
            };
            let held = (one.lock(first, false).await, other.lock(last, false).await);
            let mut is_told = false;
            let mut why = format!("{held:?}");
            if let (Ok(_), Ok(_)) = held {
                let limit_ns = until.saturating_sub(self.now());
                // The other one waits on until this one gives its lock up.
                let (here, there) = (pin!(one.lock(last, false)), pin!(other.lock(first, false)));
                let ended = match select(select(here, there), pin!(self.world.sleep_ns(limit_ns))).await {
                    Either::Left((Either::Left((ended, _)) | Either::Right((ended, _)), _)) => ended,
                    Either::Right(_) => {
                        let what = "two transactions that wait for each other are not told";
                        return Err(Violation::new("liveness", self.now(), 0, what));
                    }
                };
                why = format!("{ended:?}");
                is_told = matches!(ended, Err(Failed::Aborted(abort)) if abort.why == Why::Deadlock);
            }
            one.rollback().await;
            other.rollback().await;
            if is_told {
                return Ok(());
            }
            self.in_time(until, &format!("no circle of waiting transactions is found: {why}"))?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    fn in_time(&self, until: u64, what: &str) -> Verdict {
        if self.now() < until { Ok(()) } else { Err(Violation::new("liveness", self.now(), 0, what)) }
    }
}

/// Ends the locks whose transactions are decided or whose clients are dead. Returns the description of a lock, if there
/// was one.
async fn left_over(client: &armilla::client::TxnClient) -> Result<Option<String>, String> {
    let (mut from, mut found) = (Bytes::new(), None);
    loop {
        let (locks, error, end) = client.locks_from(&from).await.map_err(|error| error.to_string())?;
        for lock in error.and_then(|error| error.locked).into_iter().chain(locks) {
            let gone = client.end(&lock).await.map_err(|error| error.to_string())?;
            let state = if gone { "ended" } else { "not ended" };
            found = Some(format!("{state}: {lock:?}"));
        }
        if end.is_empty() {
            return Ok(found);
        }
        from = end;
    }
}
