//! Ranges of transactional keys that are deleted at once: what was there is gone, also what was locked.
//!
//! Each client has keys of its own, so it knows what they hold. It stops at the first outcome that it does not know.

use armilla::client::{CommitBy, TxnClient, TxnOptions};
use armilla::rt::rng::Rng;
use bytes::Bytes;

use crate::cluster::monitor::Monitor;
use crate::oracle::Violation;
use crate::plan::{Plan, key};

/// How many keys a client has.
const KEYS: u32 = 3;

/// Deletes ranges.
pub struct Ranges {
    client: TxnClient,
    keys: Vec<Bytes>,
    monitor: Monitor,
    /// Whether it knows what its keys hold.
    knows: bool,
}

impl Ranges {
    /// Creates those of the client with this number.
    pub fn new(number: u32, client: TxnClient, plan: &Plan, monitor: &Monitor) -> Ranges {
        let of = |n: u32| key(plan.workload.keys.saturating_mul(n) / KEYS);
        let name = |n: u32| [&of(n)[..], format!("~ranged{number}").as_bytes()].concat().into();
        let mut keys: Vec<Bytes> = (0..KEYS).map(name).collect();
        keys.dedup();
        Ranges { client, keys, monitor: monitor.clone(), knows: true }
    }

    /// Writes all keys, deletes some of them, and reads all.
    pub async fn step(&mut self, rng: &mut Rng, now_ns: impl Fn() -> u64) {
        if self.knows {
            self.knows = self.try_step(rng, now_ns).await.is_some();
        }
    }

    async fn try_step(&self, rng: &mut Rng, now_ns: impl Fn() -> u64) -> Option<()> {
        let options = TxnOptions { commit_by: CommitBy::TwoPhase, ..TxnOptions::default() };
        let value = Bytes::from(vec![b'r'; if rng.chance(0.3) { 300 } else { 20 }]);
        let mut txn = self.client.begin(options.clone()).await.ok()?;
        for key in &self.keys {
            txn.put(key.clone(), value.clone());
        }
        txn.commit().await.ok()?;
        // A deletion takes the primary key's record with it: nothing may still depend on that.
        let txn = self.client.begin(options.clone()).await.ok()?;
        for key in &self.keys {
            txn.get(key).await.ok()?;
        }
        let first = rng.below(self.keys.len() as u64) as usize;
        // Others' keys may lie between: what is deleted ends right behind a key of this client.
        let last = first;
        let end: Bytes = [&self.keys[last][..], b"\0"].concat().into();
        self.client.delete_range(&self.keys[first], &end).await.ok()?;
        let txn = self.client.begin(options).await.ok()?;
        for (at, key) in self.keys.iter().enumerate() {
            let found = txn.get(key).await.ok()?;
            let expected = (at != first).then(|| value.clone());
            if found != expected {
                let what = format!("{} holds {found:?}, not {expected:?}", key.escape_ascii());
                self.monitor.report(Violation::new("transactions", now_ns(), 0, what));
                return None;
            }
        }
        Some(())
    }
}
